"""Whatever the stack, the edits, the order of completion and the moment of a crash: the next cycles converge."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from plan_runner import Crash, Runner
from stacks import bind_stack, want_all

from orchestrator.digest import config_hash
from orchestrator.errors import Conflict
from orchestrator.goal import Goal
from orchestrator.model import Stack

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
NAMES = ("a", "b", "c", "d", "e")
CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    """Up to five services; each may depend on those before it in a random order of names."""
    names = draw(st.permutations(NAMES))[: draw(st.integers(1, 5))]
    jobs = {name for name in names if draw(st.integers(0, 4)) == 0}
    found: dict[str, Any] = {}
    for place, name in enumerate(names):
        one: dict[str, Any] = {"environment": {"V": draw(st.integers(0, 2))}}
        if name not in jobs:
            one["healthcheck"] = "true"
        one["image"] = draw(st.sampled_from(["x:1", "x:2", "y:1"]))
        one["depends_on"] = {}
        for other in draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else ():
            conditions = ("service_started", CONDITIONS[2]) if other in jobs else CONDITIONS[:2]
            one["depends_on"][other] = {
                "condition": draw(st.sampled_from(conditions)),
                "required": draw(st.integers(0, 3)) > 0,
                "restart": draw(st.booleans()),
            }
        base = draw(st.sampled_from(names[:place])) if place else None
        if base is not None and base not in jobs and name not in jobs and draw(st.integers(0, 4)) == 0:
            one["network_mode"] = f"service:{base}"
        else:
            one["networks"] = draw(st.lists(st.sampled_from(["n1", "n2"]), unique=True))
            one["scale"] = 1 if name in jobs else draw(st.sampled_from([1, 1, 2, 3, 0]))
            port = draw(st.sampled_from([None, None, "8001:80", "8002:80", "8003:80"]))
            if port and one["scale"] == 1 and not any(port in other.get("ports", ()) for other in found.values()):
                one["ports"] = [port]
        if draw(st.integers(0, 4)) == 0 and one.get("scale", 1) == 1:
            named = draw(st.sampled_from(["own", "other"]))
            if not any(other.get("container_name") == named for other in found.values()):
                one["container_name"] = named
        one["volumes"] = draw(st.sampled_from([[], ["data:/data"], ["/anonymous"]]))
        one["restart"] = "no" if name in jobs else draw(st.sampled_from(["no", "always"]))
        found[name] = one
    return found


@st.composite
def stacks(draw: st.DrawFn) -> Stack:
    """A stack, its networks in one of two configurations."""
    return bind_stack(draw(services()), {"n1": {"internal": draw(st.booleans())}, "n2": {}})


@st.composite
def goals(draw: st.DrawFn, stack: Stack, now: float) -> Goal:
    """Something that a command could ask of the stack."""
    names = sorted(stack.services)
    some = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    kind = draw(st.sampled_from(["up", "up", "up", "recreate", "restart", "renew", "stop", "create", "rm"]))
    orphans = draw(st.booleans())
    match kind:
        case "recreate":
            return want_all(stack, now, recreate_before=dict.fromkeys(some, now), remove_orphans=orphans)
        case "restart":
            return want_all(stack, now, restart_before=dict.fromkeys(some, now), remove_orphans=orphans)
        case "renew":
            return want_all(stack, now, renew_volumes_before=dict.fromkeys(some, now), remove_orphans=orphans)
        case "stop":
            return Goal(stack=stack, wants=dict.fromkeys(some, "stopped"), issued_at=now)
        case "create":
            return want_all(stack, now, "created", remove_orphans=orphans)
        case "rm":
            return Goal(stack=stack, wants=dict.fromkeys(some, "absent"), issued_at=now)
    return want_all(stack, now, remove_orphans=orphans, pull=draw(st.sampled_from(["policy", "always"])))


def check_reached(runner: Runner, goal: Goal) -> None:
    """The observed state is what the goal asks for."""
    observed = runner.engine.observe("app", goal.stack)
    for name, want in goal.wants.items():
        containers = observed.of_service(name)
        service = goal.stack.services[name]
        if want == "absent":
            assert not containers
        elif want == "stopped":
            assert not any(one.alive for one in containers)
        else:
            assert len(containers) == goal.replicas(name)
            for one in containers:
                assert one.config_hash == config_hash(service, goal.stack)
                assert one.image_id == observed.images[service.image or ""].id  # type: ignore[union-attr]
                assert one.name == (service.container_name or f"app-{name}-{one.number}")
                done = one.status == "exited" and (one.exit_code == 0 or one.finished_at >= goal.issued_at)
                assert want == "created" or one.alive or done
    if goal.remove_orphans:
        assert {one.service for one in observed.containers} <= goal.stack.services.keys()


@settings(
    max_examples=int(os.environ.get("EXAMPLES", "60")),
    deadline=None,
    phases=PHASES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_every_goal_is_reached_from_everywhere(data: st.DataObject) -> None:
    runner = Runner()
    runner.tell = note
    for reference in ("x:1", "x:2", "y:1"):
        runner.engine.publish_image(reference)
    order = data.draw(st.randoms(use_true_random=False))
    runner.pick = lambda count: order.randrange(count)
    goal = None
    for _ in range(data.draw(st.integers(1, 4))):
        stack = data.draw(stacks())
        goal = data.draw(goals(stack, runner.clock()))
        runner.crash_after = data.draw(st.none() | st.integers(0, 12))
        try:
            runner.converge(goal)
        except Crash:
            runner.crash_after = None
            if data.draw(st.booleans()):
                continue
            runner.converge(goal)
        if not runner.failed:
            assert not runner.plan(goal), "a second plan is empty"
            check_reached(runner, goal)
        else:
            # Only what this goal leaves alone may be in the way.
            assert not goal.remove_orphans, runner.failed
            assert all(type(error) is Conflict for error in runner.failed.values()), runner.failed
        runner.crash_after = None
        alive = [one for one in runner.engine.observe("app").containers if one.alive]
        if alive and data.draw(st.booleans()):
            runner.engine.exit(data.draw(st.sampled_from(alive)).id, data.draw(st.sampled_from([0, 1])))
    assert goal is not None
    runner.converge(Goal(stack=goal.stack, down=True, remove_volumes=True, issued_at=runner.clock()))
    left = runner.engine.observe("app")
    assert not (left.containers or left.networks or left.volumes), "down leaves nothing"
