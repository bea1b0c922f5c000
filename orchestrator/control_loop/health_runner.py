"""Runs the health checks of the containers that run: one task each, asleep until its next probe is due.

When to probe and what the results mean is decided in :mod:`orchestrator.health`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.control_loop.conditions import Board
from orchestrator.errors import EngineError
from orchestrator.events import Event, Sink
from orchestrator.health import Check, Health, ProbeResult, begin_health, record_probe, resume_health
from orchestrator.workers import Workers

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine
    from orchestrator.state import Container, HealthStatus

KEPT_RESULTS = 5
"""Probe results that are kept for each container, as the Docker Engine API has it."""


class HealthRunner:
    """Follows the board: a container with a health check is probed from its start to its end."""

    def __init__(
        self,
        engine: Engine,
        board: Board,
        workers: Workers,
        emit: Sink,
        clock: Callable[[], float],
        find_check: Callable[[Container], Check | None],
    ) -> None:
        self._engine = engine
        self._board = board
        self._workers = workers
        self._emit = emit
        self._clock = clock
        self._find_check = find_check
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._checks: dict[str, Check] = {}
        self._results: dict[str, deque[ProbeResult]] = {}
        self._health: dict[str, Health] = {}
        board.listeners.append(self._follow)

    def history(self, container_id: str) -> dict[str, Any] | None:
        """Status, failing streak, next probe and the last results of a container; None for one that is not probed."""
        health = self._health.get(container_id)
        if health is None:
            return None
        log = [
            {"start": one.started_at, "end": one.finished_at, "success": one.success, "output": one.output}
            for one in self._results.get(container_id, ())
        ]
        streak = health.failing_streak
        return {"status": health.status, "failing_streak": streak, "next_at": health.next_at, "log": log}

    def last_words(self, container_id: str) -> str:
        """The last line of what the container's last probe said; empty if there was none, or it said nothing."""
        results = self._results.get(container_id)
        lines = results[-1].output.strip().splitlines() if results else []
        return lines[-1] if lines else ""

    def stop(self) -> None:
        """End every probe."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._checks.clear()

    def refresh(self) -> None:
        """Take up checks that a new goal has brought for containers that run already, and drop those it has not."""
        for one in self._board.all():
            if one.status != "running":
                continue
            if one.id in self._tasks and self._checks.get(one.id) != self._find_check(one):
                self._end(one.id)
                self._health.pop(one.id, None)
                self._results.pop(one.id, None)
                one = one.replace(health=None)
                self._board.put(one)
                if self._find_check(one) is None:
                    self._tasks[one.id] = asyncio.get_running_loop().create_task(self._forget(one.id))
            if one.id not in self._tasks:
                self._begin(one)

    async def _forget(self, container_id: str) -> None:
        """Have nobody told any more what a check said that is not made any more."""
        try:
            await self._workers.run("probe", lambda: self._engine.record_health(container_id, None))
        except EngineError:
            return  # it is gone
        finally:
            if self._tasks.get(container_id) is asyncio.current_task():
                del self._tasks[container_id]

    def _follow(self, before: Container | None, after: Container | None) -> None:
        if after is not None and after.status == "running":
            if after.id not in self._tasks:
                self._begin(after)
            return
        gone = after or before
        if gone is not None and (after is None or after.status != "paused"):
            self._end(gone.id)
            if after is None:
                self._results.pop(gone.id, None)
                self._health.pop(gone.id, None)

    def _end(self, container_id: str) -> None:
        task = self._tasks.pop(container_id, None)
        self._checks.pop(container_id, None)
        if task is not None:
            task.cancel()

    def _begin(self, container: Container) -> None:
        check = self._find_check(container)
        if check is None:
            return
        self._checks[container.id] = check
        self._tasks[container.id] = asyncio.get_running_loop().create_task(self._probe(container, check))

    async def _probe(self, container: Container, check: Check) -> None:
        started_at = container.started_at
        known = self._board.take_inherited(container.id) or container.health
        if known is None:
            health = begin_health(check, started_at)
        else:
            health = resume_health(check, known, started_at, self._clock())
        self._results[container.id] = deque(maxlen=KEPT_RESULTS)
        self._health[container.id] = health
        told = container.health
        if told is None:
            told = health.status
            await self._change(container, told, None)
        while True:
            await asyncio.sleep(max(0.0, health.next_at - self._clock()))
            if (now := self._board.get(container.id)) is None:
                return
            if now.status == "paused":
                health = health.replace(next_at=self._clock() + check.interval)
                continue
            result = await self._run(now, check)
            health = record_probe(check, health, result, started_at)
            self._results[container.id].append(result)
            self._health[container.id] = health
            if told != health.status:
                told = health.status
                await self._change(container, told, result)

    async def _run(self, container: Container, check: Check) -> ProbeResult:
        begun = self._clock()
        try:
            from orchestrator.control_loop.probes.exec import run_exec_probe

            return await self._workers.run("probe", lambda: run_exec_probe(self._engine, container, check, self._clock))
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
            told = f"internal error: {error!r}"
            return ProbeResult(started_at=begun, finished_at=self._clock(), success=False, output=told)

    async def _change(self, container: Container, status: HealthStatus, result: ProbeResult | None) -> None:
        # Recorded before anybody is told: who hears "healthy" and looks must see it.
        try:
            await self._workers.run("probe", lambda: self._engine.record_health(container.id, status))
        except EngineError as error:
            lost = self._board.get(container.id)
            if lost is not None and lost.alive:
                self._emit(Event(time=self._clock(), kind="warning", subject=lost.name, message=error.message))
        now = self._board.get(container.id)
        if now is None or not now.alive:
            return
        self._board.set_health(container.id, status)
        output = result.output.strip() if result else ""
        self._emit(
            Event(
                time=self._clock(),
                kind="health",
                subject=now.name,
                action=status,
                service=now.service,
                message=output if status == "unhealthy" else "",
                details={"container_id": now.id},
            )
        )
