"""The output of the containers that are looked at: followed, bounded, handed over in batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from orchestrator.actions.containers import short_name
from orchestrator.engines.base import LogLine
from orchestrator.errors import StackError
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine
    from orchestrator.state import Container

TAIL = 1000
"""Lines of the past that are read of each container."""

LIMIT = 2000
"""Lines that wait to be taken; of a container that writes faster than that the oldest are left out."""

LATE = 3.0
"""Seconds that what is shown may be behind what is written."""

GAP = "... it writes faster than it can be read: some lines are left out ..."

_LOOK_AFTER = 2000
"""Lines between two looks at the clock."""


class Output(Record):
    """Lines in the order in which they came: the short name of the container, the stream, the time, the text."""

    lines: tuple[tuple[str, str, str, str], ...] = ()
    skipped: int = 0
    """How many older ones were left out, because they came too fast."""


class OutputTail:
    """Follows what chosen containers write. `wake` is called, from any thread, when there is something to take.

    `ended` is called when a container has nothing more to say: whether it was started again has to be observed.
    """

    def __init__(
        self,
        engine: Engine,
        wake: Callable[[], None],
        ended: Callable[[], None],
        *,
        tail: int = TAIL,
        limit: int = LIMIT,
    ) -> None:
        self._engine = engine
        self._wake, self._ended = wake, ended
        self._tail = tail
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, str, str, str]] = deque(maxlen=limit)
        self._skipped = 0
        self._reading: _Reading | None = None

    def choose(self, containers: Sequence[Container]) -> None:
        """Forget what was followed, and follow these from the end of what they have written."""
        self.close()
        with self._lock:
            self._waiting.clear()
            self._skipped = 0
        self._reading = _Reading(self._engine, self._take_in, self._ended, self._tail)
        self._reading.begin(containers)

    def refresh(self, containers: Sequence[Container]) -> None:
        """Follow those, too, that have been made or started since."""
        if self._reading is None:
            self.choose(containers)
        else:
            self._reading.begin(containers)

    def close(self) -> None:
        """Follow nothing any more."""
        if self._reading is not None:
            self._reading.stopped = True
            self._reading = None

    @property
    def has_more(self) -> bool:
        """True if there is something to take."""
        return bool(self._waiting)

    def take(self) -> Output:
        """What has come since the last call."""
        with self._lock:
            found = Output(lines=tuple(self._waiting), skipped=self._skipped)
            self._waiting.clear()
            self._skipped = 0
        return found

    def _take_in(self, reading: _Reading, name: str, line: LogLine) -> None:
        with self._lock:
            if reading.stopped:
                return
            first = not self._waiting
            self._skipped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append((name, line.stream, line.time, line.text))
        if first:
            self._wake()


class _Reading:
    """One choice of containers: a thread for those that were there at first, one for each that came later."""

    def __init__(
        self, engine: Engine, take: Callable[[_Reading, str, LogLine], None], ended: Callable[[], None], tail: int
    ) -> None:
        self._engine, self._take, self._ended, self._tail = engine, take, ended, tail
        self.stopped = False
        self._shown: dict[str, str] = {}
        self._seen: dict[str, float] = {}
        """When each container that is or was read had been started: one that has ended is read once more then."""
        self._threads: list[tuple[threading.Thread, frozenset[str]]] = []

    def begin(self, containers: Sequence[Container]) -> None:
        read = {one for thread, ids in self._threads if thread.is_alive() for one in ids}
        fresh = [one for one in containers if one.id not in read and self._seen.get(one.id) != one.started_at]
        if not fresh:
            return
        self._seen.update({one.id: one.started_at for one in fresh})
        thread = threading.Thread(target=self._read, args=(tuple(fresh),), name="output", daemon=True)
        self._threads = [one for one in self._threads if one[0].is_alive()]
        self._threads.append((thread, frozenset(one.id for one in fresh)))
        thread.start()

    def _read(self, containers: tuple[Container, ...]) -> None:
        names = {one.name: short_name(one) for one in containers} | {one.id: short_name(one) for one in containers}
        ids = {one.name: one.id for one in containers}
        before = self._find_shown(containers)
        try:
            while self._read_on(containers, names, ids, before):
                gap = LogLine(container="", service="", stream="stderr", time="", text=GAP)
                self._take(self, "", gap)
                before = self._find_shown(containers)
        except (StackError, OSError, ValueError) as error:
            text = f"its output cannot be read: {error}"
            one = containers[0]
            line = LogLine(container=one.name, service=one.service, stream="stderr", time="", text=text)
            self._take(self, short_name(one), line)
            return
        if not self.stopped:
            self._ended()

    def _find_shown(self, containers: Sequence[Container]) -> dict[str, str]:
        """The time of the last line that was shown of each, by name and by id. Many lines may have the same time."""
        return {key: self._shown.get(one.id, "") for one in containers for key in (one.name, one.id)}

    def _read_on(
        self, containers: tuple[Container, ...], names: dict[str, str], ids: dict[str, str], before: dict[str, str]
    ) -> bool:
        """Read from the last lines on. True if the writer is so much faster that it is better to begin there anew."""
        began = time.time()
        follow = any(one.alive for one in containers)
        lines = self._engine.read_logs(containers, tail=self._tail, follow=follow, stopped=lambda: self.stopped)
        for count, line in enumerate(lines, 1):
            if self.stopped:
                return False
            if line.time > before.get(line.container, ""):
                self._shown[ids.get(line.container, line.container)] = line.time
                self._take(self, names.get(line.container, line.container), line)
            if count % _LOOK_AFTER == 0 and began < _find_moment(line.time) < time.time() - LATE:
                return True
        return False


def _find_moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
