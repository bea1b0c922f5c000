"""The basics of Go templates, as ``--format`` takes them: fields, ``json``, ``upper``, ``lower``, ``table``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.cli.table import render_table
from orchestrator.errors import UsageError

_ESCAPES = (("\\t", "\t"), ("\\n", "\n"))


def render_rows(form: str, header: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Render each row by a template (``{{.Name}}``); ``table TEMPLATE`` puts a header on top and aligns at tabs.

    `header` maps field names to column titles. Raises UsageError for a field or a function that does not exist.
    """
    as_table = form == "table" or form.startswith("table ")
    if as_table:
        form = form[len("table ") :]
    for written, meant in _ESCAPES:
        form = form.replace(written, meant)
    parts = _parse(form)
    lines = [_render(parts, row) for row in rows]
    if not as_table:
        return "".join(f"{line}\n" for line in lines)
    titles = "".join(part if isinstance(part, str) else header.get(part[0], part[0].upper()) for part in parts)
    return render_table(titles.split("\t"), [line.split("\t") for line in lines])


def _render(parts: Sequence[str | tuple[str, Callable[[Any], str]]], row: Mapping[str, Any]) -> str:
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        name, show = part
        if name and name not in row:
            raise UsageError(f"--format: there is no field .{name}", hint=f"there are {', '.join(row)}")
        text += show(row[name] if name else row)
    return text


def _parse(form: str) -> list[str | tuple[str, Callable[[Any], str]]]:
    parts: list[str | tuple[str, Callable[[Any], str]]] = []
    while form:
        before, opened, rest = form.partition("{{")
        if before:
            parts.append(before)
        if not opened:
            break
        inside, closed, form = rest.partition("}}")
        if not closed:
            raise UsageError("--format: {{ is not closed")
        parts.append(_parse_action(inside.strip(" -")))
    return parts


def _parse_action(action: str) -> tuple[str, Callable[[Any], str]]:
    words = action.replace("|", " | ").split()
    if len(words) == 3 and words[1] == "|":
        words = [words[2], words[0]]
    show = _FUNCTIONS.get(words[0]) if len(words) == 2 else _text if len(words) == 1 else None
    if show is None or not words[-1].startswith("."):
        raise UsageError(
            f"--format: cannot read {{{{{action}}}}}",
            hint="fields ({{.Name}}) and the functions json, upper and lower are understood",
        )
    if words[-1] == "." and show is _text:
        show = _json
    return words[-1][1:], show


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    import json

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


_FUNCTIONS: dict[str, Callable[[Any], str]] = {
    "json": _json,
    "upper": lambda value: _text(value).upper(),
    "lower": lambda value: _text(value).lower(),
    "println": lambda value: _text(value) + "\n",
}
