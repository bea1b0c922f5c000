"""Plain tables as `docker` prints them: columns at least ten wide, three spaces between them."""

from __future__ import annotations

from collections.abc import Sequence

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
