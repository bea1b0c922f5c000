"""What containers use, looked at once a second as long as somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from orchestrator.actions.usage import UsageRow, compute_row
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from orchestrator.engines.base import ContainerUsage, Engine
    from orchestrator.state import Container

FIRST_LOOK = 0.3
"""Seconds until the second look, which the first rates come from."""

NEXT_LOOK = 1.0
"""Seconds between two looks: the kernel has no event for it."""


class UsageSampler:
    """Calls `take` with the use of the containers by their ids, from a thread of its own."""

    def __init__(self, engine: Engine, take: Callable[[Mapping[str, UsageRow]], None]) -> None:
        self._engine, self._take = engine, take
        self._lock = threading.Lock()
        self._containers: tuple[Container, ...] = ()
        self._shown = threading.Event()
        self._changed = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def measure(self, containers: Iterable[Container]) -> None:
        """Say which containers are measured."""
        found = tuple(one for one in containers if one.alive)
        with self._lock:
            fresh = {one.id for one in found} - {one.id for one in self._containers}
            self._containers = found
        if fresh:
            self._changed.set()

    def show(self, shown: bool) -> None:
        """Say whether anybody looks; nothing is measured otherwise."""
        if shown:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
                self._thread.start()
            self._shown.set()
        else:
            self._shown.clear()

    def close(self) -> None:
        """End it; idempotent."""
        self._closed = True
        self._shown.set()
        self._changed.set()

    def _run(self) -> None:
        before: dict[str, ContainerUsage] = {}
        while True:
            self._shown.wait()
            with self._lock:
                containers = self._containers
            now: dict[str, ContainerUsage] = {}
            for one in containers:
                try:
                    now[one.id] = self._engine.read_usage(one)
                except (StackError, OSError):
                    # It has ended since it was looked up.
                    continue
            if self._closed:
                return
            known = {one.id: one for one in containers}
            self._take({key: compute_row(known[key], before[key], use) for key, use in now.items() if key in before})
            # The rate of one that has just come shall not be waited for.
            hurry = bool(now.keys() - before.keys())
            before = now
            self._changed.clear()
            self._changed.wait(FIRST_LOOK if hurry else NEXT_LOOK)
            if self._closed:
                return
