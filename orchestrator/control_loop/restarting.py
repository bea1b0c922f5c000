"""Restart policies at work: decides after each exit (:mod:`orchestrator.restart`), keeps the timers, starts again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator.control_loop.conditions import Board
from orchestrator.control_loop.failures import explain_unexpected
from orchestrator.errors import EngineError
from orchestrator.events import Event, Sink
from orchestrator.restart import (
    GiveUp,
    History,
    RestartAt,
    decide_restart,
    recall_history,
    record_exit,
    record_restart,
)
from orchestrator.workers import Workers

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine
    from orchestrator.model import RestartPolicy
    from orchestrator.state import Container

FAILED_START = 128
"""What counts as the exit code of a start that the engine refused."""


class Restarter:
    """One project's restart timers and histories."""

    def __init__(
        self,
        engine: Engine,
        board: Board,
        workers: Workers,
        emit: Sink,
        clock: Callable[[], float],
        find_policy: Callable[[str], RestartPolicy],
        settled: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._board = board
        self._workers = workers
        self._emit = emit
        self._clock = clock
        self._find_policy = find_policy
        self._settled = settled
        self._histories: dict[str, History] = {}
        self._timers: dict[str, tuple[asyncio.Task[None], RestartAt]] = {}
        self._unhealthy: set[str] = set()
        self._left: dict[str, str] = {}
        self._starting: set[str] = set()
        self.begun = 0
        """How many starts by policy have begun so far: an observation during which one began may be out of date."""
        board.listeners.append(self._follow)

    def __len__(self) -> int:
        return len(self._timers)

    def timers(self) -> list[dict[str, Any]]:
        """Which containers are to be started again, when and why; for ``status``."""
        due = []
        for key, (_task, decision) in self._timers.items():
            one = self._board.get(key)
            name, count = (one.name, one.restart_count) if one else (key, 0)
            due.append({"container": name, "at": decision.time, "reason": decision.reason, "restarts": count})
        return due

    def left_alone(self) -> list[dict[str, str]]:
        """Which containers have ended and are not started again, and why; for ``status``."""
        return [
            {"container": one.name, "reason": why} for key, why in self._left.items() if (one := self._board.get(key))
        ]

    async def quiet(self) -> int:
        """Return when no start by policy is under way; how many have begun so far."""
        for container_id in tuple(self._starting):
            await self._board.released(container_id)
        return self.begun

    def stop(self) -> None:
        """Forget every timer; what has ended stays ended."""
        for task, _decision in self._timers.values():
            task.cancel()
        self._timers.clear()

    def cancel(self, container_id: str) -> None:
        """Drop one container's timer: an operation or the user deals with it. A start that is under way is not stopped
        by that; whoever stops the container waits for it (:meth:`Board.released`)."""
        if container_id in self._starting:
            return
        task, _decision = self._timers.pop(container_id, (None, None))
        if task is not None:
            task.cancel()
            one = self._board.get(container_id)
            if one is not None and one.status == "restarting":
                self._board.put(one.replace(status="exited"))

    async def end_unhealthy(self, container: Container) -> bool:
        """Stop a container that became unhealthy, and say whether that was done: to its restart policy its end is then
        a failure."""
        if self._find_policy(container.service).condition == "no" or container.id in self._unhealthy:
            return False
        self._unhealthy.add(container.id)
        self._tell(container, "unhealthy-stop", "it became unhealthy and is started again (x-stack.restart_unhealthy)")
        try:
            await self._workers.run("stop", lambda: self._engine.stop_container(container.id, hold=False))
        except EngineError as error:
            self._unhealthy.discard(container.id)
            self._tell(container, "restart-failed", error.message, {"hint": error.hint})
            return False
        return True

    def handle_exit(self, container: Container) -> None:
        """Decide about a container that ended by itself, write its new status to the board and tell about it."""
        if container.id in self._timers:
            return
        policy = self._find_policy(container.service)
        known = self._histories.get(container.id) or recall_history(container)
        unhealthy = container.id in self._unhealthy
        self._unhealthy.discard(container.id)
        history = self._histories[container.id] = record_exit(known, policy, container, unhealthy=unhealthy)
        if container.oneoff:
            decision: RestartAt | GiveUp = GiveUp(reason="a one-off container")
        elif self._is_replaced(container):
            decision = GiveUp(reason="another container runs in its place")
        else:
            decision = decide_restart(policy, history, self._clock())
        if isinstance(decision, GiveUp):
            self._left[container.id] = decision.reason
            self._board.put(container.replace(status="exited"))
            if decision.final:
                self._tell(container, "give-up", decision.reason)
            return
        self._schedule(container, decision)

    def _is_replaced(self, one: Container) -> bool:
        """True where an update has left a newer container of the same number running: one replica never runs twice."""
        return any(
            other.alive and other.number == one.number and other.created_at > one.created_at
            for other in self._board.of_service(one.service)
            if other.id != one.id
        )

    def _schedule(self, container: Container, decision: RestartAt) -> None:
        task = asyncio.get_running_loop().create_task(self._restart(container.id, decision))
        self._timers[container.id] = (task, decision)
        wait = max(0.0, decision.time - self._clock())
        self._board.put(container.replace(status="restarting"))
        self._tell(container, "restart-in", decision.reason, {"at": decision.time, "seconds": round(wait, 3)})

    async def _restart(self, container_id: str, decision: RestartAt) -> None:
        one = self._board.get(container_id)
        if one is not None and decision.time > self._clock():
            count = one.restart_count
            with contextlib.suppress(EngineError):
                await self._workers.run(
                    "work", lambda: self._engine.record_restart(container_id, count, at=decision.time)
                )
        await asyncio.sleep(max(0.0, decision.time - self._clock()))
        one = self._board.get(container_id)
        if one is None or one.status != "restarting":
            self._timers.pop(container_id, None)
            return
        history = self._histories[container_id] = record_restart(self._histories[container_id], decision)
        begun = self._clock()

        def call() -> None:
            self._engine.record_restart(container_id, history.restarts)
            self._engine.start_container(container_id, cause=decision.reason)

        self._starting.add(container_id)
        self.begun += 1
        with self._board.hold(container_id):
            try:
                await self._workers.run("work", call)
            except Exception as error:
                self._timers.pop(container_id, None)
                self._starting.discard(container_id)
                self._refuse(one, error, begun, history.restarts)
                return
            self._timers.pop(container_id, None)
            self._starting.discard(container_id)
            now = self._board.get(container_id)
            if now is None:
                return
            run = {"status": "running", "started_at": begun, "exit_code": None, "health": None}
            self._board.put(now.replace(**run, restart_count=history.restarts))
            self._tell(now, "restart", decision.reason, {"restarts": history.restarts})

    def _refuse(self, one: Container, error: Exception, begun: float, restarts: int) -> None:
        known = error if isinstance(error, EngineError) else explain_unexpected(error, one.name)
        self._tell(one, "restart-failed", known.message, {"hint": known.hint})
        code = getattr(error, "exit_code", None) or FAILED_START
        ended = one.replace(
            status="exited", exit_code=code, started_at=begun, finished_at=self._clock(), restart_count=restarts
        )
        self.handle_exit(ended)
        self._settled()

    def _follow(self, before: Container | None, after: Container | None) -> None:
        if before is not None and (after is None or after.status == "running"):
            self._left.pop(before.id, None)
        if after is None and before is not None:
            self._histories.pop(before.id, None)
            self.cancel(before.id)
        elif after is not None and after.status == "running" and after.restart_count == 0:
            self._histories.pop(after.id, None)

    def _tell(self, one: Container, action: str, message: str, details: dict[str, Any] | None = None) -> None:
        self._emit(
            Event(
                time=self._clock(),
                kind="container",
                subject=one.name,
                action=action,
                service=one.service,
                message=message,
                details={"container_id": one.id, **(details or {})},
            )
        )
