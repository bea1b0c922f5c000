"""What the loop knows of every container right now, and waiting for a condition on it. Nothing polls.

The board is the loop's own picture: operations, exits and probes write to it as they happen, an observation only
fills in what nobody has written since the observation began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from orchestrator.errors import StackError
from orchestrator.model import Condition

if TYPE_CHECKING:
    from orchestrator.state import Container, HealthStatus, ObservedState

Listener = Callable[["Container | None", "Container | None"], None]
"""Told (before, after) of every change; None is "not there"."""


UNPROBED_SECONDS = 0.5
"""How long a container without a health check is given to end by itself, which says more than that it has none."""


class ConditionFailed(StackError):
    """What was waited for can no longer come true. `container` is the culprit, None if the service itself is."""

    code = "dependency-failed"

    def __init__(self, message: str, *, service: str, container: Container | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.service = service
        self.container = container
        self.exit_code = container.exit_code if container else None


def judge_condition(
    condition: Condition, service: str, replicas: Iterable[Container], *, probed: bool, strict: bool = False
) -> bool:
    """True when `condition` holds for all of the service's replicas, False while it may still come true.

    `probed` says that the service has a health check. `strict` is ``--wait``: started means that it keeps running, or
    has done its work; any other exit is a failure. A container that its restart policy will start again ("restarting")
    is waited for. Raises ConditionFailed as soon as the condition cannot hold any more.
    """
    replicas = tuple(replicas)
    if condition == "service_healthy" and not probed:
        raise ConditionFailed(
            f"container {_first_name(replicas, service)} has no healthcheck configured",
            service=service,
            hint=f"give {service} a healthcheck, or wait for service_started",
        )
    verdicts = [_judge_replica(condition, one, strict=strict) for one in replicas]
    if not verdicts:
        raise ConditionFailed(f"service {service} has no container", service=service)
    return all(verdicts)


def _judge_replica(condition: Condition, one: Container, *, strict: bool) -> bool:
    ended = one.status in ("exited", "dead")
    if condition == "service_started":
        if ended and strict and (one.exit_code != 0 or one.hold):
            raise _failed(one, f"container {one.name} exited ({one.exit_code})")
        return one.status in ("running", "paused") or ended or (not strict and one.status == "restarting")
    if condition == "service_healthy":
        if ended:
            raise _failed(one, f"container {one.name} exited ({one.exit_code}) before it was healthy")
        if one.status in ("running", "paused") and one.health == "unhealthy":
            raise _failed(one, f"container {one.name} is unhealthy")
        return one.status in ("running", "paused") and one.health == "healthy"
    if ended and one.exit_code != 0:
        raise _failed(one, f"container {one.name} didn't complete successfully: exit {one.exit_code}")
    return ended


def _first_name(replicas: tuple[Container, ...], service: str) -> str:
    return min((one.name for one in replicas), default=f"of service {service}")


def _failed(one: Container, message: str) -> ConditionFailed:
    return ConditionFailed(message, service=one.service, container=one)


_REMEMBERED = 256
"""Removals that are remembered: an observation that began before one of them shows the container still."""


class Board:
    """The live picture of one project's containers. Only for the event loop's own thread."""

    def __init__(self) -> None:
        self._containers: dict[str, Container] = {}
        self._written: dict[str, int] = {}
        self._clock = 0
        self._checks: dict[str, set[Callable[[], None]]] = {}
        self.listeners: list[Listener] = []
        self.on_released: Callable[[], None] = lambda: None
        self._held: dict[str, int] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self.probed: Callable[[str], bool] = lambda _service: False
        self._inherited: dict[str, HealthStatus] = {}

    def get(self, container_id: str) -> Container | None:
        """The container as it is known now."""
        return self._containers.get(container_id)

    def all(self) -> list[Container]:
        """Every container that is known, in the order of their names."""
        return sorted(self._containers.values(), key=lambda one: one.name)

    def of_service(self, service: str) -> list[Container]:
        """The service's replicas; one-off containers are left out."""
        return [one for one in self._containers.values() if one.service == service and not one.oneoff]

    def list_replicas(self, services: Collection[str]) -> list[tuple[str, str]]:
        """Service and name of each replica of `services`, in the order of their names."""
        return [(one.service, one.name) for one in self.all() if one.service in services and not one.oneoff]

    def find(self, name: str) -> Container | None:
        """The container with this name."""
        for one in self._containers.values():
            if one.name == name:
                return one
        return None

    def now(self) -> int:
        """A mark in the board's own time, to be taken before an observation begins."""
        return self._clock

    def put(self, container: Container) -> None:
        """Write what has become of a container."""
        self._clock += 1
        self._written[container.id] = self._clock
        self._store(container)

    def drop(self, container_id: str) -> None:
        """Forget a container that was removed."""
        self._clock += 1
        self._written[container_id] = self._clock
        if len(self._written) > 2 * _REMEMBERED + len(self._containers):
            latest = self._clock - _REMEMBERED
            self._written = {
                key: mark for key, mark in self._written.items() if mark > latest or key in self._containers
            }
        before = self._containers.pop(container_id, None)
        if before is not None:
            self._tell(before, None)

    def set_health(self, container_id: str, health: HealthStatus | None) -> None:
        """Write what a probe found."""
        one = self._containers.get(container_id)
        if one is not None and one.health != health:
            self.put(one.replace(health=health))

    def absorb(self, observed: ObservedState, since: int) -> list[Container]:
        """Take over an observation that began at mark `since`.

        Returns the containers that turn out to have ended although the board has them alive: their end is not written,
        the caller does that once it knows what follows from it.
        """
        ended = []
        seen = set()
        for one in observed.containers:
            seen.add(one.id)
            known = self._containers.get(one.id)
            if self._written.get(one.id, 0) > since:
                continue
            if known is not None and known.alive and not one.alive:
                if known.status != "restarting":
                    ended.append(one)
                continue
            if known is not None and known.alive and one.alive and known.health is not None:
                one = one.replace(health=known.health)
            elif known is None and one.alive and one.health == "unhealthy":
                # A predecessor's verdict. It is asked for again at once; until then nobody gives up because of it.
                self._inherited[one.id] = one.health
                one = one.replace(health="starting")
            if known != one:
                self._store(one)
        for gone in [key for key in self._containers if key not in seen and self._written.get(key, 0) <= since]:
            before = self._containers.pop(gone)
            self._tell(before, None)
        return ended

    def take_inherited(self, container_id: str) -> HealthStatus | None:
        """What a predecessor's probes had found last, where the board does not show that; asked for once."""
        return self._inherited.pop(container_id, None)

    @contextmanager
    def hold(self, container_id: str) -> Iterator[None]:
        """Mark a container whose start is under way: what is heard of its end is dealt with afterwards."""
        self._held[container_id] = self._held.get(container_id, 0) + 1
        try:
            yield
        finally:
            self._held[container_id] -= 1
            if not self._held[container_id]:
                del self._held[container_id]
                for waiter in self._waiters.pop(container_id, ()):
                    if not waiter.done():
                        waiter.set_result(None)
            self.on_released()

    def is_held(self, container_id: str) -> bool:
        """True while a start of the container is under way."""
        return container_id in self._held

    async def released(self, container_id: str) -> None:
        """Return when no start of the container is under way: a stop that overtook it would have stopped nothing."""
        while self.is_held(container_id):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(container_id, []).append(waiter)
            await waiter

    async def wait(self, condition: Condition, service: str) -> None:
        """Return when `condition` holds for the service. ConditionFailed the moment that it no longer can."""
        if condition == "service_healthy" and not self.probed(service):
            # Without a check it never holds; but one that ends at once has a better reason to tell.
            judge = lambda: judge_condition(condition, service, self.of_service(service), probed=True)  # noqa: E731
            with suppress(TimeoutError):
                async with asyncio.timeout(UNPROBED_SECONDS):
                    await self.wait_until([service], judge)
        await self.wait_all({service: condition})

    async def wait_all(self, conditions: Mapping[str, Condition], *, strict: bool = False) -> None:
        """Return when all conditions (by service) hold at one moment. ConditionFailed once one of them cannot."""

        def holds(service: str, condition: Condition) -> bool:
            probed = self.probed(service)
            return judge_condition(condition, service, self.of_service(service), probed=probed, strict=strict)

        # Every one is judged: a failure counts even if another condition does not hold yet.
        await self.wait_until(conditions, lambda: False not in {holds(*one) for one in conditions.items()})

    async def wait_until(self, services: Iterable[str], judge: Callable[[], bool]) -> None:
        """Return when `judge` says so; it is asked on every change of a container of `services`, and may raise
        ConditionFailed."""
        result: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def check() -> None:
            if result.done():
                return
            try:
                if judge():
                    result.set_result(None)
            except ConditionFailed as failure:
                result.set_exception(failure)

        about = tuple(services)
        for service in about:
            self._checks.setdefault(service, set()).add(check)
        try:
            check()
            await result
        finally:
            for service in about:
                self._checks[service].discard(check)

    def _store(self, container: Container) -> None:
        before = self._containers.get(container.id)
        self._containers[container.id] = container
        self._tell(before, container)

    def _tell(self, before: Container | None, after: Container | None) -> None:
        for listener in self.listeners:
            listener(before, after)
        about = after or before
        if about is not None:
            for check in tuple(self._checks.get(about.service, ())):
                check()
