"""How builds are shown: BuildKit's plain lines, one JSON object per event, or the images' identifiers alone.

The live display of a terminal is in :mod:`orchestrator.cli.build_live`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import IO, TYPE_CHECKING

from orchestrator.cli.elapsed import SteadyClock
from orchestrator.cli.progress import QuietScreen, Screen, render_warning
from orchestrator.cli.quantities import render_size
from orchestrator.engines.base import BuildEvent, dump_build_event, load_build_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.events import Event

BUILD_PROGRESS = ("auto", "plain", "tty", "rawjson", "quiet")

_STATUS_EVERY = 5.0
"""Seconds between two lines about the same transfer."""


class Vertex:
    """One step of one build as it is shown: `number` is ``#5``; times are seconds since the epoch."""

    __slots__ = ("began", "ended", "name", "number", "outcome", "rest", "told", "transfers")

    def __init__(self, number: int, name: str, began: float) -> None:
        self.number = number
        self.name = name
        self.began = began
        self.ended = 0.0
        self.outcome = ""
        self.rest = ""
        self.told: dict[str, float] = {}
        self.transfers: dict[str, BuildEvent] = {}

    def take_lines(self, text: str) -> list[str]:
        """Add output; return the lines that are complete now. What a carriage return overwrote is left out."""
        *lines, self.rest = (self.rest + text).split("\n")
        # A progress bar that never ends its line must not grow without end.
        if len(self.rest) > 1 << 16:
            lines, self.rest = [*lines, self.rest], ""
        return [line.rstrip("\r").rpartition("\r")[2] for line in lines]


class Vertices:
    """The steps of all builds of one command, numbered in the order in which they begin."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], Vertex] = {}

    def find(self, build: str, event: BuildEvent) -> Vertex:
        """The step that an event of `build` is about. Its name carries `build` where that is not empty."""
        key = (build, event.vertex)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = Vertex(len(self._found) + 1, label_step(build, event.name), event.time)
        elif event.kind == "started" and event.name:
            found.name, found.began = label_step(build, event.name), event.time
        return found

    def all(self) -> list[Vertex]:
        """Every step that has been heard of."""
        return list(self._found.values())


def label_step(build: str, name: str) -> str:
    """Write the name of a build into that of its step: ``[web build 2/5] RUN make``."""
    if not build:
        return name
    return f"[{build} {name[1:]}" if name.startswith("[") else f"[{build}] {name}"


class PlainBuilds:
    """Writes builds as lines: ``#5 [build 2/5] RUN make``, ``#5 0.213 text``, ``#5 DONE 0.3s``, ``#5 CACHED``."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._vertices = Vertices()
        self._current: Vertex | None = None
        self._clock = SteadyClock()

    def show(self, build: str, event: BuildEvent) -> None:
        """Write what an event of `build` (empty: the only one) says."""
        if event.kind == "warning":
            self._write(f"WARNING: {event.text}")
            return
        event = event.replace(time=self._clock.place(event.time))
        vertex = self._vertices.find(build, event)
        number = f"#{vertex.number}"
        seconds = max(0.0, event.time - vertex.began)
        if event.kind == "log":
            lines = vertex.take_lines(event.text)
            if lines:
                self._turn_to(vertex)
                # One write for all of them: a chatty command must not wait for a million flushes.
                self._write("\n".join(f"{number} {seconds:.3f} {line}" for line in lines))
            return
        if event.kind == "status" and not self._is_due(vertex, event):
            return
        self._turn_to(vertex)
        if event.kind == "status":
            self._write(f"{number} {render_transfer(event)}")
        elif event.kind != "started":
            self._end(vertex, event, seconds)

    def _end(self, vertex: Vertex, event: BuildEvent, seconds: float) -> None:
        number = f"#{vertex.number}"
        if vertex.rest:
            for line in vertex.take_lines("\n"):
                self._write(f"{number} {seconds:.3f} {line}")
        outcome = {"done": f"DONE {seconds:.1f}s", "cached": "CACHED", "cancelled": "CANCELED"}.get(event.kind)
        self._write(f"{number} {outcome or f'ERROR: {event.text}'.rstrip()}")
        self._current = None
        self._write("")

    def _turn_to(self, vertex: Vertex) -> None:
        """Lines of steps that run side by side are told apart by a new heading."""
        if self._current is vertex:
            return
        if self._current is not None:
            self._write(f"#{self._current.number} ...")
            self._write("")
        self._current = vertex
        self._write(f"#{vertex.number} {vertex.name}")

    def _is_due(self, vertex: Vertex, event: BuildEvent) -> bool:
        finished = event.total > 0 and event.current >= event.total
        told = vertex.told.get(event.text)
        if told is not None and (told < 0 or (not finished and event.time - told < _STATUS_EVERY)):
            return False
        vertex.told[event.text] = -1.0 if finished else event.time
        return True


def render_transfer(event: BuildEvent) -> str:
    """Render a status: ``sha256:1234 1.2MB / 3MB``."""
    if event.total:
        return f"{event.text} {render_size(event.current)} / {render_size(event.total)}"
    return f"{event.text} {render_size(event.current)}" if event.current else event.text


class PlainBuildScreen(QuietScreen):
    """A screen of nothing but builds, as lines. `labelled` writes the service into each step."""

    def __init__(self, *, labelled: bool, stream: IO[str] | None = None) -> None:
        super().__init__(stream)
        self._labelled = labelled
        self._builds = PlainBuilds(self._write)

    def __call__(self, event: Event, /) -> None:
        """Write the events of a build; of other operations how they end."""
        events = load_build_events(event.details)
        for one in events:
            self._builds.show(event.service if self._labelled else "", one)
        if events:
            return
        if event.kind == "operation" and event.verb != "build image":
            from orchestrator.cli.wording import describe_operation

            line = describe_operation(event)
            if line is not None and line.style != "working":
                self._write(f" {line.id} {line.text}")
            return
        super().__call__(event)


class RawJsonBuildScreen(QuietScreen):
    """One JSON object per event, with the service and the image that it is about."""

    def __call__(self, event: Event, /) -> None:
        """Write the events."""
        head = {key: value for key, value in (("service", event.service), ("image", event.subject)) if value}
        found = [dump_build_event(one) for one in load_build_events(event.details)]
        if not found and event.kind == "operation":
            found = [{"kind": event.phase, "operation": event.verb, "time": event.time, "text": event.message}]
        elif not found and event.kind == "warning":
            found = [{"kind": "warning", "time": event.time, "text": render_warning(event)}]
        for one in found:
            self._write(json.dumps({**head, **one}, ensure_ascii=False, separators=(",", ":")))


def choose_build_screen(progress: str, *, ansi: str) -> str:
    """Return what ``--progress`` comes to: quiet, rawjson, tty or plain; auto is live on a terminal."""
    if progress in ("quiet", "rawjson", "json", "tty"):
        return "rawjson" if progress == "json" else progress
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return "tty" if progress == "auto" and terminal and ansi != "never" else "plain"


def open_build_screen(kind: str, *, colour: bool, labelled: bool, stream: IO[str] | None = None) -> Screen:
    """Return the display of `choose_build_screen`'s choice: on stderr, lines on `stream` if that is given."""
    if kind == "quiet":
        return QuietScreen()
    if kind == "rawjson":
        return RawJsonBuildScreen()
    if kind == "tty":
        from orchestrator.cli.build_live import LiveBuildScreen

        return LiveBuildScreen(colour=colour, labelled=labelled)
    return PlainBuildScreen(labelled=labelled, stream=stream)
