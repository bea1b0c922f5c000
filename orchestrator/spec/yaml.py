"""YAML text to positioned trees: YAML 1.2 scalars, duplicate keys refused, merge keys, ``!reset`` and ``!override``.

Reads libyaml's event stream through PyYAML's C extension. Positions of values that come through an alias or a merge key
are those of the anchor: where the value was written. Depth and the number of nodes (aliases expanded) are bounded, so
no text can exhaust time or memory.
"""

from __future__ import annotations

from typing import Any

from orchestrator.source import Path
from orchestrator.spec.libyaml import load_parser
from orchestrator.spec.positions import Map, Mark, Problems, Seq, pack_mark
from orchestrator.spec.scalars import Timestamp, parse_integer, render_scalar, resolve_scalar

MAX_BYTES = 8 * 1024 * 1024
MAX_LINE = 1024 * 1024
MAX_NODES = 100_000
MAX_DEPTH = 64

_STANDARD = "tag:yaml.org,2002:"


class Reset:
    """Stands where ``!reset`` was written: the value disappears from the result of the merge."""


class Override:
    """Stands where ``!override`` was written: `value` replaces, instead of merging with, the earlier value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


RESET = Reset()


class _Refused(Exception):
    """Parsing cannot go on; the reason has been reported."""


def parse_documents(text: str, file: int, problems: Problems) -> list[tuple[Any, Mark]]:
    """Parse every document of `text`; `file` is the index that :meth:`Problems.register_file` returned.

    Whatever is wrong is reported into `problems`; documents up to the first syntax error are returned.
    """
    if len(text) > MAX_BYTES:
        problems.report("file-too-large", f"the file is larger than {MAX_BYTES >> 20} MiB", pack_mark(file, 1, 1))
        return []
    if len(text) > MAX_LINE and any(len(line) > MAX_LINE for line in text.splitlines()):
        problems.report("line-too-long", f"a line is longer than {MAX_LINE >> 20} MiB", pack_mark(file, 1, 1))
        return []
    parser, events, syntax_error = load_parser()
    documents: list[tuple[Any, Mark]] = []
    try:
        _Reader(parser(text), file, problems, events).read_into(documents)
    except _Refused:
        pass
    except syntax_error as error:
        from orchestrator.spec.syntax_errors import report_syntax

        report_syntax(error, text, file, problems)
    return documents


class _Reader:
    def __init__(self, parser: Any, file: int, problems: Problems, events: Any) -> None:
        self._next = parser.get_event
        self._base = pack_mark(file, 0, 0)
        self._problems = problems
        self._scalar = events.ScalarEvent
        self._alias = events.AliasEvent
        self._sequence_start = events.SequenceStartEvent
        self._sequence_end = events.SequenceEndEvent
        self._mapping_end = events.MappingEndEvent
        self._document_start = events.DocumentStartEvent
        self._document_end = events.DocumentEndEvent
        self._anchors: dict[str, tuple[Any, Mark, int]] = {}
        self._open: set[str] = set()
        self._count = 0
        self.path: list[str | int] = []

    def read_into(self, documents: list[tuple[Any, Mark]]) -> None:
        while True:
            event = self._next()
            if event is None:
                return
            if event.__class__ is not self._document_start:
                continue
            self._anchors.clear()
            event = self._next()
            value = self._node(event, 0)
            documents.append((value, self._place(event.start_mark)))
            self._next()

    def _place(self, mark: Any) -> Mark:
        line, column = mark.line, mark.column
        if line >= 1 << 27 or column >= 1 << 20:
            return self._base
        place: Mark = self._base + (line + 1 << 20) + column + 1
        return place

    def _refuse(self, code: str, message: str, mark: Mark, hint: str = "") -> _Refused:
        self._problems.report(code, message, mark, tuple(self.path), hint)
        return _Refused()

    def _node(self, event: Any, depth: int) -> Any:
        """Build the value that begins with `event`; callers take its position from the event."""
        kind = event.__class__
        self._count += 1
        if self._count > MAX_NODES:
            raise self._refuse(
                "too-many-values",
                f"the file holds more than {MAX_NODES:,} values once aliases are expanded",
                self._place(event.start_mark),
                "nested aliases multiply; write the values out or split the file",
            )
        if kind is self._scalar:
            value = self._scalar_value(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = (value, self._place(event.start_mark), 1)
            return value
        if kind is self._alias:
            return self._resolve_alias(event)[0]
        return self._collection(event, depth)

    def _collection(self, event: Any, depth: int) -> Any:
        if depth >= MAX_DEPTH:
            raise self._refuse(
                "nested-too-deep", f"values are nested more than {MAX_DEPTH} deep", self._place(event.start_mark)
            )
        anchor, tag = event.anchor, event.tag
        before = self._count
        if anchor is not None:
            self._open.add(anchor)
        value: Any = self._items(depth) if event.__class__ is self._sequence_start else self._entries(depth)
        if tag is not None:
            value = _apply_tag(tag, value)
        if anchor is not None:
            self._open.discard(anchor)
            self._anchors[anchor] = (value, self._place(event.start_mark), self._count - before + 1)
        return value

    def _items(self, depth: int) -> Seq:
        items = Seq()
        values, marks, path = items, items.marks, self.path
        while True:
            event = self._next()
            if event.__class__ is self._sequence_end:
                return items
            path.append(len(values))
            value = self._node(event, depth + 1)
            values.append(value)
            marks.append(self._place(event.start_mark) if event.__class__ is not self._alias else self._written(event))
            path.pop()

    def _entries(self, depth: int) -> Map:
        entries = Map()
        marks, path = entries.marks, self.path
        merges: list[tuple[Any, Mark]] = []
        while True:
            event = self._next()
            if event.__class__ is self._mapping_end:
                break
            key, key_mark, merge = self._key(event)
            path.append(key)
            event = self._next()
            value = self._node(event, depth + 1)
            if merge:
                if merges:
                    self._duplicate(key, key_mark, merges[0][1])
                merges.append((value, key_mark))
            elif key in entries:
                self._duplicate(key, key_mark, marks[key][0])
            else:
                entries[key] = value
                place = self._place(event.start_mark) if event.__class__ is not self._alias else self._written(event)
                marks[key] = (key_mark, place)
            path.pop()
        if merges:
            self._merge(entries, *merges[0])
        return entries

    def _written(self, event: Any) -> Mark:
        return self._anchors[event.anchor][1]

    def _duplicate(self, key: str, mark: Mark, first: Mark) -> None:
        place = self._problems.locate(first)
        self._problems.report(
            "duplicate-key",
            f"the key {key!r} is written twice; the first is at {place}",
            mark,
            tuple(self.path),
            "remove one of them, or merge their values",
        )

    def _key(self, event: Any) -> tuple[str, Mark, bool]:
        mark = self._place(event.start_mark)
        if event.__class__ is self._alias:
            value, _, _ = self._resolve_alias(event)
        elif event.__class__ is self._scalar:
            text: str = event.value
            if event.anchor is not None:
                self._anchors[event.anchor] = (text, mark, 1)
            if event.style or not event.implicit[0] or not text or text[0].isalpha():
                value = resolve_scalar(text) if not event.style and event.implicit[0] else text
            else:
                if text == "<<":
                    return text, mark, True
                value = resolve_scalar(text)
        else:
            raise self._refuse("non-string-key", "a key must be a string, not a collection", mark)
        if type(value) is not str:
            shown = value.written if isinstance(value, Timestamp) else render_scalar(value) or "null"
            self._problems.report(
                "non-string-key", f"the key {shown} is not a string", mark, tuple(self.path), f'quote it: "{shown}"'
            )
            value = shown
        return value, mark, False

    def _resolve_alias(self, event: Any) -> tuple[Any, Mark, int]:
        name = event.anchor
        mark = self._place(event.start_mark)
        if name in self._open:
            raise self._refuse("recursive-alias", f"the alias *{name} stands inside its own anchor", mark)
        if name not in self._anchors:
            raise self._refuse(
                "undefined-alias", f"no anchor &{name} is defined before this alias", mark, "define the anchor first"
            )
        found = self._anchors[name]
        self._count += found[2]
        return found

    def _merge(self, entries: Map, value: Any, mark: Mark) -> None:
        sources = value if type(value) is Seq else [value]
        for source in sources:
            if type(source) is not Map:
                self._problems.report(
                    "bad-merge-key", "a merge key (<<) takes a mapping or a list of mappings", mark, tuple(self.path)
                )
                return
            self._count += len(source)
            for key, item in source.items():
                if key not in entries:
                    entries[key] = item
                    entries.marks[key] = source.marks[key]

    def _scalar_value(self, event: Any) -> Any:
        tag = event.tag
        if tag is None:
            return resolve_scalar(event.value) if not event.style else event.value
        if tag == "!reset":
            return RESET
        if tag == "!override":
            return Override(resolve_scalar(event.value) if not event.style else event.value)
        if not tag.startswith(_STANDARD):
            return event.value
        return self._convert(tag[len(_STANDARD) :], event)

    def _convert(self, tag: str, event: Any) -> Any:
        text: str = event.value
        if tag == "null":
            return None
        value: Any = text
        if tag == "bool":
            value = resolve_scalar(text) if text else None
        elif tag == "int":
            value = parse_integer(text.replace("_", ""))
        elif tag == "float":
            value = resolve_scalar(text) if text else None
            value = float(value) if isinstance(value, int | float) else None
        if value is None or (tag == "bool" and not isinstance(value, bool)):
            self._problems.report(
                "bad-tag", f"{text!r} is not of the type !!{tag}", self._place(event.start_mark), tuple(self.path)
            )
            return None
        return value


def _apply_tag(tag: str, value: Any) -> Any:
    if tag == "!reset":
        return RESET
    if tag == "!override":
        return Override(value)
    return value


def has_merge_tags(text: str) -> bool:
    """Tell cheaply whether a text can hold ``!reset`` or ``!override``."""
    return "!reset" in text or "!override" in text


def extract_merge_tags(value: Any, path: Path = ()) -> tuple[Any, list[Path]]:
    """Take ``!reset`` and ``!override`` out of a tree.

    Returns the tree without them, and the paths that have to disappear from what the tree is merged into.
    """
    cleared: list[Path] = []
    return _strip(value, path, cleared), cleared


def _strip(value: Any, path: Path, cleared: list[Path]) -> Any:
    if type(value) is Override:
        cleared.append(path)
        return _strip(value.value, path, cleared)
    if type(value) is Map:
        result = Map()
        for key, item in value.items():
            if item is RESET:
                cleared.append((*path, key))
            else:
                result.put(key, _strip(item, (*path, key), cleared), value.marks[key])
        return result
    if type(value) is Seq:
        items = Seq()
        for index, item in enumerate(value):
            if item is not RESET:
                items.add(_strip(item, (*path, index), cleared), value.marks[index])
        return items
    return None if value is RESET else value
