"""Container logs: conmon's lines, read across rotated files, from the end, in order of time, and followed.

A line of a file is ``TIME STREAM TAG TEXT``: RFC 3339 with nanoseconds and offset, stdout or stderr, ``F`` for a full
line or ``P`` for a part that the next one of its stream goes on. ``LOG.1`` is the newest rotated file, ``LOG.2`` the
one before.
"""

from __future__ import annotations

import heapq
import os
import select
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, Final

from orchestrator.engines.base import LogLine
from orchestrator.engines.bell import find_bell
from orchestrator.engines.native import host
from orchestrator.record import Record

_BLOCK: Final = 65536
_PIECE: Final = 1 << 20
"""Bytes that are followed at a time: a writer that is faster than the reader shall not fill the memory."""

_LONGEST: Final = 1 << 20
"""A line without an end is given out in pieces of this many bytes."""


class LogSource(Record):
    """Where a container's log is. `container` and `service` are the names that its lines carry."""

    path: str
    container: str
    service: str = ""


def read_logs(
    sources: Sequence[LogSource],
    *,
    tail: int | None = None,
    since: float | None = None,
    until: float | None = None,
    follow: bool = False,
    stopped: Callable[[], bool] | None = None,
    writers: Sequence[int] = (),
) -> Iterator[LogLine]:
    """Yield lines in the order of their times; `tail` counts for each container, `since` and `until` are epoch seconds.

    With `follow` it goes on with what is written later, through rotations, until every process of `writers` (pidfds,
    which stay the caller's) has ended, or `stopped()` says so (asked after each change, and once a second unless it
    is a bell), and everything written until then was given. A source without a file yet has no lines.
    """
    first, last = (None if one is None else render_moment(one) for one in (since, until))
    readers = [_Reader(source) for source in sources]
    bell = find_bell(stopped)
    watch = _Watch(readers, writers, bell) if follow else None
    try:
        lists = [reader.read_present(tail, first, last, final=not follow) for reader in readers]
        yield from heapq.merge(*lists, key=lambda line: moment_of(line.time))
        if watch is None:
            return
        while True:
            finished = (stopped is not None and stopped()) or (bool(writers) and not watch.writers)
            fresh = [line for reader in readers for line in reader.read_new()]
            batch = [line for line in fresh if first is None or moment_of(line.time) >= first]
            batch.sort(key=lambda line: moment_of(line.time))
            for line in batch:
                if last is not None and moment_of(line.time) > last:
                    return
                yield line
            if finished and not batch:
                # What was never ended by a newline is a line all the same.
                rest = [line for reader in readers for line in reader.read_rest()]
                yield from sorted(rest, key=lambda line: moment_of(line.time))
                return
            if not batch:
                watch.wait(1.0 if stopped is not None and bell is None else None)
    finally:
        for reader in readers:
            reader.close()
        if watch is not None:
            watch.close()


def list_log_files(path: str) -> list[str]:
    """The existing files of a log, oldest first."""
    folder, base = os.path.split(path)
    numbers = []
    try:
        names = os.listdir(folder or ".")
    except FileNotFoundError:
        return []
    for name in names:
        if name.startswith(f"{base}.") and name[len(base) + 1 :].isdigit():
            numbers.append(int(name[len(base) + 1 :]))
    files = [f"{path}.{number}" for number in sorted(numbers, reverse=True)]
    return [*files, path] if base in names else files


def read_tail_text(path: str, count: int) -> list[str]:
    """The text of the last `count` lines, for an error message."""
    return [line.text for line in read_logs([LogSource(path=path, container="")], tail=count)]


def render_moment(seconds: float) -> str:
    """Epoch seconds as UTC text with nanoseconds; such texts compare as the moments do."""
    import time

    whole = int(seconds // 1)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{stamp}.{int((seconds - whole) * 1_000_000_000):09d}"


def moment_of(text: str) -> str:
    """The UTC text of a line's time, whatever its offset: on most hosts it is there already."""
    if text.endswith("+00:00"):
        return text[:-6]
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text[:19] + text[-6:]).astimezone(UTC)
    except ValueError:
        return text
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + text[19:-6]


class _Reader:
    """One container's log: an open descriptor on the file being read, and what of a line is not complete yet."""

    def __init__(self, source: LogSource) -> None:
        self.source = source
        self._file: BinaryIO | None = None
        self._rest = b""
        self._parts: dict[str, tuple[str, list[str]]] = {}

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read_present(
        self, tail: int | None, first: str | None, last: str | None, *, final: bool = False
    ) -> Iterable[LogLine]:
        """What is there now; leaves the newest file open at the place reached. `final`: a line without its end, too."""
        if tail is not None and first is None and last is None:
            return self._read_end(tail, final=final)
        lines = (
            line
            for line in self._read_whole(final=final)
            if (first is None or moment_of(line.time) >= first) and (last is None or moment_of(line.time) <= last)
        )
        return lines if tail is None else deque(lines, maxlen=tail)

    def _read_whole(self, *, final: bool) -> Iterator[LogLine]:
        """All lines, a piece at a time: a log may be larger than the memory."""
        opened = [file for path in list_log_files(self.source.path) if (file := _open_log(path)) is not None]
        try:
            ends = [os.fstat(file.fileno()).st_size for file in opened]
            for end in ends:
                self.close()
                self._file = opened.pop(0)
                while self._file is not None and self._file.tell() < end:
                    yield from self._read_open(_PIECE)
        finally:
            for file in opened:
                file.close()
        if final:
            yield from self.read_rest()

    def read_rest(self) -> list[LogLine]:
        """What was written of lines whose end has not come; it will not come any more."""
        parts, self._parts = self._parts, {}
        return [self._make_line(stream, began, texts) for stream, (began, texts) in parts.items()]

    def _read_end(self, tail: int, *, final: bool) -> list[LogLine]:
        """The last `tail` lines, reading no more than needed: blocks from the end, older files only when short."""
        found: list[LogLine] = []
        files = list_log_files(self.source.path)
        for path in reversed(files):
            older = _Reader(self.source)
            older._open(path)
            lines = older._read_backwards(tail - len(found) + 1)
            if path == files[-1]:
                self.close()
                self._file, self._rest, self._parts = older._file, older._rest, older._parts
            else:
                older.close()
                found = _join_parts(older._parts, found)
            found = lines + found
            if len(found) >= tail:
                break
        found += self.read_rest() if final else []
        return found[-tail:] if tail else []

    def _read_backwards(self, count: int) -> list[LogLine]:
        """At least the last `count` lines of the open file, or all of it; leaves the place at its end."""
        if self._file is None:
            return []
        end = self._file.seek(0, os.SEEK_END)
        at, size = end, _BLOCK
        while True:
            at, size = max(0, at - size), size * 2
            self._file.seek(at)
            self._rest, self._parts = self._file.read(end - at), {}
            if at > 0:
                self._rest = self._rest.partition(b"\n")[2]
            lines = self._take_lines()
            if at == 0 or len(lines) >= count:
                return lines

    def read_new(self) -> list[LogLine]:
        """What was written since, or a piece of it if it is much; moves on to the new file after a rotation."""
        if self._file is None:
            if not os.path.exists(self.source.path):
                return []
            self._open(self.source.path)
        lines = self._read_open(_PIECE)
        while not self._is_at_end():
            if lines:
                return lines
            lines = self._read_open(_PIECE)
        while self._was_rotated():
            # The writer opens the new file only after it has closed the old one: what is there now is all.
            lines += self._read_open()
            self._open_next()
            lines += self._read_open()
        return lines

    def _was_rotated(self) -> bool:
        try:
            now = os.stat(self.source.path)
        except FileNotFoundError:
            return False
        mine = os.fstat(self._file.fileno()) if self._file is not None else None
        return mine is None or (mine.st_dev, mine.st_ino) != (now.st_dev, now.st_ino)

    def _open_next(self) -> None:
        """Open the file after the one being read: a reader that was slow may be several rotations behind."""
        mine = os.fstat(self._file.fileno()) if self._file is not None else None
        files = list_log_files(self.source.path)
        following = files[-1:]
        for index, path in enumerate(files):
            try:
                info = os.stat(path)
            except FileNotFoundError:
                continue
            if mine is not None and (info.st_dev, info.st_ino) == (mine.st_dev, mine.st_ino):
                following = files[index + 1 : index + 2] or files[-1:]
                break
        else:
            following = files[:1]
        if following:
            self._open(following[0])

    def _open(self, path: str) -> None:
        file = _open_log(path)
        if file is not None:
            self.close()
            self._file = file

    def _is_at_end(self) -> bool:
        return self._file is None or self._file.tell() >= os.fstat(self._file.fileno()).st_size

    def _read_open(self, limit: int = -1) -> list[LogLine]:
        if self._file is None:
            return []
        if os.fstat(self._file.fileno()).st_size < self._file.tell():  # cut off by somebody: begin again
            self._file.seek(0)
            self._rest = b""
        self._rest += self._file.read(limit)
        return self._take_lines()

    def _take_lines(self) -> list[LogLine]:
        whole, newline, rest = self._rest.rpartition(b"\n")
        if not newline:
            return []
        self._rest = rest
        lines = []
        for raw in whole.split(b"\n"):
            line = self._parse(raw)
            if line is not None:
                lines.append(line)
        return lines

    def _parse(self, raw: bytes) -> LogLine | None:
        time, _, after = raw.decode("utf-8", "replace").partition(" ")
        stream, _, after = after.partition(" ")
        tag, _, text = after.partition(" ")
        if stream not in ("stdout", "stderr"):
            return None
        began, parts = self._parts.pop(stream, (time, []))
        parts.append(text)
        if tag == "P" and sum(map(len, parts)) < _LONGEST:
            self._parts[stream] = (began, parts)
            return None
        return self._make_line(stream, began, parts)

    def _make_line(self, stream: str, began: str, parts: list[str]) -> LogLine:
        return LogLine(
            container=self.source.container,
            service=self.source.service,
            stream="stderr" if stream == "stderr" else "stdout",
            time=began,
            text="".join(parts).removesuffix("\r"),
        )


def _open_log(path: str) -> BinaryIO | None:
    """The file to be read, None where there is none; it stays open between calls."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def _join_parts(parts: dict[str, tuple[str, list[str]]], lines: list[LogLine]) -> list[LogLine]:
    """Give the first line of each stream the beginning that an older file ended with."""
    for stream, (began, texts) in parts.items():
        for index, line in enumerate(lines):
            if line.stream == stream:
                lines[index] = line.replace(time=began, text="".join(texts) + line.text)
                break
    return lines


class _Watch:
    """Sleeps until one of the logs changes or one of their writers ends: one inotify watch for each folder."""

    def __init__(self, readers: Sequence[_Reader], writers: Sequence[int], bell: int | None) -> None:
        self.writers = set(writers)
        self._inotify = host.Inotify()
        self._poll = select.poll()
        for folder in {os.path.dirname(reader.source.path) or "." for reader in readers}:
            os.makedirs(folder, exist_ok=True)
            self._inotify.add(folder, host.IN_MODIFY | host.IN_CREATE | host.IN_MOVED_TO)
        for fd in (self._inotify.fileno(), *self.writers, *(() if bell is None else (bell,))):
            self._poll.register(fd, select.POLLIN)

    def wait(self, timeout: float | None) -> None:
        for fd, _event in self._poll.poll(None if timeout is None else timeout * 1000):
            if fd in self.writers:
                # Readable for ever from now on.
                self._poll.unregister(fd)
                self.writers.discard(fd)
            elif fd == self._inotify.fileno():
                for _change in self._inotify.read():
                    continue

    def close(self) -> None:
        self._inotify.close()
