"""Plain tables as `docker` prints them: columns at least ten wide, three spaces between them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_GAP = 3
_NARROWEST = 10


def render_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table with its header; every line ends in a newline, the last column is not padded."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(_NARROWEST, max(len(line[at]) for line in lines) + _GAP) for at in range(len(header) - 1)]
    text = ""
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        text += "".join([*cells, line[-1]]).rstrip() + "\n"
    return text


def render_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table whose columns are only as wide as they have to be, as ``top`` prints it."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) + _GAP for at in range(len(header))]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip() + "\n" for line in lines
    )


def render_listing(form: str | None, header: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as ``--format`` asks: JSON (one object a line), a table of the columns of `header`, or a Go template."""
    if form == "json":
        import json

        return "".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n" for row in rows)
    if form in (None, "table"):
        return render_table(list(header.values()), [[row[name] for name in header] for row in rows])
    from orchestrator.cli.template import render_rows

    return render_rows(form, header, rows)
