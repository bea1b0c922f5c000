from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.control_loop.conditions import Board, ConditionFailed, judge_condition
from orchestrator.state import Container, ObservedState


def container(service: str = "db", number: int = 1, **fields: Any) -> Container:
    given = {"status": "running", "started_at": 1.0, **fields}
    return Container(
        id=f"{service}{number}",
        name=f"demo-{service}-{number}",
        project="demo",
        service=service,
        number=number,
        image="img",
        image_id="sha256:1",
        **given,
    )


@pytest.mark.parametrize(
    ("condition", "fields", "holds"),
    [
        ("service_started", {"status": "running"}, True),
        ("service_started", {"status": "created"}, False),
        ("service_started", {"status": "exited", "exit_code": 1}, True),
        ("service_started", {"status": "restarting"}, True),
        ("service_healthy", {"health": "healthy"}, True),
        ("service_healthy", {"health": "starting"}, False),
        ("service_healthy", {"health": None}, False),
        ("service_healthy", {"status": "restarting", "health": "unhealthy"}, False),
        ("service_completed_successfully", {"status": "exited", "exit_code": 0}, True),
        ("service_completed_successfully", {"status": "running"}, False),
        ("service_completed_successfully", {"status": "restarting", "exit_code": 1}, False),
    ],
)
def test_a_condition_holds_or_may_still_come_true(condition: Any, fields: dict[str, Any], holds: bool) -> None:
    assert judge_condition(condition, "db", [container(**fields)], probed=True) is holds


@pytest.mark.parametrize(
    ("condition", "fields", "message"),
    [
        ("service_healthy", {"health": "unhealthy"}, "container demo-db-1 is unhealthy"),
        ("service_healthy", {"status": "exited", "exit_code": 2}, r"demo-db-1 exited \(2\) before it was healthy"),
        (
            "service_completed_successfully",
            {"status": "exited", "exit_code": 3},
            "demo-db-1 didn't complete successfully: exit 3",
        ),
    ],
)
def test_a_condition_that_cannot_come_true_fails_at_once(condition: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConditionFailed, match=message) as caught:
        judge_condition(condition, "db", [container(), container(number=1, **fields)], probed=True)
    assert caught.value.container is not None


def test_waiting_for_health_without_a_healthcheck_is_an_error() -> None:
    with pytest.raises(ConditionFailed, match="has no healthcheck configured"):
        judge_condition("service_healthy", "db", [container()], probed=False)


def test_every_replica_counts() -> None:
    replicas = [container(health="healthy"), container(number=2, health="starting")]
    assert judge_condition("service_healthy", "db", replicas, probed=True) is False


def test_wait_wants_it_to_stay_running_or_to_succeed() -> None:
    for ended in (container(status="exited", exit_code=1), container(status="exited", exit_code=0, hold=True)):
        with pytest.raises(ConditionFailed, match=r"demo-db-1 exited \(\d\)"):
            judge_condition("service_started", "db", [ended], probed=False, strict=True)
    done = container(status="exited", exit_code=0)
    assert judge_condition("service_started", "db", [done], probed=False, strict=True)
    assert not judge_condition("service_started", "db", [container(status="restarting")], probed=False, strict=True)


def test_a_wait_ends_with_the_change_that_decides_it() -> None:
    async def scenario() -> None:
        board = Board()
        board.probed = lambda _service: True
        board.put(container(health="starting"))
        waiting = asyncio.create_task(board.wait("service_healthy", "db"))
        await asyncio.sleep(0)
        assert not waiting.done()
        board.put(container("web"))
        board.set_health("db1", "healthy")
        await asyncio.wait_for(waiting, 1)
        doomed = asyncio.create_task(board.wait("service_completed_successfully", "db"))
        await asyncio.sleep(0)
        board.put(container(status="exited", exit_code=9))
        with pytest.raises(ConditionFailed):
            await asyncio.wait_for(doomed, 1)

    asyncio.run(scenario())


def observed(*containers: Container) -> ObservedState:
    return ObservedState(project="demo", containers=containers)


def test_an_old_observation_does_not_overwrite_what_happened_since() -> None:
    board = Board()
    board.put(container(status="created"))
    since = board.now()
    board.put(container(status="running"))
    assert board.absorb(observed(container(status="created")), since) == []
    assert board.get("db1") == container(status="running")


def test_an_end_that_an_observation_brings_to_light_is_returned_and_not_written() -> None:
    board = Board()
    board.put(container())
    ended = container(status="exited", exit_code=4)
    assert board.absorb(observed(ended), board.now()) == [ended]
    assert board.get("db1") == container()


def test_what_is_not_there_any_more_is_forgotten() -> None:
    board = Board()
    board.put(container())
    board.absorb(observed(), board.now())
    assert board.all() == []


def test_removals_are_remembered_for_observations_that_began_before_them_but_not_for_ever() -> None:
    board = Board()
    board.put(container("web"))
    for number in range(3000):
        board.put(container(number=number))
        since = board.now()
        board.drop(container(number=number).id)
    late = ObservedState(project="demo", containers=(container("web"), container(number=2999)))
    board.absorb(late, since)
    assert [one.service for one in board.all()] == ["web"]
    assert len(board._written) < 1000
