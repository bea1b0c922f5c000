"""The attached ``up`` as a state machine: converge, follow, Ctrl-C once, twice, three times, exit codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.actions.up import KILLING, STOPPING, AttachedUp, UpResult, choose_attached
from orchestrator.errors import StackError
from orchestrator.events import Event
from orchestrator.goal import Goal
from orchestrator.model import Service, Stack
from orchestrator.state import Container
from orchestrator.supervision.client import Outcome

from .conftest import make_container

STACK = Stack(name="shop", services={name: Service(name=name) for name in ("db", "web")})
GOAL = Goal(stack=STACK, wants={"db": "running", "web": "running"}, scale={"web": 2})

Step = Callable[[Goal | None, Callable[[Event], None]], Any]


class PlayedSession:
    """Plays one step per call; a step may send events, raise, or return the outcome."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.goals: list[Goal] = []

    def converge(self, goal: Goal, sink: Callable[[Event], None], *, timeout: float | None = None) -> Outcome:
        self.goals.append(goal)
        outcome = self.steps.pop(0)(goal, sink)
        return outcome if isinstance(outcome, Outcome) else Outcome(converged=True)

    def follow(self, sink: Callable[[Event], None], *, until: Callable[[Event], bool]) -> bool:
        def hear(event: Event) -> None:
            sink(event)
            if until(event):
                raise StopIteration

        try:
            self.steps.pop(0)(None, hear)
        except StopIteration:
            return True
        return False


def ctrl_c(_goal: object, _sink: object) -> None:
    raise KeyboardInterrupt


def fine(_goal: object, _sink: object) -> None:
    return None


def die(service: str, code: int) -> Event:
    return Event(
        time=0.0,
        kind="container",
        action="die",
        service=service,
        subject=f"shop-{service}-1",
        details={"exit_code": code},
    )


def run(
    session: PlayedSession,
    status: dict[str, Any] | None = None,
    goal: Goal = GOAL,
    containers: tuple[Container, ...] = (),
    **options: Any,
) -> tuple[UpResult, list[str]]:
    said: list[str] = []
    up = AttachedUp(
        session,  # type: ignore[arg-type]
        goal,
        watched=tuple(goal.wants),
        remark=said.append,
        query_status=lambda _project: status,
        observe=lambda: containers,
        **{"sink": lambda _event: None, **options},
    )
    return up.run(), said


def alive(*services: str) -> dict[str, Any]:
    return {
        "settled": True,
        "containers": {name: {"service": name, "status": "running"} for name in services},
    }


def test_the_first_ctrl_c_stops_everything_that_was_brought_up() -> None:
    session = PlayedSession(fine, ctrl_c, fine)
    result, said = run(session, alive("db", "web"))
    assert (result.exit_code, result.interrupted) == (130, True)
    assert said == [STOPPING]
    stop = session.goals[-1]
    assert stop.wants == {"db": "stopped", "web": "stopped"}
    assert stop.stop_timeout is None
    # A scale given before is not forgotten by the stop.
    assert stop.scale == {"web": 2}


def test_ctrl_c_while_it_is_still_starting() -> None:
    session = PlayedSession(ctrl_c, fine)
    result, said = run(session)
    assert result.exit_code == 130
    assert said == [STOPPING]


def test_the_second_ctrl_c_kills() -> None:
    session = PlayedSession(fine, ctrl_c, ctrl_c, fine)
    result, said = run(session, alive("db"))
    assert result.exit_code == 130
    assert said == [STOPPING, KILLING]
    assert session.goals[-1].stop_timeout == 0


def test_the_third_ctrl_c_leaves() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(PlayedSession(fine, ctrl_c, ctrl_c, ctrl_c), alive("db"))


def test_it_ends_when_the_last_watched_container_has_ended() -> None:
    status = alive("db", "web")

    def end_both(_goal: object, hear: Callable[[Event], None]) -> None:
        status["containers"]["web"]["status"] = "exited"
        hear(die("web", 1))
        status["containers"]["db"]["status"] = "restarting"
        hear(die("db", 1))
        status["containers"]["db"]["status"] = "exited"
        hear(die("db", 2))
        raise AssertionError("it went on")

    result, said = run(PlayedSession(fine, end_both), status)
    assert (result.exit_code, said) == (0, [])


def test_nothing_to_follow_when_all_has_ended_already() -> None:
    assert run(PlayedSession(fine), alive())[0].exit_code == 0
    assert run(PlayedSession(fine), None)[0].exit_code == 0


def test_exit_codes() -> None:
    def abort(_goal: object, sink: Callable[[Event], None]) -> None:
        sink(die("web", 4))
        sink(Event(time=0.0, kind="message", action="abort", details={"exit_code": 4}))
        sink(die("db", 137))

    assert run(PlayedSession(abort), alive())[0].exit_code == 4
    assert run(PlayedSession(abort), alive(), exit_code_from="db")[0].exit_code == 137


def test_an_end_whose_event_was_missed_counts_all_the_same() -> None:
    ended = (
        make_container("db", status="exited", exit_code=0, finished_at=6.0),
        make_container("web", status="exited", exit_code=3, finished_at=7.0),
        make_container("job", status="exited", exit_code=9, finished_at=1.0),
    )
    goal = GOAL.replace(issued_at=5.0)
    heard: list[str] = []

    def ran(abort: str, **options: Any) -> int:
        goal_now = goal.replace(abort_on_exit=abort)
        return run(
            PlayedSession(fine), alive(), goal_now, ended, sink=lambda one: heard.append(one.subject), **options
        )[0].exit_code

    assert ran("failure") == 3
    assert heard == ["shop-db-1", "shop-web-1"]
    assert ran("any") == 0
    assert ran("any", exit_code_from="web") == 3
    assert ran("") == 0


def test_what_was_started_stays_after_a_failure_unless_it_is_to_abort() -> None:
    def fail(_goal: object, _sink: object) -> Outcome:
        return Outcome(converged=False)

    session = PlayedSession(fail)
    assert run(session)[0].exit_code == 1
    assert len(session.goals) == 1
    session = PlayedSession(fail, fine)
    assert run(session, goal=GOAL.replace(abort_on_exit="failure"))[0].exit_code == 1
    assert session.goals[-1].wants == {"db": "stopped", "web": "stopped"}


def test_whose_output_is_shown() -> None:
    stack = STACK.replace(services={**STACK.services, "quiet": Service(name="quiet", attach=False)})
    wanted = ("db", "quiet", "web")
    assert choose_attached(stack, wanted, ()) == {"db", "web"}
    assert choose_attached(stack, wanted, ("web",)) == {"web"}
    assert choose_attached(stack, wanted, ("web",), dependencies=True) == {"db", "web"}
    assert choose_attached(stack, wanted, (), attach=("quiet",)) == {"quiet"}
    assert choose_attached(stack, wanted, (), no_attach=("db",)) == {"web"}
    with pytest.raises(StackError, match="no such service: wbe"):
        choose_attached(stack, wanted, (), attach=("wbe",))
