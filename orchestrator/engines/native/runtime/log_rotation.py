"""Rotating logs by size: conmon can drop what is too much, but keeps no rotated file. One thread, woken by inotify."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from orchestrator.engines.native import host
from orchestrator.engines.native.runtime.monitor import reopen_log
from orchestrator.errors import EngineError
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout
    from orchestrator.model import Logging

_UNITS: Final[Mapping[str, int]] = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_REST: Final = 0.1
"""Seconds to gather changes in: a busy log changes thousands of times before it is too long."""


class LogPolicy(Record):
    """`max_size` in bytes, None for no limit; `max_files` counts the one being written. `keep` False: no log at all."""

    max_size: int | None = None
    max_files: int = 1
    keep: bool = True


def parse_log_policy(logging: Logging) -> LogPolicy:
    """From ``logging.driver`` and its options, with Docker's defaults (json-file no limit, local 5 files of 20 MB)."""
    options, driver = logging.options, logging.driver
    if driver == "none":
        return LogPolicy(keep=False)
    size = options.get("max-size")
    files = options.get("max-file")
    if driver == "local":
        size, files = size or "20m", files or "5"
    text = str(size or "").strip().lower().removesuffix("ib")
    digits = text.rstrip("bkmg")
    unit = text[len(digits) :]
    unit = unit[:1]
    if size is not None and (not digits.replace(".", "", 1).isdigit() or unit not in _UNITS):
        raise EngineError(f"logging.options.max-size: {size!r} is not a size", hint="10m, 500k, 1g")
    if files is not None and (not str(files).isdigit() or int(files) < 1):
        raise EngineError(f"logging.options.max-file: {files!r} is not a number of files", hint="1 or more")
    return LogPolicy(
        max_size=int(float(digits) * _UNITS[unit]) or None if size is not None else None, max_files=int(files or 1)
    )


def rotate_log(layout: Layout, container_id: str, path: str, max_files: int) -> None:
    """Move the log to ``PATH.1`` (the older ones on by one, the oldest away) and make the monitor open a new one.

    No line is lost: the monitor writes into the moved file until it has opened the new one.
    """
    keep = max(1, max_files - 1)
    for number in range(keep, 0, -1):
        source = f"{path}.{number - 1}" if number > 1 else path
        try:
            os.rename(source, f"{path}.{number}")
        except FileNotFoundError:
            continue
    if not reopen_log(layout, container_id) and not os.path.exists(path):
        # No monitor: the container has ended. The log stays complete in its rotated files.
        return
    if max_files == 1:
        # One file in all: what was moved aside is what is dropped.
        _remove_when_reopened(path)


def _remove_when_reopened(path: str) -> None:
    watch = host.Inotify()
    try:
        watch.add(os.path.dirname(path), host.IN_MOVED_TO | host.IN_CREATE)
        poll = select.poll()
        poll.register(watch.fileno(), select.POLLIN)
        for _attempt in range(20):
            if os.path.exists(path):
                break
            if not poll.poll(500):
                break
            list(watch.read())
        os.unlink(f"{path}.1")
    except FileNotFoundError:
        return
    finally:
        watch.close()


class LogRotator:
    """Keeps the logs it is given within their limits. Thread-safe; :meth:`close` ends its thread."""

    def __init__(self, layout: Layout) -> None:
        import threading

        self._layout = layout
        self._inotify = host.Inotify()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._logs: dict[str, tuple[str, LogPolicy, int]] = {}
        self._thread = threading.Thread(target=self._run, name="log-rotation", daemon=True)
        self._thread.start()

    def add(self, container_id: str, path: str, policy: LogPolicy) -> None:
        """Watch a log; without a limit there is nothing to watch."""
        if policy.max_size is None:
            return
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        with self._lock:
            # Watching the folder, not the file: the file is replaced by each rotation.
            watch = self._inotify.add(folder, host.IN_MODIFY | host.IN_MOVED_TO)
            self._logs[container_id] = (path, policy, watch)
        self._look(container_id)

    def remove(self, container_id: str) -> None:
        """Forget a log."""
        with self._lock:
            found = self._logs.pop(container_id, None)
            if found is not None and all(other[2] != found[2] for other in self._logs.values()):
                self._inotify.remove(found[2])

    def close(self) -> None:
        """End the thread."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._inotify.fileno(), select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        pause = select.poll()
        pause.register(self._stop, select.POLLIN)
        while True:
            poll.poll()
            if pause.poll(_REST * 1000):
                break
            changed = {event.watch for event in self._inotify.read()}
            with self._lock:
                hit = [key for key, (_path, _policy, watch) in self._logs.items() if watch in changed]
            for container_id in hit:
                self._look(container_id)
        self._inotify.close()
        os.close(self._stop)

    def _look(self, container_id: str) -> None:
        with self._lock:
            found = self._logs.get(container_id)
        if found is None:
            return
        path, policy, _watch = found
        try:
            if policy.max_size is not None and os.stat(path).st_size >= policy.max_size:
                rotate_log(self._layout, container_id, path, policy.max_files)
        except OSError:  # removed meanwhile, or the disk is full: the next change is another chance
            return
