"""Builds on a terminal: the steps that run with the last lines of their output, the finished ones above them."""

from __future__ import annotations

import re
from collections import deque
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.text import Text

from orchestrator.cli.build_progress import Vertex, Vertices, render_transfer
from orchestrator.cli.elapsed import SteadyClock
from orchestrator.cli.progress import render_warning
from orchestrator.cli.redrawn import RedrawnScreen, choose_overflow
from orchestrator.engines.base import BuildEvent, load_build_events

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import OverflowMethod, RenderableType

    from orchestrator.events import Event

TAIL = 6
"""Lines of output that are shown below a step that runs."""

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.|[\x00-\x1f\x7f]")
"""What would move the cursor away under a display that is redrawn in place."""

_OUTCOMES = {"done": "green", "cached": "cyan", "failed": "red", "cancelled": "yellow"}


class BuildBoard:
    """What is known of the steps of some builds, to be drawn whenever the terminal is."""

    def __init__(self, clock: SteadyClock | None = None) -> None:
        self.vertices = Vertices()
        self._clock = clock or SteadyClock()
        self._tails: dict[int, deque[str]] = {}

    def show(self, build: str, event: BuildEvent) -> None:
        """Take an event of `build` (empty: the only one)."""
        event = event.replace(time=self._clock.place(event.time))
        vertex = self.vertices.find(build, event)
        if event.kind == "log":
            tail = self._tails.setdefault(vertex.number, deque(maxlen=TAIL))
            tail.extend(_CONTROL.sub("", line.expandtabs(4)) for line in vertex.take_lines(event.text)[-TAIL:])
        elif event.kind == "status":
            vertex.transfers[event.text] = event
        elif event.kind in _OUTCOMES:
            vertex.ended, vertex.outcome = event.time, event.kind

    def counts(self) -> tuple[int, int]:
        """How many steps have ended, and how many there are."""
        found = self.vertices.all()
        return sum(1 for one in found if one.ended), len(found)

    def render(self, room: int, width: int, now: float, overflow: OverflowMethod = "ellipsis") -> list[Text]:
        """Draw in at most `room` lines: what runs stays visible, the oldest of what has ended goes first."""
        running = [line for one in self.vertices.all() if not one.ended for line in self._render_running(one, now)]
        ended = [self._render_ended(one) for one in self.vertices.all() if one.ended]
        left = max(0, room - len(running))
        lines = (ended[-left:] if left else []) + running
        for line in lines:
            line.truncate(width, overflow=overflow)
        return lines[-room:]

    def _render_ended(self, vertex: Vertex) -> Text:
        mark = {"cached": "CACHED ", "failed": "ERROR ", "cancelled": "CANCELED "}.get(vertex.outcome, "")
        seconds = f"  {max(0.0, vertex.ended - vertex.began):.1f}s" if vertex.outcome != "cached" else ""
        return Text(f" => {mark}{vertex.name}{seconds}", style=_OUTCOMES[vertex.outcome])

    def _render_running(self, vertex: Vertex, now: float) -> Iterable[Text]:
        yield Text(f" => {vertex.name}  {max(0.0, now - vertex.began):.1f}s", style="bold")
        for event in list(vertex.transfers.values())[-TAIL:]:
            if not event.total or event.current < event.total:
                yield Text(f" => => {render_transfer(event)}", style="dim")
        for line in self._tails.get(vertex.number, ()):
            yield Text(f" => => # {line}", style="dim")


class LiveBuildScreen(RedrawnScreen):
    """A screen of nothing but builds, redrawn in place. `labelled` writes the service into each step."""

    def __init__(self, *, colour: bool, labelled: bool) -> None:
        super().__init__(colour=colour, shared=False)
        self._labelled = labelled
        self._clock = SteadyClock()
        self._board = BuildBoard(self._clock)
        self._began = self._clock.now()

    def __call__(self, event: Event, /) -> None:
        """Take an event; the display is redrawn by a thread of rich's."""
        if event.kind == "warning" and event.message:
            self._console.print(render_warning(event), markup=False)
            return
        self._take_terminal()
        for one in load_build_events(event.details):
            if one.kind == "warning":
                self._console.print(f"WARNING: {one.text}", markup=False)
            else:
                self._board.show(event.service if self._labelled else "", one)

    def draw(self) -> RenderableType:
        """A heading, and the steps."""
        now = self._clock.now()
        return _render_board(self._board, self._console, now - self._began, now)


def render_finished(show: Callable[[Callable[[str, BuildEvent], None]], None], *, colour: bool) -> str:
    """What stays on this terminal of builds that took no time; `show` is given what takes their events."""
    board, buffer = BuildBoard(), StringIO()
    show(board.show)
    size = Console(stderr=True).size
    console = Console(
        file=buffer, highlight=False, no_color=not colour, force_terminal=True, width=size.width, height=size.height
    )
    console.print(_render_board(board, console, 0.0, 0.0))
    return buffer.getvalue()


def _render_board(board: BuildBoard, console: Console, seconds: float, now: float) -> RenderableType:
    ended, count = board.counts()
    head = Text(f"[+] Building {seconds:.1f}s ({ended}/{count})", style="bold")
    return Group(
        head, *board.render(max(3, console.size.height - 3), console.size.width, now, choose_overflow(console))
    )
