"""Noticing whatever changes in a project: its journal, its supervisor, its processes. Nothing here polls.

Each source has a thread that sleeps in the kernel. They are daemons: one may be asleep in a conversation with the
supervisor when the interface is left, and nobody shall wait for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from orchestrator.actions.console.news import News, tell_container_event, tell_supervisor_event
from orchestrator.engines.native import host
from orchestrator.errors import StackError
from orchestrator.supervision.client import Session
from orchestrator.supervision.control import Place

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine
    from orchestrator.events import Event
    from orchestrator.state import Container

RECENT = 3600.0
"""Seconds of the past whose events are shown at first."""

LOOKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between the looks at a process that has ended and still passes for alive."""


class ProjectWatch:
    """Calls back, from threads of its own, when a project has changed.

    `on_change` says that it is worth observing again, `on_news` what has happened, `on_supervisor` whether a supervisor
    runs. They must not block.
    """

    def __init__(
        self,
        engine: Engine,
        project: str,
        *,
        on_change: Callable[[], None],
        on_news: Callable[[News], None],
        on_supervisor: Callable[[bool], None],
    ) -> None:
        self._engine = engine
        self._project = project
        self._on_change, self._on_news, self._on_supervisor = on_change, on_news, on_supervisor
        self._closed = threading.Event()
        self._wake = self._nudge = -1
        self._lock = threading.Lock()
        self._pids: frozenset[int] = frozenset()

    def begin(self) -> None:
        """Begin to watch."""
        self._wake, self._nudge = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
        for name, work in (
            ("journal", self._follow_journal),
            ("supervisor", self._follow_supervisor),
            ("processes", self._await_ends),
        ):
            threading.Thread(target=work, name=f"watch-{name}", daemon=True).start()

    def close(self) -> None:
        """End the watch; idempotent. Threads end by themselves, at the latest with the process."""
        self._closed.set()
        _write(self._wake)
        _write(self._nudge)

    def follow_processes(self, containers: Iterable[Container]) -> None:
        """Say whose ends are to be noticed: where no supervisor runs nobody else tells of them."""
        pids = frozenset(one.pid for one in containers if one.alive and one.pid > 0)
        with self._lock:
            changed, self._pids = pids != self._pids, pids
        if changed:
            _write(self._wake)

    def _follow_journal(self) -> None:
        since = time.time() - RECENT
        while not self._closed.is_set():
            try:
                for event in self._engine.read_events(self._project, since=since, stopped=self._closed.is_set):
                    since = max(since, event.time / 1e9 + 1e-6)
                    news = tell_container_event(event, self._project)
                    if news is not None:
                        self._on_news(news)
                    if event.action in ("create", "start"):
                        # A supervisor that was left to itself has something to do again.
                        _write(self._nudge)
                    self._on_change()
            except (StackError, OSError) as error:
                self._on_news(News(time=time.time(), subject="events", text=str(error), tone="bad"))
                return

    def _await_ends(self) -> None:
        ends = _Ends(self._wake)
        try:
            while not self._closed.is_set():
                with self._lock:
                    wanted = self._pids
                if ends.wait(wanted):
                    self._on_change()
        finally:
            ends.close()

    # The supervisor

    def _follow_supervisor(self) -> None:
        place = Place.of(self._project)
        while not self._closed.is_set():
            gate = _Gate(place, self._nudge)
            try:
                self._converse()
                if self._closed.is_set():
                    return
                gate.wait()
            except StackError as error:
                self._on_news(News(time=time.time(), subject="supervisor", text=error.message, tone="bad"))
                gate.wait()
            finally:
                gate.close()

    def _converse(self) -> None:
        """Listen to the supervisor as long as it has something to supervise.

        It stays as long as somebody listens: a listener that stayed would keep it after a ``down``.
        """
        with Session(self._project) as session:
            status = session.ask("status", "status")
            if status is None:
                self._on_supervisor(False)
                return
            self._on_supervisor(True)
            self._on_change()
            while not self._closed.is_set():
                if _has_nothing_to_do(status["status"] if status else None):
                    session.finish()
                    break
                if not session.follow(self._hear, until=_may_be_the_end):
                    break
                status = session.ask("status", "status")
        self._on_supervisor(False)
        self._on_change()

    def _hear(self, event: Event) -> None:
        if self._closed.is_set():
            return
        news = tell_supervisor_event(event)
        if news is not None:
            self._on_news(news)
        if event.kind != "operation" or event.phase != "progress":
            self._on_change()


def _may_be_the_end(event: Event) -> bool:
    return event.kind == "converged" or (event.kind == "container" and event.action in ("die", "give-up"))


def _has_nothing_to_do(status: dict[str, object] | None) -> bool:
    if status is None:
        return True
    containers = status["containers"]
    assert isinstance(containers, dict)
    alive = any(one["status"] in ("running", "paused", "restarting") for one in containers.values())
    return bool(status["settled"]) and not alive and not status["restarts"]


class _Ends:
    """Notices processes that end."""

    def __init__(self, wake: int) -> None:
        self._wake = wake
        self._poll = select.poll()
        self._poll.register(wake, select.POLLIN)
        self._opened: dict[int, int] = {}
        self._ended: set[int] = set()
        self._again: list[float] = []

    def wait(self, wanted: frozenset[int]) -> bool:
        """Sleep until one of these has ended, or somebody wakes; True if it is time to look what became of them.

        What has ended may pass for alive until its parent has collected it: then it is looked at some more times.
        """
        for pid in self._opened.keys() - wanted:
            self._forget(pid)
        self._ended &= wanted
        before = len(self._ended)
        for pid in wanted - self._opened.keys() - self._ended:
            try:
                self._opened[pid] = os.pidfd_open(pid)
            except OSError:
                self._ended.add(pid)
            else:
                self._poll.register(self._opened[pid], select.POLLIN)
        if len(self._ended) > before:
            self._again = list(LOOKS)
            return True
        pause = self._again.pop(0) if self._ended and self._again else None
        ready = {fd for fd, _ in self._poll.poll(None if pause is None else pause * 1000)}
        if self._wake in ready:
            _read(self._wake)
        for pid in [pid for pid, fd in self._opened.items() if fd in ready]:
            self._forget(pid)
            self._ended.add(pid)
        if len(self._ended) > before:
            self._again = list(LOOKS)
            return True
        return not ready

    def _forget(self, pid: int) -> None:
        fd = self._opened.pop(pid)
        self._poll.unregister(fd)
        os.close(fd)

    def close(self) -> None:
        """Let go of all of them."""
        for pid in list(self._opened):
            self._forget(pid)


class _Gate:
    """Where a supervisor appears: made before it is looked for, so that none is missed in between."""

    def __init__(self, place: Place, nudge: int) -> None:
        self._place = place
        self._nudge = nudge
        self._before = _identify(place.socket)
        self._inotify = host.Inotify()
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(place.run), exist_ok=True)
        self._add(os.path.dirname(place.run))
        self._add(place.run)

    def _add(self, folder: str) -> None:
        with contextlib.suppress(OSError):
            self._inotify.add(folder, host.IN_CREATE | host.IN_MOVED_TO)

    def wait(self) -> None:
        """Sleep until there is another control socket than when this was made, or somebody nudges."""
        poll = select.poll()
        poll.register(self._inotify.fileno(), select.POLLIN)
        poll.register(self._nudge, select.POLLIN)
        while True:
            now = _identify(self._place.socket)
            if now is not None and now != self._before:
                return
            ready = {fd for fd, _ in poll.poll()}
            if self._nudge in ready:
                _read(self._nudge)
                return
            for _event in self._inotify.read():
                continue
            self._add(self._place.run)

    def close(self) -> None:
        """Stop watching."""
        self._inotify.close()


def _identify(path: str) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_ino, info.st_ctime_ns


def _write(event: int) -> None:
    if event >= 0:
        os.eventfd_write(event, 1)


def _read(event: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(event)
