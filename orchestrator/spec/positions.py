"""Plain data that remembers where it was written, and the collector of diagnostics.

:class:`Map` and :class:`Seq` are an ordinary ``dict`` and ``list`` with one *mark* beside every item, so each pass can
treat a tree as plain data and positions still travel through anchors, merges, includes and extends. A mark is one
integer (file, line, column); zero means "written by nobody" (a default).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.errors import Diagnostic, FileMissing, ModelError, Severity
from orchestrator.source import Location, Path, render_path

Mark = int

_LINE = 20
_FILE = 48
_COLUMN_MASK = (1 << _LINE) - 1
_LINE_MASK = (1 << (_FILE - _LINE)) - 1


MAX_ERRORS = 200
MAX_VALUES = 200_000


class Map(dict[str, Any]):
    """A mapping; ``marks[key]`` holds the marks of the key and of its value."""

    __slots__ = ("marks",)

    def __init__(self) -> None:
        self.marks: dict[str, tuple[Mark, Mark]] = {}

    def put(self, key: str, value: Any, marks: tuple[Mark, Mark]) -> None:
        """Set `key` and remember where it was written."""
        self[key] = value
        self.marks[key] = marks


class Seq(list[Any]):
    """A sequence; ``marks[index]`` is the mark of the item."""

    __slots__ = ("marks",)

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    def add(self, value: Any, mark: Mark) -> None:
        """Append `value` and remember where it was written."""
        self.append(value)
        self.marks.append(mark)


def pack_mark(file: int, line: int, column: int) -> Mark:
    """Pack a position (file index, line and column counted from 1) into one integer."""
    return file << _FILE | line << _LINE | min(column, _COLUMN_MASK)


class Problems:
    """Collects diagnostics over all passes, and the names of the files that marks point into.

    `keep_templates` lets texts with variables stand where another type is expected (interpolation is off).
    """

    def __init__(self) -> None:
        self.files: list[str] = []
        self.found: list[Diagnostic] = []
        self._broken: set[Path] = set()
        self._errors = 0
        self.keep_templates = False
        self._left = MAX_VALUES
        self._seen: set[tuple[str, str, Location | None]] = set()

    def register_file(self, name: str) -> int:
        """Return the index under which marks refer to the file `name`."""
        self.files.append(name)
        return len(self.files) - 1

    def locate(self, mark: Mark) -> Location | None:
        """Turn a mark into a location; None for the mark of a default."""
        if not mark:
            return None
        return Location(self.files[mark >> _FILE], mark >> _LINE & _LINE_MASK, mark & _COLUMN_MASK)

    def report(
        self, code: str, message: str, mark: Mark = 0, path: Path = (), hint: str = "", severity: Severity = "error"
    ) -> None:
        """Add a diagnostic; an error also marks `path` as broken, so that later passes stay quiet about it.

        Raises all that was found when there are MAX_ERRORS errors: nobody reads more.
        """
        found = Diagnostic(code, message, self.locate(mark), render_path(path), hint, severity)
        # One mistake behind an anchor is one mistake, however often the anchor is used.
        seen = (code, message, found.location) if mark else (code, message + found.path, None)
        if seen not in self._seen:
            self._seen.add(seen)
            self.found.append(found)
        if severity == "error":
            self.mark_broken(path)
            self._errors += 1
            if self._errors == MAX_ERRORS:
                self.raise_errors()

    def spend(self, count: int, mark: Mark, path: Path = ()) -> None:
        """Count values that the stack grows by; raises all that was found when they are more than MAX_VALUES.

        Each file is bounded by itself; what includes, extends, env files and ranges multiply is bounded by this.
        """
        self._left -= count
        if self._left < 0:
            self.report(
                "too-many-values",
                f"the stack holds more than {MAX_VALUES:,} values with all that it includes, extends and repeats",
                mark,
                path,
                "split the stack",
            )
            self.raise_errors()

    def mark_broken(self, path: Path) -> None:
        """Keep later passes quiet about `path`, as if an error had been reported there."""
        while path not in self._broken:
            self._broken.add(path)
            path = path[:-1]

    def warn(self, code: str, message: str, mark: Mark = 0, path: Path = (), hint: str = "") -> None:
        """Add a warning."""
        self.report(code, message, mark, path, hint, "warning")

    def is_broken(self, path: Path) -> bool:
        """Tell whether an error was reported at `path` or below it."""
        return path in self._broken

    @property
    def has_errors(self) -> bool:
        """Tell whether an error was reported."""
        return self._errors > 0

    def add_faults(self, faults: Iterable[tuple[Path, Diagnostic]]) -> None:
        """Add what would come up next, once the errors that were found are gone."""
        self.found.extend(one for path, one in faults if not self.is_broken(path))

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The warnings found so far, sorted by place."""
        return tuple(sorted((one for one in self.found if one.severity == "warning"), key=self._place))

    def raise_errors(self) -> None:
        """Raise every diagnostic at once if there is an error among them, errors and warnings sorted by place.

        FileMissing when all that is wrong is a file that is not there, ModelError otherwise.
        """
        errors = [one for one in self.found if one.severity == "error"]
        if not errors:
            return
        ordered = sorted(self.found, key=self._place)
        if all(one.code == FileMissing.code for one in errors):
            raise FileMissing(errors[0].message, hint=errors[0].hint, diagnostics=ordered)
        raise ModelError(ordered)

    def _place(self, one: Diagnostic) -> tuple[int, int, int, str]:
        if one.location is None:
            return (-1, 0, 0, one.path)
        return (self.files.index(one.location.file), one.location.line, one.location.column, one.path)
