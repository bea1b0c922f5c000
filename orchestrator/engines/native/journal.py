"""What has happened to a project's containers: one JSON object a line, kept within limits, read by ``events``.

Every process that changes a container writes for itself; a line is one write to a file opened for appending. Files
outlive ``down``, which is an event too, and go when nobody has written for a week.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.base import ContainerEvent
from orchestrator.engines.bell import find_bell
from orchestrator.engines.native import host

if TYPE_CHECKING:
    import sqlite3

    from orchestrator.engines.native.layout import Layout

LONGEST: Final = 1 << 20
"""Bytes of a file until it becomes the older one of two."""

_KEPT: Final = 7 * 86400


class Journal:
    """Writes down what happens. A disk that is full, or a folder that is not ours, is no reason to fail."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def note(self, row: sqlite3.Row, action: str, labels: Mapping[str, str], **attributes: str) -> None:
        """Write down one event of the container in `row`; one-off containers leave none."""
        if row["oneoff"]:
            return
        shown = {name: value for name, value in labels.items() if not name.startswith("com.docker.compose.")}
        event = {
            "time": time.time_ns(),
            "service": row["service"],
            "id": row["id"],
            "action": action,
            "attributes": {**shown, "image": row["image"], "name": row["name"], **attributes},
        }
        line = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        with contextlib.suppress(OSError):
            self._append(row["project"], line)

    def note_lost_end(self, row: sqlite3.Row, labels: Mapping[str, str]) -> None:
        """Write down that the container in `row` has ended, unless that was the last that was written of its runs."""
        if _find_last(journal_path(self._layout, row["project"]), row["id"], ("start", "die")) == "start":
            self.note(row, "die", labels, exitCode=str(row["exit_code"]))

    def _append(self, project: str, line: bytes) -> None:
        path = journal_path(self._layout, project)
        while True:
            fd = self._open(path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                info = os.fstat(fd)
                if not _is_same(path, info):
                    continue  # it was moved away while we waited
                if info.st_size < LONGEST:
                    os.write(fd, line)
                    return
                os.rename(path, f"{path}.1")
            finally:
                os.close(fd)

    def _open(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags & ~os.O_CREAT)
        except FileNotFoundError:
            folder = os.path.dirname(path)
            os.makedirs(folder, mode=0o700, exist_ok=True)
            _forget_old(folder)
            return os.open(path, flags, 0o600)


def journal_path(layout: Layout, project: str) -> str:
    """The project's file; the one before it has ``.1`` behind its name."""
    return f"{layout.state}/events/{project}.ndjson"


def _find_last(path: str, container_id: str, actions: tuple[str, ...]) -> str:
    """Which of `actions` was written last of a container; empty where none was."""
    for name in (path, f"{path}.1"):
        try:
            with open(name, "rb") as file:
                lines = file.read().splitlines()
        except OSError:
            continue
        for line in reversed(lines):
            if container_id.encode() in line:
                with contextlib.suppress(ValueError, KeyError):
                    event = _load_event(json.loads(line))
                    if event.container == container_id and event.action in actions:
                        return event.action
    return ""


def read_events(
    layout: Layout,
    project: str,
    *,
    since: float | None,
    until: float | None,
    stopped: Callable[[], bool] | None = None,
) -> Iterator[ContainerEvent]:
    """Yield events in the order in which they were written, and go on with those to come.

    `since` and `until` are seconds since the epoch: without `since` only what comes, with `until` to that moment.
    """
    path = journal_path(layout, project)
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    watch = host.Inotify()
    watch.add(folder, host.IN_MODIFY | host.IN_CREATE | host.IN_MOVED_TO)
    first = int((time.time() if since is None else since) * 1e9)
    last = None if until is None else int(until * 1e9)
    reader = _Reader(path)
    try:
        while True:
            for event in reader.read():
                if last is not None and event.time > last:
                    return
                if event.time >= first:
                    yield event
            left = None if until is None else until - time.time()
            if (left is not None and left <= 0) or (stopped is not None and stopped()):
                return
            _await(watch, left, stopped)
    finally:
        reader.close()
        watch.close()


def _await(watch: host.Inotify, left: float | None, stopped: Callable[[], bool] | None) -> None:
    waiter = select.poll()
    waiter.register(watch.fileno(), select.POLLIN)
    bell = find_bell(stopped)
    if bell is not None:
        waiter.register(bell, select.POLLIN)
    limits = [one for one in (left, 1.0 if stopped is not None and bell is None else None) if one is not None]
    if watch.fileno() in dict(waiter.poll(min(limits) * 1000 if limits else None)):
        for _change in watch.read():
            continue


class _Reader:
    """Reads a journal on from where it was, across its becoming the older file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._rest = b""

    def read(self) -> Iterator[ContainerEvent]:
        if self._fd < 0:
            if self._open(f"{self._path}.1"):
                yield from self._read_open()
                self.close()
            if not self._open(self._path):
                return
        yield from self._read_open()
        while not _is_same(self._path, os.fstat(self._fd)) and os.path.exists(self._path):
            # Whoever moved it had the lock: what is there now is all.
            yield from self._read_open()
            self.close()
            if not self._open(self._path):
                return
            yield from self._read_open()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd, self._rest = -1, b""

    def _open(self, path: str) -> bool:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        return True

    def _read_open(self) -> Iterator[ContainerEvent]:
        while data := os.read(self._fd, 1 << 16):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError, KeyError):
                    yield _load_event(json.loads(line))


def _load_event(data: Mapping[str, Any]) -> ContainerEvent:
    return ContainerEvent(
        time=int(data["time"]),
        service=str(data["service"]),
        container=str(data["id"]),
        action=str(data["action"]),
        attributes=dict(data["attributes"]),
    )


def _is_same(path: str, info: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), info)
    except FileNotFoundError:
        return False


def _forget_old(folder: str) -> None:
    oldest = time.time() - _KEPT
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime < oldest:
                os.unlink(entry.path)
