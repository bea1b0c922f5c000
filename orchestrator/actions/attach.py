"""Being attached to a project: the output of its containers as they start, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Callable

from orchestrator.actions.containers import short_name
from orchestrator.engines.base import Engine, LogLine
from orchestrator.engines.bell import Bell
from orchestrator.errors import EngineError
from orchestrator.events import Event
from orchestrator.state import Container

Output = Callable[[str, LogLine], None]
"""Takes a container's short name and a line of its output. Called from several threads."""

Remark = Callable[[str], None]
"""Takes a sentence of ours. Called from several threads."""


class Attachment:
    """Follows the output of a project's containers; a sink for the supervisor's events.

    Containers of services that `wanted` refuses are not followed. `since` (seconds since the epoch) is when the command
    began: what a container wrote before is not shown.
    """

    def __init__(
        self,
        engine: Engine,
        project: str,
        since: float,
        *,
        write: Output,
        remark: Remark,
        wanted: Callable[[str], bool],
    ) -> None:
        self._engine = engine
        self._project = project
        self._since = since
        self._write = write
        self._remark = remark
        self._wanted = wanted
        self._lock = threading.Lock()
        self._threads: dict[str, threading.Thread] = {}
        self._endings: dict[str, str] = {}
        self._last: dict[str, str] = {}
        self._written = 0
        self._closing = threading.Event()
        self._bell = Bell(self._closing.is_set)

    def __call__(self, event: Event, /) -> None:
        """Follow a container that started; tell of one that ended."""
        if not self._wanted(event.service):
            return
        if (
            event.kind == "operation"
            and event.phase == "done"
            and event.verb in ("start container", "restart container")
        ) or (event.kind == "container" and event.action == "restart"):
            self.follow(event.subject)
        elif event.kind == "container" and event.action == "die" and not event.details.get("oneoff"):
            code = event.details.get("exit_code")
            self._tell_ending(event.subject, f"{self._short(event.subject)} exited with code {code}")
        elif event.kind == "message" and event.action == "hook":
            line = LogLine(container=event.subject, service=event.service, stream="stdout", time="", text=event.message)
            init = event.details.get("when") == "pre_start"
            name = f"{event.service} pre_start[{event.details['index']}]" if init else self._short(event.subject)
            self._write(f"{name} ->", line)
        elif event.kind == "container" and event.action in ("give-up", "restart-failed") and event.message:
            self._remark(f"{self._short(event.subject)}: {event.message}")

    def follow(self, name: str) -> None:
        """Follow the container called `name` in a thread, unless that is being done."""
        with self._lock:
            running = self._threads.get(name)
            if self._closing.is_set() or (running is not None and running.is_alive()):
                return
            thread = threading.Thread(target=self._run, args=(name,), name=f"logs {name}", daemon=True)
            self._threads[name] = thread
        thread.start()

    def follow_running(self) -> tuple[str, ...]:
        """Follow what runs already; return the short names of the containers that are followed."""
        for one in self._engine.observe(self._project).containers:
            if one.alive and not one.oneoff and self._wanted(one.service):
                self.follow(one.name)
        return tuple(sorted(self._short(name) for name in self._threads))

    def close(self, grace: float = 1.0) -> None:
        """Let the output of what has ended come to its end, and stop following the rest after `grace` seconds.

        Who has ended may have written much: as long as any of it comes, it is waited for.
        """
        import time

        with self._lock:
            threads = tuple(self._threads.values())
        written, deadline = self._written, time.monotonic() + grace
        while (left := [one for one in threads if one.is_alive()]) and time.monotonic() < deadline:
            left[0].join(0.05)
            if self._endings and written != self._written:
                written, deadline = self._written, time.monotonic() + grace
        self._close()

    def _close(self) -> None:
        self._closing.set()
        self._bell.ring()

    def _run(self, name: str) -> None:
        container = self._find(name)
        if container is not None and not container.oneoff:
            shown = short_name(container)
            # A container that starts again is read again, and what its former life wrote is skipped. Lines of one write
            # have one time, so those of this life must not be measured by one another.
            shown_before = self._last.get(name, "")
            try:
                lines = self._engine.read_logs([container], since=self._since, follow=True, stopped=self._bell)
                for line in lines:
                    if line.time > shown_before:
                        self._last[name] = line.time
                        self._write(shown, line)
                        self._written += 1
            except EngineError as error:
                self._remark(f"{shown}: {error.message}")
            except (BrokenPipeError, ValueError):
                self._close()
        with self._lock:
            self._threads.pop(name, None)
            ending = self._endings.pop(name, None)
        if ending and not self._closing.is_set():
            self._remark(ending)

    def _tell_ending(self, name: str, text: str) -> None:
        with self._lock:
            if name in self._threads:
                # Its last lines come first.
                self._endings[name] = text
                return
        self._remark(text)

    def _find(self, name: str) -> Container | None:
        found = self._engine.observe(self._project).containers
        return next((one for one in found if one.name == name), None)

    def _short(self, name: str) -> str:
        return name.removeprefix(f"{self._project}-").removeprefix(f"{self._project}_") or name
