"""Threads for the engine's blocking calls, by what these do: work, work ahead, wait for an end, load, probe, follow.

Few threads work, since more than a handful gain nothing on the machines this runs on; many may wait, since fifty
containers with a grace period of ten seconds must stop in ten seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from _thread import start_new_thread
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Kind = Literal["work", "ahead", "stop", "load", "probe", "follow"]

SLOTS: dict[Kind, int] = {"work": 5, "ahead": 3, "stop": 64, "load": 3, "probe": 16, "follow": 64}
"""How many calls of each kind run at a time. A stuck probe or pull never holds up anything else."""


class Workers:
    """Threads that are made when first needed and given back when there is nothing to do. For one event loop."""

    def __init__(self) -> None:
        self._pools: dict[Kind, _Pool] = {}

    async def run(self, kind: Kind, call: Callable[[], T]) -> T:
        """Run `call` in a thread and return its result. What is cancelled before it has begun does not begin."""
        pool = self._pools.get(kind)
        if pool is None:
            pool = self._pools[kind] = _Pool(SLOTS[kind])
        result: T = await pool.submit(call, asyncio.get_running_loop())
        return result

    def rest(self) -> None:
        """Give the idle threads back; calls under way come to their end."""
        for pool in self._pools.values():
            pool.dismiss()
        self._pools.clear()


class _Pool:
    # An executor of concurrent.futures answers through two futures and two locks, and waits for each new thread to have
    # begun: for fifty containers that is a tenth of the time that the event loop has.

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._threads = 0
        self._asked = 0
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any], asyncio.AbstractEventLoop] | None]
        self._calls = SimpleQueue()

    def submit(self, call: Callable[[], Any], running: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = running.create_future()
        if self._asked >= self._threads and self._threads < self._slots:
            try:
                start_new_thread(self._work, ())
                self._threads += 1
            except RuntimeError:
                # The machine has no more threads for us; those that are there do it later.
                if self._threads == 0:
                    raise
        self._asked += 1
        self._calls.put((call, answer, running))
        return answer

    def dismiss(self) -> None:
        for _thread in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (asked := self._calls.get()) is not None:
            call, answer, running = asked
            value, error = (None, None) if answer.cancelled() else _try(call)
            # A loop that is closed waits for nothing.
            with contextlib.suppress(RuntimeError):
                running.call_soon_threadsafe(self._answer, answer, value, error)
            # Nothing of it is kept alive while the next call is waited for.
            del asked, call, answer, running, value, error

    def _answer(self, answer: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        self._asked -= 1
        if answer.cancelled():
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)


def _try(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return call(), None
    except StopIteration as error:
        # No future takes one.
        return None, RuntimeError(f"unexpected {error!r}")
    except BaseException as error:
        return None, error
