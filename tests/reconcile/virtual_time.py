"""An event loop whose time goes on only when nothing else is left to do, and threads that are none: the same run each
time, whatever the machine does."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(AssertionError):
    """Nothing will ever happen again, and somebody still waits."""


class VirtualSelector(selectors.SelectSelector):
    """Waits for no one: lets the loop's time pass instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """`timeout` seconds have passed at once. Stuck when there is none.

        Nothing comes from outside. Only the loop's own pipe, into which it writes to wake itself up, wants to be
        emptied now and then.
        """
        self._turns += 1
        if timeout is None or self._turns % 256 == 0:
            ready = super().select(0)
            if ready or timeout == 0:
                return ready
            if timeout is None:
                raise Stuck("nothing will ever happen again")
        if timeout:
            self.now += timeout + 1e-9
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's loop in virtual time; begins at 0."""

    def __init__(self) -> None:
        self.virtual = VirtualSelector()
        super().__init__(self.virtual)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.virtual.now

    def timers(self) -> list[asyncio.TimerHandle]:
        """Everything that would make the loop wake up by itself."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        return [one for one in scheduled if not one.cancelled()]


def run_virtual(main: Callable[[VirtualLoop], Any]) -> None:
    """Run the coroutine that `main` makes to its end; no task of it may be left."""
    loop = VirtualLoop()
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(main(loop))
        left = asyncio.all_tasks(loop)
        assert not left, f"tasks are left: {left}"
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()


class InlineWorkers:
    """What :class:`orchestrator.workers.Workers` is to the loop: each call takes a random while, and happens at a
    moment in it. Who no longer waits for a call does not stop it. After :meth:`die` nothing happens any more."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._dead = False
        self._calls: set[asyncio.Task[Any]] = set()

    async def run(self, kind: str, call: Callable[[], T]) -> T:
        """Let `call` happen soon, and return its result a little later. There is no output that could be followed."""
        if kind == "follow":
            return None  # type: ignore[return-value]
        task = asyncio.get_running_loop().create_task(self._perform(kind, call))
        self._calls.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()

    async def _perform(self, kind: str, call: Callable[[], T]) -> T:
        await asyncio.sleep(self._pause(kind))
        if self._dead:
            raise asyncio.CancelledError
        try:
            return call()
        finally:
            await asyncio.sleep(self._pause(kind) / 2)

    def _pause(self, kind: str) -> float:
        if self._chance.random() < 0.4:
            return 0.0
        return self._chance.uniform(0.0, 0.3 if kind in ("stop", "load") else 0.03)

    def rest(self) -> None:
        """There are no threads to give back."""

    def die(self) -> None:
        """kill -9: what has not happened yet never does."""
        self._dead = True
        for task in tuple(self._calls):
            task.cancel()
