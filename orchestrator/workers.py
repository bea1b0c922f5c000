"""Threads for the engine's blocking calls, by what the calls mostly do: work, work ahead, wait for an end, load, probe.

Few threads work, since more than a handful gain nothing on the machines this runs on; many may wait, since fifty
containers with a grace period of ten seconds must stop in ten seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

T = TypeVar("T")

Kind = Literal["work", "ahead", "stop", "load", "probe"]

SLOTS: dict[Kind, int] = {"work": 5, "ahead": 3, "stop": 64, "load": 3, "probe": 16}
"""How many calls of each kind run at a time. A stuck probe or pull never holds up anything else."""


class Workers:
    """Thread pools that are made when first needed and given back when there is nothing to do."""

    def __init__(self) -> None:
        self._pools: dict[Kind, ThreadPoolExecutor] = {}

    async def run(self, kind: Kind, call: Callable[[], T]) -> T:
        """Run `call` in a thread and return its result."""
        pool = self._pools.get(kind)
        if pool is None:
            pool = self._pools[kind] = ThreadPoolExecutor(SLOTS[kind], thread_name_prefix=kind)
        return await asyncio.get_running_loop().run_in_executor(pool, call)

    def rest(self) -> None:
        """Give the idle threads back; calls under way come to their end."""
        for pool in self._pools.values():
            pool.shutdown(wait=False)
        self._pools.clear()
