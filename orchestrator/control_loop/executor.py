"""Runs a plan: an operation starts the moment its own prerequisites have succeeded, never level by level.

A failed operation cancels what depends on it (but for hooks that are not required), and nothing else. On a change of
the goal the pending ones are dropped and the running ones finish.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.errors import StackError
from orchestrator.events import Event, Phase, Sink
from orchestrator.plan import CreateContainer, Operation, Plan, RunHooks, StartContainer, WaitFor
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.model import Service

_NOTHING: Mapping[str, Any] = MappingProxyType({})

Progress = Callable[[str, Mapping[str, Any]], None]
"""Takes a message and details about an operation under way."""

Perform = Callable[[Operation, Progress], Awaitable[None]]
"""Does what one operation says. Raises StackError."""


class PlanOutcome(Record):
    """How a plan ended; ids of operations, in the order in which they ended."""

    succeeded: tuple[str, ...] = ()
    failed: Mapping[str, StackError] = _NOTHING
    cancelled: tuple[str, ...] = ()
    dropped: bool = False
    """True when a change of the goal cut it short."""


class Execution:
    """One run of one plan. At most `parallel` operations run at a time (0: as many as can); waiting counts for none.

    `foresee` is told of starts that only wait for other services, the moment that their containers exist.
    """

    def __init__(
        self,
        plan: Plan,
        perform: Perform,
        emit: Sink,
        *,
        clock: Callable[[], float] = time.time,
        parallel: int = 0,
        foresee: Callable[[StartContainer], None] = lambda _one: None,
    ) -> None:
        self._operations = {one.id: one for one in plan}
        self._perform = perform
        self._emit = emit
        self._clock = clock
        self._missing = {one.id: len(set(one.needs)) for one in plan}
        self._dependents: dict[str, list[str]] = {one.id: [] for one in plan}
        for one in plan:
            for need in set(one.needs):
                if need not in self._dependents:
                    raise ValueError(f"operation {one.id!r} needs {need!r}, which is not in the plan")
                self._dependents[need].append(one.id)
        self._parallel = parallel
        self._foresee = foresee
        self._queued: list[str] = []
        self._running: dict[str, asyncio.Task[None]] = {}
        self._succeeded: list[str] = []
        self._failed: dict[str, StackError] = {}
        self._cancelled: dict[str, str] = {}
        self._dropped = ""
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> PlanOutcome:
        """Run the plan to its end. Returns when no operation runs any more and none can start."""
        async with asyncio.TaskGroup() as self._group:
            for key, missing in tuple(self._missing.items()):
                if missing == 0:
                    self._start(key)
        if self._operations and not (self._dropped or self._missing.keys() <= self._ended().keys()):
            raise ValueError("the plan has a cycle")
        return PlanOutcome(
            succeeded=tuple(self._succeeded),
            failed=dict(self._failed),
            cancelled=tuple(self._cancelled),
            dropped=bool(self._dropped),
        )

    def drop_pending(self, reason: str) -> None:
        """Start nothing any more, stop waiting for conditions, let what runs come to its end."""
        if self._dropped:
            return
        self._dropped = reason
        for key, task in tuple(self._running.items()):
            if isinstance(self._operations[key], WaitFor):
                task.cancel()
        ended = self._ended()
        for key in self._operations:
            if key not in ended and key not in self._running:
                self._cancel(key, reason)

    @property
    def running(self) -> tuple[Operation, ...]:
        """The operations under way."""
        return tuple(self._operations[key] for key in self._running)

    def pending(self) -> dict[str, tuple[str, ...]]:
        """Operations that have not started, each with the prerequisites that it still waits for."""
        ended = self._ended()
        return {
            key: tuple(need for need in one.needs if need not in self._succeeded)
            for key, one in self._operations.items()
            if key not in ended and key not in self._running
        }

    def _ended(self) -> dict[str, None]:
        return dict.fromkeys((*self._succeeded, *self._failed, *self._cancelled))

    def _start(self, key: str) -> None:
        if self._dropped or self._group is None:
            return
        if self._parallel and not isinstance(self._operations[key], WaitFor) and self._count_busy() >= self._parallel:
            self._queued.append(key)
            return
        self._running[key] = self._group.create_task(self._run(self._operations[key]))

    def _count_busy(self) -> int:
        return sum(1 for key in self._running if not isinstance(self._operations[key], WaitFor))

    async def _run(self, operation: Operation) -> None:
        try:
            await self._carry_out(operation)
        finally:
            if self._queued:
                # What is cancelled meanwhile is not begun.
                waiting, self._queued = self._queued, []
                for key in waiting:
                    if key not in self._cancelled:
                        self._start(key)

    async def _carry_out(self, operation: Operation) -> None:
        started = time.monotonic()
        self._tell(operation, "started")
        try:
            await self._perform(operation, lambda text, details: self._tell(operation, "progress", text, details))
        except asyncio.CancelledError:
            self._running.pop(operation.id, None)
            if not self._dropped:
                raise
            self._cancel(operation.id, self._dropped)
            return
        except StackError as error:
            self._end_failed(operation, error)
            return
        except Exception as error:
            from orchestrator.control_loop.failures import explain_unexpected

            self._end_failed(operation, explain_unexpected(error, operation.subject))
            return
        self._running.pop(operation.id, None)
        self._succeeded.append(operation.id)
        self._tell(operation, "done", details={"seconds": round(time.monotonic() - started, 4)})
        self._release(operation.id)

    def _release(self, succeeded: str) -> None:
        for key in self._dependents[succeeded]:
            self._missing[key] -= 1
            if self._missing[key] == 0 and key not in self._cancelled and key not in self._succeeded:
                self._start(key)
            else:
                self._look_ahead(key, self._operations[succeeded])

    def _look_ahead(self, key: str, created: Operation) -> None:
        coming = self._operations[key]
        # One that takes another's place must not be there before the other has gone.
        if not isinstance(coming, StartContainer) or not isinstance(created, CreateContainer) or created.replaces:
            return
        if self._dropped or self._parallel or key in self._cancelled:
            return
        left = (self._operations[one] for one in coming.needs if one != created.id and one not in self._succeeded)
        if all(isinstance(one, (WaitFor, StartContainer, RunHooks)) for one in left):
            self._foresee(coming)

    def _end_failed(self, operation: Operation, error: StackError) -> None:
        self._running.pop(operation.id, None)
        self._failed[operation.id] = error
        self._tell(operation, "failed", error.message, {"code": error.code, "hint": error.hint})
        if isinstance(operation, RunHooks) and not operation.required and not self._dropped:
            self._release(operation.id)
            return
        for key in self._dependents[operation.id]:
            self._cancel(key, f"{operation.verb} {operation.subject} failed")

    def _cancel(self, key: str, reason: str) -> None:
        waiting = [key]
        while waiting:
            one = waiting.pop()
            operation = self._operations[one]
            if one in self._cancelled or one in self._succeeded:
                continue
            if isinstance(operation, WaitFor) and not operation.required and not self._dropped:
                self._succeeded.append(one)
                self._tell(operation, "skipped", reason)
                self._release(one)
                continue
            self._cancelled[one] = reason
            self._tell(operation, "cancelled", reason)
            waiting.extend(self._dependents[one])

    def _tell(
        self, operation: Operation, phase: Phase, message: str = "", details: Mapping[str, Any] = _NOTHING
    ) -> None:
        if isinstance(operation, WaitFor) and operation.watched:
            details = {**details, "containers": list(operation.watched)}
        elif isinstance(operation, CreateContainer) and operation.replaces:
            details = {**details, "replaces": operation.replaces}
        self._emit(
            Event(
                time=self._clock(),
                kind="operation",
                subject=operation.subject,
                action=operation.id,
                phase=phase,
                verb=operation.verb,
                cause=operation.cause,
                message=message,
                service=resolve_service_name(operation),
                details=details,
            )
        )


def resolve_service_name(operation: Operation) -> str:
    """The name of the service that an operation is about; empty for networks and volumes."""
    service: Service | str = getattr(operation, "service", "")
    return service if isinstance(service, str) else service.name
