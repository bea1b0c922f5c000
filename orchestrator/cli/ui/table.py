"""The list of services and replicas: columns as there is room for, one line chosen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, NamedTuple

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from orchestrator.actions.console.rows import Row, describe_short_ports, describe_state, sum_usage
from orchestrator.cli.quantities import render_binary_size

MARKS: Final = {"good": "●", "busy": "◐", "warn": "‖", "bad": "▲", "off": "○"}
"""Different shapes, for those who see no colours."""


class _Column(NamedTuple):
    title: str
    width: int
    right: bool
    room: int
    """How wide the list has to be for it; narrower lists are without it."""


_COLUMNS: Final = (
    _Column("STATE", 15, False, 0),
    _Column("CPU", 7, True, 40),
    _Column("MEM", 9, True, 50),
    _Column("UP", 4, True, 58),
    _Column("RST", 3, True, 66),
)
_PORTS_ROOM: Final = 74
_LONGEST_NAME: Final = 28


class ServiceTable(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows with a cursor. Posts :class:`Chosen` when the cursor is on another row."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--header",
        "table--cursor",
        *(f"table--{tone}" for tone in MARKS),
    }

    class Chosen(Message):
        """The cursor is on another row, or its row has changed its containers."""

    class Fitted(Message):
        """There is room for other columns."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.rows: tuple[Row, ...] = ()
        self._cursor = 0
        self._usage: Mapping[str, tuple[float, int]] = {}

    @property
    def chosen(self) -> Row | None:
        """The row under the cursor."""
        return self.rows[self._cursor] if self.rows else None

    @property
    def shows_usage(self) -> bool:
        """True if there is room for what containers use."""
        return self.display and self.size.width >= _COLUMNS[1].room

    def show_rows(self, rows: tuple[Row, ...]) -> None:
        """Show these; the cursor stays on its row, or where that was."""
        before = self.chosen
        keys, count = [one.key for one in rows], len(self.rows)
        self.rows = rows
        if before is not None and before.key in keys:
            self._cursor = keys.index(before.key)
        elif before is not None:
            # A replica that was replaced, or the last but one that went, leaves its service.
            near = [at for at, one in enumerate(rows) if one.service == before.service]
            self._cursor = near[0] if near else min(self._cursor, max(0, len(rows) - 1))
        self.virtual_size = Size(1, len(rows) + 1)
        if len(rows) != count:
            self.styles.height = max(3, len(rows) + 1)
        self._reveal()
        self.refresh()
        if self.chosen != before:
            self.post_message(self.Chosen())

    def show_usage(self, usage: Mapping[str, tuple[float, int]]) -> None:
        """Show what containers use: (per cent of a processor, bytes of memory) by container id."""
        self._usage = usage
        self.refresh()

    def move(self, step: int) -> None:
        """Move the cursor."""
        self._choose(self._cursor + step)

    def _choose(self, at: int) -> None:
        at = min(max(0, at), len(self.rows) - 1)
        if self.rows and at != self._cursor:
            self._cursor = at
            self._reveal()
            self.refresh()
            self.post_message(self.Chosen())

    def _reveal(self) -> None:
        visible = self.size.height - 1
        top = self.scroll_offset.y
        if visible <= 0:
            return
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, force=True)
        elif self._cursor >= top + visible:
            self.scroll_to(y=self._cursor - visible + 1, animate=False, force=True)

    def on_resize(self, _event: events.Resize) -> None:
        """Keep the cursor in sight."""
        self.virtual_size = Size(1, len(self.rows) + 1)
        self._reveal()
        self.post_message(self.Fitted())

    def on_click(self, event: events.Click) -> None:
        """Choose the row that was clicked."""
        if event.y > 0:
            self._choose(event.y - 1 + self.scroll_offset.y)

    def render_line(self, y: int) -> Strip:
        """The header on top, the rows below it."""
        width = self.scrollable_content_region.width
        columns, name, ports = self._fit(width)
        if y == 0:
            style = self.get_component_rich_style("table--header", partial=True)
            cells = [("", 2, False, None), ("SERVICE", name - 2, False, None)]
            cells += [(one.title, one.width, one.right, None) for one in columns]
            cells += [("PORTS", ports, False, None)] if ports else []
            return self._join(cells, style, width)
        at = y - 1 + self.scroll_offset.y
        if at >= len(self.rows):
            hint = "  nothing here: no service, no container" if not self.rows and y == 1 else ""
            return self._join([(hint, width, False, None)], Style(), width)
        chosen = at == self._cursor
        style = self.get_component_rich_style("table--cursor", partial=True) if chosen else Style()
        return self._join(self._cells(self.rows[at], columns, name, ports, plain=chosen), style, width)

    def _fit(self, width: int) -> tuple[list[_Column], int, int]:
        """The columns that there is room for, the width of the names, that of the ports (0: none)."""
        columns = [one for one in _COLUMNS if width >= one.room]
        name = max((len(render_label(one)) for one in self.rows), default=8) + 2
        rest = width - sum(one.width + 2 for one in columns) - 1
        name = max(min(name, _LONGEST_NAME, rest), min(10, max(width - 4, 1)))
        ports = rest - name - 2
        return columns, name, ports if ports >= 8 and width >= _PORTS_ROOM else 0

    def _cells(
        self, row: Row, columns: Sequence[_Column], name: int, ports: int, *, plain: bool
    ) -> list[tuple[str, int, bool, Style | None]]:
        state, tone = describe_state(row)
        shade = None if plain else self.get_component_rich_style(f"table--{tone}", partial=True)
        faint = shade if tone == "off" else None
        used = sum_usage(row, self._usage)
        since = row.started_at
        values = {
            "STATE": state,
            "CPU": f"{used[0]:.1f}%" if used else "",
            "MEM": render_binary_size(used[1]) if used else "",
            "UP": render_age(time.time() - since) if since else "",
            "RST": str(row.restarts) if row.restarts else "",
        }
        return [
            (MARKS[tone], 2, False, shade),
            (render_label(row), name - 2, False, faint),
            *((values[one.title], one.width, one.right, shade if one.title == "STATE" else None) for one in columns),
            *([(describe_short_ports(row.containers), ports, False, faint)] if ports else []),
        ]

    def _join(self, cells: Sequence[tuple[str, int, bool, Style | None]], style: Style, width: int) -> Strip:
        segments = [Segment(" ", style)]
        for place, (text, room, right, shade) in enumerate(cells):
            room = max(room, 0)
            if len(text) > room:
                text = f"{text[: max(room - 1, 0)]}…" if room else ""
            text = text.rjust(room) if right else set_cell_size(text, room)
            gap = "" if place == 0 or place == len(cells) - 1 else "  "
            segments.append(Segment(text + gap, style + shade if shade else style))
        return Strip(segments).adjust_cell_length(width, style).apply_style(self.rich_style)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as there are rows, and the header."""
        return len(self.rows) + 1


def render_label(row: Row) -> str:
    """A row's name as the list has it: ``web``, ``└ web-2``, ``db (orphan)``."""
    orphan = " (orphan)" if row.orphan and row.kind == "service" else ""
    return f"{ {'replica': '└ ', 'oneoff': '› '}.get(row.kind, '') }{row.label}{orphan}"


def render_age(seconds: float) -> str:
    """``8s``, ``5m``, ``3h``, ``12d``: at most four characters."""
    whole = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"
