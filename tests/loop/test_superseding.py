"""Two commands at a time: what each gets, and what it is told."""

from __future__ import annotations

import os
from typing import Any

import pytest
from disk_engine import DiskEngine
from test_process import bind, down, eventually, ignore, stack_of, up

from orchestrator.engines.native.layout import Layout
from orchestrator.events import Event
from orchestrator.goal import Goal
from orchestrator.superseding import explain_superseding, list_overridden, merge_goals
from orchestrator.supervision import launch
from orchestrator.supervision.client import Session, converge, query_status

SLOW = {"image": "img", "healthcheck": {"test": ["CMD", "x"], "interval": "1h0m0s"}}
NEEDS = {"db": {"condition": "service_healthy", "required": True}}


def goal(**wants: Any) -> Goal:
    return Goal(stack=stack_of("app", "web"), wants=wants, issued_at=1.0)


def test_what_a_newer_goal_gives_up() -> None:
    both = up(stack_of("app", "web"))
    assert list_overridden(both, both) == ()
    assert list_overridden(both, down(both.stack)) == ("app", "web")
    assert list_overridden(down(both.stack), both) == ("app", "web")
    assert list_overridden(down(both.stack), down(both.stack)) == ()
    assert list_overridden(down(both.stack).replace(remove_volumes=True), down(both.stack)) == ("app", "web")
    assert list_overridden(goal(app="running"), merge_goals(goal(app="running"), goal(web="stopped"))) == ()
    assert list_overridden(goal(app="running"), goal(app="stopped")) == ("app",)
    assert list_overridden(goal(app="stopped"), goal(app="absent")) == ()
    assert list_overridden(goal(app="created"), goal(app="running")) == ()
    assert list_overridden(both, both.replace(scale={"web": 2})) == ("web",)
    assert list_overridden(both, up(stack_of("app", "web", image="other"))) == ("app", "web")
    assert list_overridden(both, up(stack_of("app", "web", environment={"A": "1"}))) == ("app", "web")
    assert list_overridden(both, up(stack_of("web"))) == ("app",)
    assert list_overridden(both, both.replace(recreate="never")) == ("app", "web")


def test_two_that_want_the_same_both_get_their_wishes() -> None:
    both = stack_of("app", "web")
    old = up(both, recreate_before={"app": 5.0}, restart_before={"web": 6.0}, wait_for=("app",))
    merged = merge_goals(old, up(both, recreate_before={"app": 4.0}))
    assert dict(merged.recreate_before) == {"app": 5.0}
    assert dict(merged.restart_before) == {"web": 6.0}
    assert merged.wait_for == ("app",)
    stop = merge_goals(old, goal(app="stopped"))
    assert (dict(stop.recreate_before), dict(stop.restart_before), stop.wait_for) == ({}, {"web": 6.0}, ())


def test_the_sentence_names_a_few() -> None:
    assert "of a, b, c and 2 more:" in explain_superseding(("a", "b", "c", "d", "e"))


def test_a_superseded_command_is_told_at_once(place: Layout, disk: DiskEngine) -> None:
    """Whenever the newer one comes while the older one is at work: the older one fails with one sentence."""
    stack = bind({"db": SLOW, "web": {"image": "img", "depends_on": NEEDS}})
    newer = bind({"db": SLOW, "web": {"image": "other"}})
    heard: list[Event] = []
    reader, writer = os.pipe()
    other = os.fork()
    if other == 0:
        os.read(reader, 1)
        done = converge(up(newer), sink=ignore)
        os._exit(0 if done.converged and not done.superseded else 1)

    def hear(event: Event) -> None:
        heard.append(event)
        if event.action == "wait db healthy" and event.phase == "started":
            os.write(writer, b"x")

    with Session("demo", prepared=launch.prepare()) as session:
        outcome = session.converge(up(stack), hear)
        assert not outcome.converged
        assert outcome.superseded
        assert [one.code for one in outcome.failures] == ["superseded"]
        assert "wants something else of web" in outcome.failures[0].message
        assert heard[-1].kind == "error"
        session.finish()
    assert os.waitpid(other, 0)[1] == 0
    assert [one.image for one in disk.load() if one.service == "web"] == ["other"]
    assert converge(down(newer), sink=ignore).converged


@pytest.mark.parametrize("order", ["older first", "newer first"])
def test_a_crash_does_not_let_the_older_goal_win(place: Layout, disk: DiskEngine, order: str) -> None:
    """Both commands follow their goals to the successor: in whatever order they come, the newer one counts."""
    older, newer = up(stack_of("app", "web")), up(stack_of("app", "web", image="other"))
    assert converge(newer.replace(wants={}), sink=ignore, prepared=launch.prepare()).converged
    assert converge(newer, sink=ignore).converged
    before = query_status("demo")
    assert before is not None

    def resend(one: Goal) -> dict[str, Any]:
        from orchestrator.supervision.control import LineBuffer, Place, connect_control, dump_goal, encode

        connection = connect_control(Place.of("demo", place))
        assert connection is not None
        connection.sendall(encode({"do": "apply", "request": 1, "token": "t", "goal": dump_goal(one), "again": True}))
        buffer = LineBuffer()
        while True:
            for message in buffer.feed(connection.recv(1 << 16)):
                if "settled" in message:
                    connection.close()
                    return dict(message["settled"])

    goals = [older, newer] if order == "older first" else [newer, older]
    answers = {id(one): resend(one) for one in goals}
    assert answers[id(newer)]["converged"]
    assert answers[id(older)]["superseded"]
    assert not answers[id(older)]["converged"]
    eventually(lambda: {one.image for one in disk.load()} == {"other"}, "the newer one counts")
    assert converge(down(newer.stack), sink=ignore).converged
