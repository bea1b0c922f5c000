"""Where a value was written: file, line and column for every path of a stack file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

Path = tuple[str | int, ...]
"""The way to a value: mapping keys and list indexes, as in ``("services", "web", "ports", 0)``."""


class Location(NamedTuple):
    """A position in a text, both counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


def render_path(path: Path) -> str:
    """Render ``("services", "web", "ports", 0)`` as ``services.web.ports[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def parse_path(text: str) -> Path:
    """The reverse of :func:`render_path`, for names without dots and brackets."""
    parts: list[str | int] = []
    for word in text.split("."):
        name, *indexes = word.split("[")
        parts.append(name)
        parts += [int(one.rstrip("]")) for one in indexes if one.rstrip("]").isdigit()]
    return tuple(parts)


class SourceMap:
    """Locations by path; a path without one of its own answers with its nearest ancestor's."""

    __slots__ = ("_at",)

    def __init__(self, at: Mapping[Path, Location] | None = None) -> None:
        self._at: dict[Path, Location] = dict(at or {})

    def locate(self, path: Path) -> Location | None:
        """Return the location of `path`, or of the closest enclosing path that has one."""
        for end in range(len(path), -1, -1):
            found = self._at.get(path[:end])
            if found is not None:
                return found
        return None

    def record(self, path: Path, location: Location) -> None:
        """Remember where the winning value of `path` was written."""
        self._at[path] = location

    def items(self) -> Iterator[tuple[Path, Location]]:
        """Yield every recorded path with its location."""
        return iter(self._at.items())

    def __len__(self) -> int:
        return len(self._at)
