from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.control_loop.executor import Execution, PlanOutcome, Progress
from orchestrator.errors import EngineError, NotFound
from orchestrator.events import Event
from orchestrator.model import Service
from orchestrator.plan import CreateContainer, Operation, Plan, RemoveNetwork, StartContainer, WaitFor


def operation(key: str, *needs: str) -> Operation:
    return RemoveNetwork(id=key, subject=key, cause="a test", needs=needs, name=key)


class World:
    """Performs operations; each lasts until the test lets it go, unless it is in `quick`."""

    def __init__(self, *, failing: Mapping[str, Exception] | None = None, held: tuple[str, ...] = ()) -> None:
        self.failing = failing or {}
        self.gates = {key: asyncio.Event() for key in held}
        self.events: list[Event] = []
        self.began: list[str] = []
        self.changed = asyncio.Condition()

    async def perform(self, one: Operation, progress: Progress) -> None:
        self.began.append(one.id)
        if one.id in self.gates:
            await self.gates[one.id].wait()
        if one.id in self.failing:
            raise self.failing[one.id]

    def phases(self, key: str) -> list[str]:
        return [one.phase or "" for one in self.events if one.action == key]

    def execution(self, *operations: Operation, parallel: int = 0) -> Execution:
        return Execution(Plan(operations=operations), self.perform, self.events.append, parallel=parallel)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def run(work: Any) -> Any:
    return asyncio.run(work)


def test_an_operation_starts_when_its_own_prerequisites_succeeded_not_level_by_level() -> None:
    async def scenario() -> None:
        world = World(held=("slow",))
        plan = world.execution(
            operation("slow"), operation("fast"), operation("after fast", "fast"), operation("x", "slow")
        )
        running = asyncio.create_task(plan.run())
        await settle()
        assert world.began == ["slow", "fast", "after fast"]
        assert plan.pending() == {"x": ("slow",)}
        world.gates["slow"].set()
        outcome: PlanOutcome = await running
        assert outcome.succeeded == ("fast", "after fast", "slow", "x")
        assert not outcome.failed and not outcome.cancelled

    run(scenario())


def test_a_failure_cancels_what_depends_on_it_and_nothing_else() -> None:
    async def scenario() -> None:
        world = World(failing={"b": NotFound("no b")})
        outcome = await world.execution(
            operation("a"), operation("b"), operation("c", "b"), operation("d", "c", "a"), operation("e", "a")
        ).run()
        assert set(outcome.succeeded) == {"a", "e"}
        assert list(outcome.failed) == ["b"]
        assert set(outcome.cancelled) == {"c", "d"}
        assert world.phases("b") == ["started", "failed"]
        assert world.phases("d") == ["cancelled"]
        reason = next(one.message for one in world.events if one.action == "c")
        assert "b failed" in reason

    run(scenario())


def test_an_unexpected_exception_fails_its_operation_only(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        world = World(failing={"a": ZeroDivisionError("oops")})
        outcome = await world.execution(operation("a"), operation("b")).run()
        assert isinstance(outcome.failed["a"], EngineError)
        assert outcome.succeeded == ("b",)

    run(scenario())
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_dropping_lets_running_operations_finish_and_starts_no_more() -> None:
    async def scenario() -> None:
        world = World(held=("a",))
        wait = WaitFor(id="w", subject="db", cause="a test", service="db", condition="service_started")
        world.gates["w"] = asyncio.Event()
        plan = world.execution(operation("a"), operation("b", "a"), wait, operation("c", "w"))
        running = asyncio.create_task(plan.run())
        await settle()
        plan.drop_pending("the goal was changed")
        await settle()
        assert not running.done()
        world.gates["a"].set()
        outcome = await running
        assert outcome.dropped
        assert outcome.succeeded == ("a",)
        assert set(outcome.cancelled) == {"b", "w", "c"}
        assert world.began == ["a", "w"]

    run(scenario())


def test_an_optional_wait_is_skipped_when_what_it_waits_for_could_not_start() -> None:
    async def scenario() -> None:
        world = World(failing={"start db": NotFound("no db")})
        start = StartContainer(
            id="start db", subject="db-1", cause="a test", container_name="db-1", service="db", number=1
        )
        wait = WaitFor(
            id="w",
            subject="db",
            cause="a test",
            needs=("start db",),
            service="db",
            condition="service_healthy",
            required=False,
        )
        outcome = await world.execution(start, wait, operation("web", "w")).run()
        assert list(outcome.failed) == ["start db"]
        assert set(outcome.succeeded) == {"w", "web"}
        assert world.phases("w") == ["skipped"]

    run(scenario())


def test_a_plan_with_a_cycle_or_a_missing_prerequisite_is_refused() -> None:
    async def scenario() -> None:
        world = World()
        with pytest.raises(ValueError, match="cycle"):
            await world.execution(operation("a", "b"), operation("b", "a")).run()
        with pytest.raises(ValueError, match="not in the plan"):
            world.execution(operation("a", "nothing"))

    run(scenario())


def test_no_more_run_at_a_time_than_were_asked_for() -> None:
    async def scenario() -> None:
        world = World(held=("a", "b", "c", "wait"))
        waiting = WaitFor(id="wait", subject="db", cause="a test", service="db", condition="service_healthy")
        plan = world.execution(*(operation(key) for key in "abc"), waiting, operation("d", "c"), parallel=2)
        running = asyncio.create_task(plan.run())
        await settle()
        # Waiting takes no place.
        assert world.began == ["a", "b", "wait"]
        world.gates["b"].set()
        await settle()
        assert world.began == ["a", "b", "wait", "c"]
        world.gates["c"].set()
        await settle()
        assert world.began[-1] == "d"
        # What waits for its turn is not begun once the goal has changed.
        world = World(held=("a",))
        plan = world.execution(operation("a"), operation("b"), parallel=1)
        dropped = asyncio.create_task(plan.run())
        await settle()
        plan.drop_pending("the goal was changed")
        world.gates["a"].set()
        assert (await dropped).cancelled == ("b",)
        assert world.began == ["a"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(scenario())


def start(name: str, *needs: str) -> StartContainer:
    return StartContainer(
        id=f"start {name}", subject=name, cause="a test", needs=needs, container_name=name, service=name, number=1
    )


def create(name: str, *needs: str, replaces: str | None = None) -> CreateContainer:
    return CreateContainer(
        id=f"create {name}",
        subject=name,
        cause="a test",
        needs=needs,
        service=Service(name=name),
        number=1,
        container_name=name,
        config_hash="",
        replaces=replaces,
    )


def foreseen(*operations: Operation, parallel: int = 0, failing: Mapping[str, Exception] | None = None) -> list[str]:
    found: list[str] = []
    world = World(failing=failing)
    plan = Plan(operations=operations)
    execution = Execution(
        plan, world.perform, world.events.append, parallel=parallel, foresee=lambda one: found.append(one.id)
    )
    run(execution.run())
    return found


def test_a_start_that_only_waits_for_other_services_is_foreseen() -> None:
    chain = (
        operation("network"),
        create("a", "network"),
        start("a", "create a"),
        create("b", "network"),
        start("b", "create b", "start a"),
    )
    assert foreseen(*chain) == ["start b"]
    assert foreseen(*chain, parallel=1) == []


def test_a_start_that_takes_a_place_or_waits_for_more_is_not_foreseen() -> None:
    assert foreseen(create("a"), start("a", "create a", "gone"), operation("gone", "create a")) == []
    assert foreseen(start("x"), create("a", replaces="old"), start("a", "create a", "start x")) == []
    refused = {"start x": NotFound("no", resource="x", operation="start")}
    late = (start("x"), operation("slow", "start x"), create("a"), start("a", "create a", "slow"))
    assert foreseen(*late, failing=refused) == []
