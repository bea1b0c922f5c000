"""What containers go on to write, and what those write that start meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from orchestrator.actions.containers import short_name
from orchestrator.actions.project import Project
from orchestrator.actions.read_logs import LogOptions, choose_logs
from orchestrator.engines.base import Engine, LogLine
from orchestrator.engines.bell import Bell
from orchestrator.errors import StackError
from orchestrator.state import Container

LINGER = 1.0
"""Seconds after the last end in which another start is waited for: a container may be on its way back."""

Output = Callable[[str, LogLine], None]
"""Takes a container's short name and a line of its output. Called from several threads."""


class LogFollower:
    """Follows the output of a project's containers until none of them runs any more."""

    def __init__(self, engine: Engine, project: Project, options: LogOptions, write: Output) -> None:
        self._engine = engine
        self._project = project
        self._options = options
        self._write = write
        self._began = time.time()
        self._readers: list[tuple[threading.Thread, frozenset[str]]] = []
        self._shown: dict[str, str] = {}
        self._failure: Exception | None = None
        self._ended_at = 0.0
        self._done: set[threading.Thread] = set()
        self._bell = Bell(self._is_over)

    def run(self, containers: Sequence[Container]) -> None:
        """Write what `containers` have written, and what they and later ones write. Raises what `write` raises."""
        self._read(containers, since=self._options.since, tail=self._options.tail)
        if self._options.until is None and any(one.alive for one in containers):
            for event in self._engine.read_events(self._project.name, since=self._began, stopped=self._bell):
                if event.action == "start":
                    self._pick_up(event.container)
        for reader, _ in self._readers:
            reader.join()
        if self._failure is not None:
            raise self._failure

    def _pick_up(self, started: str = "") -> None:
        """Read what runs, or has just started and may have ended already, and is not being read."""
        read = {one for reader, ids in self._readers if reader not in self._done for one in ids}
        for one in choose_logs(self._engine, self._project, self._options):
            if (one.alive or started in (one.id, one.name)) and one.id not in read:
                self._read([one], since=self._began, tail=None)

    def _is_over(self) -> bool:
        if self._failure is not None:
            return True
        if any(reader not in self._done for reader, _ in self._readers):
            self._ended_at = 0.0
            return False
        self._pick_up()
        now = time.monotonic()
        if not self._ended_at:
            self._ended_at = now
            lingered = threading.Timer(LINGER + 0.01, self._bell.ring)
            lingered.daemon = True
            lingered.start()
        return now - self._ended_at > LINGER and not any(reader not in self._done for reader, _ in self._readers)

    def _read(self, containers: Sequence[Container], *, since: float | None, tail: int | None) -> None:
        arguments = (tuple(containers), since, tail)
        reader = threading.Thread(target=self._follow, args=arguments, name="logs", daemon=True)
        self._readers.append((reader, frozenset(one.id for one in containers)))
        reader.start()

    def _follow(self, containers: Sequence[Container], since: float | None, tail: int | None) -> None:
        ids = {one.name: one.id for one in containers}
        names = {one.name: short_name(one) for one in containers}
        before = {one.name: self._shown.get(one.id, "") for one in containers}
        try:
            for line in self._engine.read_logs(
                containers, tail=tail, since=since, until=self._options.until, follow=True
            ):
                if line.time > before.get(line.container, ""):
                    self._shown[ids.get(line.container, "")] = line.time
                    self._write(names.get(line.container, line.container), line)
        except (StackError, OSError, ValueError) as error:
            self._failure = error
        finally:
            # The thread itself still lives when the bell is heard.
            self._done.add(threading.current_thread())
            self._bell.ring()
