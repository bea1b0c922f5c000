"""How the progress of a plan is shown: lines, JSON lines, a live display, or not at all. Always on stderr."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Protocol

from orchestrator.cli.diagnostics import writes_lines
from orchestrator.cli.wording import describe_operation, describe_operations

if TYPE_CHECKING:
    from orchestrator.cli.build_progress import PlainBuilds
    from orchestrator.events import Event, Sink


class Screen(Protocol):
    """A progress display; also an event sink."""

    def __call__(self, event: Event, /) -> None:
        """Show one event."""

    def close(self) -> None:
        """Leave the terminal as it was; idempotent."""

    def __enter__(self) -> Screen: ...
    def __exit__(self, *_: object) -> None: ...


def find_status_stream() -> IO[str]:
    """Where progress is written: stderr, or stdout if COMPOSE_STATUS_STDOUT says so."""
    wished = os.environ.get("COMPOSE_STATUS_STDOUT", "").lower() in ("1", "t", "true")
    return sys.stdout if wished else sys.stderr


class QuietScreen:
    """Shows nothing but warnings. Errors are shown in full when the plan has ended."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or find_status_stream()
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        """Show warnings."""
        if event.kind == "warning" and event.message:
            self._write(render_warning(event))

    def close(self) -> None:
        """Nothing to leave."""

    def _write(self, line: str) -> None:
        with self._lock:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                # Nobody reads the progress any more; the work goes on.
                self._stream = open(os.devnull, "w")  # noqa: SIM115

    def __enter__(self) -> QuietScreen:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


MARK = " DRY-RUN MODE - "
"""What stands before every line of what is only told."""


class PlainScreen(QuietScreen):
    """One line per step: `` Container x-web-1 Started``. `mark` stands before each.

    What builds tell goes to `builds`, otherwise to stdout, as Compose has it.
    """

    def __init__(self, stream: IO[str] | None = None, *, mark: str = "", builds: IO[str] | None = None) -> None:
        super().__init__(stream)
        self._mark = mark
        self._build_stream = builds or stream or sys.stdout
        self._last: dict[str, str] = {}
        self._undone: set[str] = set()
        self._builds: PlainBuilds | None = None

    def __call__(self, event: Event, /) -> None:
        """Write a line when an operation changes its state, and what builds tell."""
        if event.details.get("build"):
            self._show_build(event)
            return
        lines = describe_operations(event)
        if not lines:
            super().__call__(event)
        for line in lines:
            if event.phase == "cancelled" and line.id in self._undone:
                # What is not created is not started either.
                continue
            if event.phase == "cancelled":
                self._undone.add(line.id)
            text = f"{self._mark} {line.id} {line.text}"
            if line.style in ("error", "skipped") and line.note:
                text += f" {line.note.splitlines()[0]}"
            if self._last.get(line.id) != text:
                self._last[line.id] = text
                self._write(text)

    def _show_build(self, event: Event) -> None:
        from orchestrator.engines.base import load_build_events

        if self._builds is None:
            from orchestrator.cli.build_progress import PlainBuilds

            self._builds = PlainBuilds(QuietScreen(self._build_stream)._write)
        for one in load_build_events(event.details):
            self._builds.show(event.service, one)


class JsonScreen(QuietScreen):
    """One JSON object per line, with the operation's cause. `rehearsed` says in each that nothing is done."""

    def __init__(self, stream: IO[str] | None = None, *, rehearsed: bool = False) -> None:
        super().__init__(stream)
        self._rehearsed = rehearsed

    def __call__(self, event: Event, /) -> None:
        """Write the event as JSON."""
        import json

        data = event.to_json()
        line = describe_operation(event)
        if line is not None:
            data.update({"id": line.id, "text": line.text, "status": line.style.capitalize()})
        if self._rehearsed:
            data["dry-run"] = True
        self._write(json.dumps(data, ensure_ascii=False, default=str))


class DeferredLiveScreen(QuietScreen):
    """The live display, made when there is something to show: by then the supervisor is at work on the other core."""

    def __init__(self, title: str, *, colour: bool) -> None:
        from orchestrator.cli.terminal import hold_terminal

        super().__init__()
        self._title = title
        self._colour = colour
        self._terminal = hold_terminal()
        self._live: Screen | None = None

    def __call__(self, event: Event, /) -> None:
        """Show the event."""
        # Images come from several threads at once, and two displays would draw over each other.
        with self._lock:
            if self._live is None:
                from orchestrator.cli.live import LiveScreen

                self._live = LiveScreen(self._title, colour=self._colour, terminal=self._terminal)
        self._live(event)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.close()
        self._terminal.unguard()


def open_screen(progress: str, title: str, *, ansi: str, colour: bool) -> Screen:
    """Return the display for ``--progress``; auto is live on a terminal and lines elsewhere."""
    if writes_lines(progress, ansi):
        # The standard output of `run` is its container's.
        return PlainScreen(builds=sys.stderr if title == "run" else None)
    if progress == "quiet":
        return QuietScreen()
    if progress in ("json", "rawjson"):
        return JsonScreen()
    return DeferredLiveScreen(title, colour=colour)


LEFT_ALONE = frozenset({"keep container", "rest container", "spare container"})
"""Verbs of what was as it should be: only some commands tell that."""


def leave_out(sink: Sink, verbs: Iterable[str]) -> Sink:
    """Return a sink that does not pass on operations with one of `verbs`.

    Of images that are fetched only the progress is left out, not that they are.
    """
    hidden = frozenset(verbs)
    if not hidden:
        return sink

    def pass_on(event: Event, /) -> None:
        shown = event.phase == "failed" or (event.verb == "pull image" and event.phase != "progress")
        if shown or event.kind != "operation" or event.verb not in hidden:
            sink(event)

    return pass_on


def render_warning(event: Event) -> str:
    """A warning as a line; one that is rendered already (with its code and place) stays as it is."""
    if event.details.get("code"):
        return event.message
    subject = f"{event.subject}: " if event.subject else ""
    return f"warning: {subject}{event.message}"
