"""What random runs have found, as small stories."""

from __future__ import annotations

import pytest
from plan_runner import Runner
from stacks import bind_stack, want_all

from orchestrator.control_loop.failures import Failure
from orchestrator.control_loop.rollback import plan_rollback
from orchestrator.goal import Goal
from orchestrator.model import Stack
from orchestrator.supervision.control import dump_goal, load_goal
from reconcile.random_stacks import load_document


@pytest.fixture
def runner() -> Runner:
    found = Runner()
    for reference in ("x:1", "x:2"):
        found.engine.publish_image(reference, local=True)
    return found


def load(services: dict[str, object], networks: dict[str, object] | None = None) -> Stack:
    return load_document({"services": services, "networks": networks or {}})


ROLLING = {"deploy": {"update_config": {"parallelism": 1}}}


def test_a_rolling_update_of_a_service_with_pre_start_has_no_circle(runner: Runner) -> None:
    def web(image: str) -> Stack:
        return load({"web": {"image": image, "scale": 2, "pre_start": [{"command": ["true"]}], **ROLLING}})

    runner.converge(want_all(web("x:1"), runner.clock()))
    plan = {one.id: one for one in runner.plan(want_all(web("x:2"), runner.clock()))}
    assert "create web-1" in plan["pre_start web 0"].needs
    assert "create web-2" not in plan["pre_start web 0"].needs


def test_a_rolling_update_on_a_network_that_is_made_anew_goes_all_at_once(runner: Runner) -> None:
    def web(image: str, internal: bool) -> Stack:
        service = {"image": image, "scale": 2, "networks": ["back"], **ROLLING}
        return load({"web": service}, {"back": {"internal": internal}})

    runner.converge(want_all(web("x:1", False), runner.clock()))
    goal = want_all(web("x:2", True), runner.clock())
    assert [one.id for one in runner.plan(goal) if one.id.startswith("settle")] == ["settle web 1/1"]
    runner.converge(goal)
    assert not runner.plan(goal)


def test_a_service_that_becomes_provided_loses_its_containers(runner: Runner) -> None:
    runner.converge(want_all(bind_stack({"db": {"image": "x:1"}}), runner.clock()))
    runner.converge(want_all(load({"db": {"provider": {"type": "cloud"}}}), runner.clock()))
    assert runner.states() == {}


def test_a_container_is_started_by_the_name_that_it_has(runner: Runner) -> None:
    first = load({"j": {"image": "x:1", "container_name": "own"}, "k": {"image": "x:1"}})
    runner.converge(want_all(first, runner.clock(), "created"))
    second = load({"j": {"image": "x:1"}, "k": {"image": "x:1", "container_name": "own"}})
    goal = want_all(second, runner.clock(), recreate="never")
    plan = {one.id: one for one in runner.plan(goal)}
    assert plan["start k-1"].container_name == "app-k-1"  # type: ignore[attr-defined]
    assert plan["start j-1"].container_name == "app-j-1"  # type: ignore[attr-defined]
    assert "rename j-1" in plan["start j-1"].needs
    runner.converge(goal)
    assert {one.service: one.name for one in runner.engine.observe("app").containers} == {"j": "app-j-1", "k": "own"}


def test_a_name_that_is_free_only_after_a_provider_has_answered_is_waited_for(runner: Runner) -> None:
    cloud = {"provider": {"type": "cloud"}}
    first = {"a": {"image": "x:1", "depends_on": ["e"], "container_name": "own"}, "e": cloud}
    goal = want_all(load(first), runner.clock())
    runner.converge(goal)
    second = {"a": {"image": "x:1", "depends_on": ["e"]}, "d": {"image": "x:1", "container_name": "own"}, "e": cloud}
    goal = want_all(load(second), runner.clock())
    runner.converge(goal)
    assert not runner.failed
    assert runner.states() == {"app-a-1": "running", "own": "running"}


def test_a_pre_start_container_that_a_crash_left_behind_is_an_orphan(runner: Runner) -> None:
    stack = load({"web": {"image": "x:1", "pre_start": [{"command": ["sleep", "infinity"]}]}})
    goal = want_all(stack, runner.clock())
    init = next(one for one in runner.plan(goal) if one.id == "pre_start web 0")
    runner.converge(goal)
    from orchestrator.plan import CreateContainer

    left = CreateContainer(
        id="x",
        subject=init.subject,
        cause="x",
        service=init.service,  # type: ignore[attr-defined]
        number=1,
        container_name=init.subject,
        config_hash="",
        oneoff=True,
    )
    runner.engine.create_container(stack, left)
    other = load({"other": {"image": "x:1"}})
    runner.converge(want_all(other, runner.clock(), remove_orphans=True))
    assert runner.states() == {"app-other-1": "running"}


def test_the_way_back_brings_the_networks_that_it_needs_and_survives_a_crash() -> None:
    before = load({"web": {"image": "x:1", "networks": ["old"]}}, {"old": {}})
    after = load({"web": {"image": "x:2", "deploy": {"update_config": {"failure_action": "rollback"}}}})
    good = Goal(stack=before, wants={"web": "running"}, issued_at=1.0)
    goal = Goal(stack=after, wants={"web": "running"}, issued_at=2.0)
    failure = Failure(code="dependency-failed", message="it failed", service="web")
    back = plan_rollback(goal, good, [failure], {"web": "sha256:abc"}, 3.0)
    assert back is not None
    assert set(back.stack.networks) == {"old", "default"} or set(back.stack.networks) == {"old"}
    again = load_goal(dump_goal(back))
    assert again.stack.services["web"].image == "sha256:abc"
    assert again.stack.networks["old"].name == "app_old"
