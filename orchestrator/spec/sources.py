"""Locations by path, read from the marks that the canonical tree carries: nothing is built before somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.source import Location, Path, SourceMap
from orchestrator.spec.positions import Map, Mark, Seq

_LINE = 20
_FILE = 48


class TreeSources(SourceMap):
    """A source map over a canonical tree; `files` are the names that its marks point into."""

    __slots__ = ("_files", "_tree")

    def __init__(self, tree: Map, files: Sequence[str]) -> None:
        super().__init__()
        self._tree = tree
        self._files = tuple(files)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files."""
        return self._files

    def locate(self, path: Path) -> Location | None:
        """Return where the value at `path` was written, or its closest enclosing value that was written at all.

        For a mapping or a list this is the place of its key.
        """
        if self._at:
            own = super().locate(path)
            if own is not None:
                return own
        best = 0
        value: Any = self._tree
        for part in path:
            if type(value) is Map and part in value:
                key_mark, value_mark = value.marks.get(str(part), (0, 0))
                value = value[str(part)]
                best = (key_mark if isinstance(value, Map | Seq) else value_mark) or best
            elif type(value) is Seq and isinstance(part, int) and 0 <= part < len(value):
                best = value.marks[part] or best
                value = value[part]
            else:
                break
        return self._unpack(best)

    def locate_key(self, path: Path) -> Location | None:
        """Return where the key of the mapping entry at `path` was written."""
        value: Any = self._tree
        for part in path[:-1]:
            value = value[part]
        return self._unpack(value.marks[str(path[-1])][0]) if type(value) is Map else self.locate(path)

    def _unpack(self, mark: Mark) -> Location | None:
        if not mark:
            return None
        return Location(
            self._files[mark >> _FILE], mark >> _LINE & ((1 << _FILE - _LINE) - 1), mark & ((1 << _LINE) - 1)
        )

    def items(self) -> Iterator[tuple[Path, Location]]:
        """Yield every path that was written, with its location."""
        yield from _walk(self._tree, (), self)

    def __len__(self) -> int:
        return sum(1 for _ in self.items())


def _walk(value: Any, path: Path, sources: TreeSources) -> Iterator[tuple[Path, Location]]:
    entries: Any = value.items() if isinstance(value, Map) else enumerate(value) if isinstance(value, Seq) else ()
    for key, item in entries:
        here = (*path, key)
        found = sources.locate(here)
        if found is not None:
            yield here, found
        yield from _walk(item, here, sources)


def dump_marks(tree: Any) -> list[Any]:
    """Pack the marks of a tree into nested lists that JSON can carry; :func:`load_marks` is the inverse.

    What was put into the tree later and has no marks is written by nobody.
    """
    if isinstance(tree, dict):
        marks = tree.marks if type(tree) is Map else {}
        return [[*marks.get(key, (0, 0)), dump_marks(item)] for key, item in tree.items()]
    if isinstance(tree, list):
        places = tree.marks if type(tree) is Seq else [0] * len(tree)
        return [[mark, dump_marks(item)] for mark, item in zip(places, tree, strict=True)]
    return []


def load_marks(value: Any, marks: list[Any]) -> Any:
    """Rebuild a positioned tree from plain data in the order in which it was dumped."""
    if isinstance(value, dict):
        result = Map()
        for (key, item), (key_mark, value_mark, below) in zip(value.items(), marks, strict=True):
            result.put(key, load_marks(item, below), (key_mark, value_mark))
        return result
    if isinstance(value, list):
        items = Seq()
        for item, (mark, below) in zip(value, marks, strict=True):
            items.add(load_marks(item, below), mark)
        return items
    return value
