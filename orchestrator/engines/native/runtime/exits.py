"""Seeing containers end, at once and without polling: one thread on pidfds and one inotify watch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from orchestrator.engines.native import host
from orchestrator.engines.native.runtime.monitor import ExitInfo, exits_folder, observe_process, read_exit
from orchestrator.engines.native.runtime.process import open_process

if TYPE_CHECKING:
    import select

    from orchestrator.engines.native.layout import Layout

_LOST_CODE: Final = 255


def watch_exits(layout: Layout, notify: Callable[[ExitInfo], None]) -> ExitWatch:
    """Call `notify` from a thread of its own for every container that ends from now on; ``close()`` ends the watch.

    Containers that are :meth:`ExitWatch.add`-ed are noticed even when their monitor was killed; ends of others are
    told as their exit files appear. `notify` must not raise; each run of a container is told once.
    """
    return ExitWatch(layout, notify)


class ExitWatch:
    """See :func:`watch_exits`. All methods are thread-safe."""

    def __init__(self, layout: Layout, notify: Callable[[ExitInfo], None]) -> None:
        import select
        import threading

        self._layout, self._notify = layout, notify
        folder = exits_folder(layout)
        os.makedirs(folder, exist_ok=True)
        self._inotify = host.Inotify()
        self._inotify.add(folder, host.IN_MOVED_TO | host.IN_CLOSE_WRITE)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll: select.epoll = select.epoll()
        self._poll.register(self._inotify.fileno(), select.EPOLLIN)
        self._poll.register(self._wake, select.EPOLLIN)
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[str, bool]] = {}
        """By pidfd: the container, and whether it is its monitor's process."""
        self._of: dict[str, int] = {}
        self._closing = False
        self._quiet = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exit-watch", daemon=True)
        self._thread.start()

    def add(self, container_id: str) -> None:
        """Watch this container's own process too. One that has ended already is told at once."""
        state = observe_process(self._layout, container_id)
        fd = open_process(state.pid, state.start_time) if state is not None else None
        if fd is None:
            # Between start and here it may have ended; its monitor may be about to write the file.
            fd = open_process(state.monitor_pid, state.monitor_start_time) if state is not None else None
            if fd is None or read_exit(self._layout, container_id) is not None:
                if fd is not None:
                    os.close(fd)
                self._tell(container_id)
                return
            self._register(container_id, fd, monitor=True)
            return
        self._register(container_id, fd, monitor=False)

    def remove(self, container_id: str) -> None:
        """Stop watching this container's process."""
        with self._lock:
            fd = self._of.pop(container_id, None)
            if fd is not None:
                self._drop(fd)

    def close(self) -> None:
        """End the watch; returns when no call of `notify` is under way (unless called from within one)."""
        import threading

        self._closing = True
        os.eventfd_write(self._wake, 1)
        if threading.current_thread() is not self._thread:
            # Not for the thread itself: the kernel takes some 10 ms to close an inotify descriptor.
            self._quiet.wait()

    def _register(self, container_id: str, fd: int, *, monitor: bool) -> None:
        import select

        with self._lock:
            old = self._of.pop(container_id, None)
            if old is not None:
                self._drop(old)
            self._waiting[fd] = (container_id, monitor)
            self._of[container_id] = fd
            self._poll.register(fd, select.EPOLLIN)

    def _drop(self, fd: int) -> None:
        if self._waiting.pop(fd, None) is not None:
            self._poll.unregister(fd)
            os.close(fd)

    def _run(self) -> None:
        try:
            while not self._closing:
                for fd, _events in self._poll.poll():
                    if fd == self._inotify.fileno():
                        for event in self._inotify.read():
                            if event.name and "." not in event.name:
                                self._told_by_file(event.name)
                    elif fd != self._wake:
                        self._ended(fd)
        finally:
            self._quiet.set()
            with self._lock:
                for fd in list(self._waiting):
                    self._drop(fd)
            self._poll.close()
            self._inotify.close()
            os.close(self._wake)

    def _told_by_file(self, container_id: str) -> None:
        info = read_exit(self._layout, container_id)
        if info is None:  # removed again already, or not complete yet: another event follows
            return
        self.remove(container_id)
        self._notify(info)

    def _ended(self, fd: int) -> None:
        with self._lock:
            container_id, monitor = self._waiting.get(fd, ("", False))
            if not container_id:
                return
            self._of.pop(container_id, None)
            self._drop(fd)
        if monitor:
            # Its last deed would have been the exit file; an event for it may be waiting behind this one.
            if read_exit(self._layout, container_id) is None:
                self._tell(container_id)
            return
        if read_exit(self._layout, container_id) is None:
            state = observe_process(self._layout, container_id)
            watched = open_process(state.monitor_pid, state.monitor_start_time) if state is not None else None
            if watched is not None:
                self._register(container_id, watched, monitor=True)
            else:
                self._tell(container_id)

    def _tell(self, container_id: str) -> None:
        info = read_exit(self._layout, container_id)
        if info is None:
            info = ExitInfo(container_id=container_id, exit_code=_LOST_CODE, finished_at=time.time(), lost=True)
        self._notify(info)
