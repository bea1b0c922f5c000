"""What can go wrong in a build: one message with the place in the Dockerfile and, where there is one, the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import Diagnostic, EngineError

if TYPE_CHECKING:
    from orchestrator.source import Location


class BuildError(EngineError):
    """A build cannot go on. `location` is the instruction in the Dockerfile; None when it is about none of them."""

    code = "build-failed"

    def __init__(
        self, message: str, *, location: Location | None = None, hint: str = "", resource: str = "", code: str = ""
    ) -> None:
        super().__init__(message, resource=resource, operation="build", hint=hint)
        if code:
            self.code = code
        self.location = location
        self.excerpt: tuple[str, ...] = ()
        """The lines of the Dockerfile around the instruction, for the screen."""
        if location is not None:
            self.diagnostics = (Diagnostic(self.code, message, location, hint=hint),)


class ContextError(BuildError):
    """A build context cannot be opened: a missing folder, a repository that does not answer, no Dockerfile in it."""

    code = "build-context"


class CopyError(BuildError):
    """COPY or ADD cannot be performed as it is written."""

    code = "copy-failed"
