"""Diagnostics and the tree of errors that a user can meet. Imports nothing of ours at run time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from orchestrator.source import Location

Severity = Literal["error", "warning"]


class Diagnostic(NamedTuple):
    """One thing to tell the user about what they wrote or about their machine.

    `code` is kebab-case and stable; `path` is the rendered attribute path (``services.web.ports[0]``); `hint` says the
    way out.
    """

    code: str
    message: str
    location: Location | None = None
    path: str = ""
    hint: str = ""
    severity: Severity = "error"

    def render(self) -> str:
        """Render as ``file:line:col: error[code]: message`` followed by indented path and hint lines."""
        place = f"{self.location}: " if self.location else ""
        lines = [f"{place}{self.severity}[{self.code}]: {self.message}"]
        if self.path:
            lines.append(f"  {self.path}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class StackError(Exception):
    """The root of every error that ends in one clear message. Never shown with a traceback."""

    code = "error"

    def __init__(self, message: str, *, hint: str = "", diagnostics: Sequence[Diagnostic] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.diagnostics = tuple(diagnostics)

    def render(self) -> str:
        """Render the diagnostics if there are any, otherwise the message with its hint."""
        if self.diagnostics:
            return "\n".join(one.render() for one in self.diagnostics)
        return Diagnostic(self.code, self.message, hint=self.hint).render()


class ModelError(StackError):
    """The stack file says something that cannot be meant. Carries every diagnostic of the load, sorted by place."""

    code = "invalid-stack-file"

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        found = tuple(diagnostics)
        super().__init__(found[0].message if found else "invalid stack file", diagnostics=found)


class CannotRun(ModelError):
    """The stack file can be read, and what it says cannot be run."""


class FileMissing(StackError):
    """A stack file, or a file that it names, is not there."""

    code = "file-not-found"


class UsageError(StackError):
    """The command line asks for something that does not exist or does not fit together."""

    code = "usage"


class Interrupted(StackError):
    """The user pressed Ctrl-C; what was running has been dealt with."""

    code = "interrupted"


class OperationFailed(StackError):
    """A plan ended with failed operations; each has been reported as an event already."""

    code = "operation-failed"


class ContainerFailed(StackError):
    """A container exited and its exit code is to become the command's own (``exec``, ``run``, ``--exit-code-from``)."""

    code = "container-failed"

    def __init__(self, message: str, *, exit_code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class EngineError(StackError):
    """An engine could not do one operation on one resource."""

    code = "engine-error"

    def __init__(self, message: str, *, resource: str = "", operation: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.resource = resource
        self.operation = operation


class NotFound(EngineError):
    """The resource does not exist."""

    code = "not-found"


class Conflict(EngineError):
    """The resource is in use, exists already, or is held by somebody else."""

    code = "conflict"


class Unsupported(EngineError):
    """The engine cannot do this at all."""

    code = "unsupported"


class Unavailable(EngineError):
    """The engine, or something that it stands on, cannot be reached or is not installed."""

    code = "unavailable"
