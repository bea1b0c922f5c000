"""The live progress display of a terminal. Together with ``build_live`` the only module that imports rich."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Group
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from orchestrator.cli.build_live import BuildBoard
from orchestrator.cli.elapsed import SteadyClock
from orchestrator.cli.progress import render_warning
from orchestrator.cli.redrawn import RedrawnScreen, choose_overflow, knows_signs
from orchestrator.cli.transfer_meter import TransferMeter
from orchestrator.cli.wording import Wording, describe_operations
from orchestrator.engines.base import load_build_events

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orchestrator.cli.terminal import HeldTerminal
    from orchestrator.events import Event

NARROW = 50
"""Columns below which only what matters most is shown."""

_MARKS = {"done": ("✔", "green"), "error": ("✘", "red"), "skipped": ("-", "yellow")}
_ASCII = {"done": "+", "error": "x", "skipped": "-"}


class _Row:
    __slots__ = ("began", "ended", "line")

    def __init__(self, line: Wording, began: float) -> None:
        self.line = line
        self.began = began
        self.ended = 0.0


class LiveScreen(RedrawnScreen):
    """One row per container, network, volume and image, redrawn in place."""

    def __init__(self, title: str, *, colour: bool, terminal: HeldTerminal | None = None) -> None:
        super().__init__(colour=colour, shared=sys.stdout.isatty(), terminal=terminal)
        self._title = title
        self._rows: dict[str, _Row] = {}
        self._signs = knows_signs(self._console)
        self._spinner = Spinner("dots" if self._signs else "line")
        self._clock = SteadyClock()
        self._builds = BuildBoard(self._clock)
        self._meter = TransferMeter()

    def __call__(self, event: Event, /) -> None:
        """Take an event; the display is redrawn by a thread of rich's."""
        for one in load_build_events(event.details):
            if one.kind == "warning":
                self._console.print(f"WARNING: {one.text}", markup=False)
            else:
                self._builds.show(event.service, one)
        for told in self._meter.expand(event.replace(time=self._clock.place(event.time))):
            self._show(told)

    def _show(self, event: Event) -> None:
        lines = describe_operations(event)
        if not lines:
            if event.kind == "warning" and event.message:
                self._console.print(render_warning(event), markup=False)
            return
        self._take_terminal()
        for line in lines:
            row = self._rows.get(line.id)
            if row is None:
                row = self._rows[line.id] = _Row(line, event.time)
            elif event.phase == "cancelled" and row.line.style == "skipped":
                # What is not created is not started either.
                continue
            row.line = line
            row.ended = 0.0 if line.style == "working" else event.time

    def draw(self) -> RenderableType:
        """A heading, a row for each, and the steps of builds."""
        rows = list(self._rows.values())
        done = sum(1 for row in rows if row.ended)
        head = Text(f"[+] {self._title} {done}/{len(rows)}", style="bold", no_wrap=True, overflow="crop")
        now = self._clock.now()
        room = self._room
        steps: list[Text] = []
        if any(not row.ended and row.line.id.startswith("Image ") for row in rows):
            steps = self._builds.render(
                max(room - len(rows), room // 2), self._console.size.width, now, choose_overflow(self._console)
            )
            room = max(1, room - len(steps))
        # Rows that are at work must stay visible when there are more rows than lines.
        hidden = max(0, len(rows) - room)
        if hidden:
            finished = [row for row in rows if row.ended and row.line.style != "error"][:hidden]
            rows = [row for row in rows if row not in finished][:room]
        width = self._console.size.width
        if width < NARROW:
            return Group(head, *(self._render_short(row, width) for row in rows), *steps)
        table = Table.grid(padding=(0, 1), expand=True)
        for _ in range(2):
            table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, ratio=1, overflow=choose_overflow(self._console))
        table.add_column(no_wrap=True, justify="right")
        for row in rows:
            table.add_row(*self._render_row(row, now))
        return Group(head, table, *steps)

    def _render_short(self, row: _Row, width: int) -> RenderableType:
        """Sign, name and state in little room: names of a project differ at their ends."""
        sign, style = self._find_mark(row)
        name, state = row.line.id.partition(" ")[2] or row.line.id, f" {row.line.text}"
        room = max(0, width - len(sign) - 1 - len(state))
        if len(name) > room:
            name = f"…{name[1 - room :]}" if self._signs and room > 1 else name[len(name) - room :]
        line = Text.assemble(f"{sign} ", name, (state, style), no_wrap=True, overflow="crop")
        line.truncate(width)
        return line

    def _find_mark(self, row: _Row) -> tuple[str, str]:
        """What stands before a row, and in which style."""
        if not row.ended:
            return str(self._spinner.render(self._console.get_time())), "blue"
        sign, style = _MARKS[row.line.style]
        return (sign if self._signs else _ASCII[row.line.style]), style

    def _render_row(self, row: _Row, now: float) -> tuple[RenderableType, ...]:
        line = row.line
        sign, style = self._find_mark(row)
        mark = Text(f" {sign}", style=style) if row.ended else Text(sign)
        state = Text(f" {line.text}", style=style)
        if line.note:
            state.append(f"  {line.note.splitlines()[0]}", style="dim")
        return mark, Text(line.id), state, Text(f"{max(0.0, (row.ended or now) - row.began):.1f}s", style="dim blue")
