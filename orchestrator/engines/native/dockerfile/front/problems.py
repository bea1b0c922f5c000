"""Faults of a Dockerfile: collected, so that one run tells all of them, each with its place and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.errors import Diagnostic, StackError

if TYPE_CHECKING:
    from orchestrator.source import Location


class DockerfileInvalid(StackError):
    """The Dockerfile says something that cannot be meant. Carries every diagnostic found, sorted by place."""

    code = "invalid-dockerfile"

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        found = tuple(sorted(diagnostics, key=_place))
        first = found[0] if found else Diagnostic(self.code, "invalid Dockerfile")
        super().__init__(first.message, hint=first.hint, diagnostics=found)


class Problem(ValueError):
    """One fault, on its way to whoever knows the file: `offset` is in the text that was looked at.

    `place` is set where that text has a place of its own (the body of a heredoc).
    """

    place: Location | None = None

    def __init__(self, message: str, *, offset: int | None = None, code: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.code = code
        self.hint = hint

    def at(self, offset: int | None) -> Problem:
        """The same fault, at `offset` unless it has a place already."""
        if self.offset is None:
            self.offset = offset
        return self

    def name(self, keyword: str) -> Problem:
        """The same fault; its message says which instruction it is about."""
        if keyword not in self.message:
            self.message = f"{keyword}: {self.message}"
        return self

    def locate(self, location: Location, code: str = "") -> Diagnostic:
        """The diagnostic for it; `code` where it has none of its own."""
        return Diagnostic(self.code or code, self.message, self.place or location, hint=self.hint)


def suggest_name(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """The hint for a misspelled name: ``did you mean RUN?``, or `otherwise`."""
    from difflib import get_close_matches

    folded = {one.casefold(): one for one in known if one}
    near = get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f"did you mean {folded[near[0]]}?" if near else otherwise


def _place(one: Diagnostic) -> tuple[str, int, int]:
    return one.location or ("", 0, 0)
