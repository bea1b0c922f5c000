"""When images are built and fetched, in which order, and what follows from that."""

from __future__ import annotations

import pytest
from plan_runner import Runner
from stacks import bind_stack, want_all

from orchestrator.errors import ModelError, NotFound
from orchestrator.goal import Goal
from orchestrator.model import Stack
from orchestrator.plan import BuildImage


@pytest.fixture
def runner() -> Runner:
    found = Runner()
    for reference in ("web:1", "db:1"):
        found.engine.publish_image(reference, local=True)
    return found


def up(runner: Runner, stack: Stack, **fields: object) -> list[str]:
    """Converge to `up` and return the ids of all operations."""
    plans = runner.converge(want_all(stack, runner.clock(), **fields))
    assert not runner.failed, runner.failed
    return [one.id for plan in plans for one in plan]


def build_now(runner: Runner, stack: Stack) -> dict[str, object]:
    """The goal's fields for ``up --build``."""
    return {"build_before": {name: runner.clock() for name, one in stack.services.items() if one.build}}


def test_a_missing_image_is_built_and_one_that_is_here_is_left_alone(runner: Runner) -> None:
    stack = bind_stack({"web": {"build": "."}})
    assert up(runner, stack)[0] == "build web"
    assert up(runner, stack) == []


def test_up_build_builds_once_and_recreates_what_got_another_image(runner: Runner) -> None:
    stack = bind_stack({"web": {"build": "."}, "db": {}})
    up(runner, stack)
    goal = want_all(stack, runner.clock(), **build_now(runner, stack))
    first, second = runner.converge(goal)
    assert [(one.id, one.cause) for one in first] == [("build web", "a build was asked for")]
    assert [one.id for one in second] == ["create web-1", "stop web-1", "remove web-1", "start web-1"]
    assert second.operations[0].cause.startswith("image changed: app-web was ")
    assert not runner.plan(goal)


def test_one_build_serves_every_service_of_its_image(runner: Runner) -> None:
    stack = bind_stack({"web": {"build": ".", "image": "shop:1"}, "worker": {"image": "shop:1"}})
    plan = {one.id: one for one in runner.plan(want_all(stack, 1.0))}
    assert [one for one in plan if one.startswith(("build", "pull"))] == ["build web"]
    assert "build web" in plan["create worker-1"].needs
    assert "build web" in plan["create web-1"].needs
    other = bind_stack({"web": {"build": ".", "image": "shop:1"}, "api": {"build": "api", "image": "shop:1"}})
    found = runner.plan(want_all(other, 1.0))
    assert [one.id for one in found if isinstance(one, BuildImage)] == ["build api"]
    assert [one.code for one in found.warnings] == ["image-built-twice"]


def test_a_service_is_built_after_those_that_it_is_built_from(runner: Runner) -> None:
    services = {
        "web": {"build": {"context": ".", "additional_contexts": {"base": "service:base", "x": "./x"}}},
        "base": {"build": {"context": "base", "additional_contexts": {"os": "service:os"}}},
        "os": {"build": "os"},
    }
    stack = bind_stack(services)
    goal = Goal(stack=stack, wants={"web": "running"}, issued_at=1.0)
    plan = {one.id: one for one in runner.plan(goal)}
    assert plan["build web"].needs == ("build base",)
    assert plan["build base"].needs == ("build os",)
    assert plan["build os"].cause == "the image of base is built from it"
    assert not [one for one in plan if "base-1" in one or "os-1" in one], "what is only built from is not run"
    runner.converge(goal)
    assert not runner.plan(goal)


@pytest.mark.parametrize(
    ("services", "code"),
    [
        ({"a": {"build": {"additional_contexts": {"x": "service:gone"}}}}, "no-such-service"),
        ({"a": {"build": {"additional_contexts": {"x": "service:db"}}}, "db": {}}, "not-built"),
        ({"a": {"build": {"additional_contexts": {"x": "service:a"}}}}, "build-cycle"),
        (
            {
                "a": {"build": {"additional_contexts": {"x": "service:b"}}},
                "b": {"build": {"additional_contexts": {"x": "service:a"}}},
            },
            "build-cycle",
        ),
    ],
)
def test_what_cannot_be_built_from_is_refused(runner: Runner, services: dict[str, object], code: str) -> None:
    with pytest.raises(ModelError) as caught:
        runner.plan(want_all(bind_stack(services), 1.0))
    assert {one.code for one in caught.value.diagnostics} == {code}


def test_an_image_with_a_name_of_its_own_is_asked_of_its_registry_first(runner: Runner) -> None:
    named = bind_stack({"web": {"build": ".", "image": "shop:1"}})

    def first(stack: Stack, **fields: object) -> BuildImage:
        found = runner.plan(want_all(stack, 1.0, **fields)).operations[0]
        assert isinstance(found, BuildImage)
        return found

    assert first(named).pull_first
    assert not first(named, build_before={"web": 1.0}).pull_first
    assert not first(named, pull="never").pull_first
    assert not first(bind_stack({"web": {"build": ".", "image": "shop:1", "pull_policy": "build"}})).pull_first
    assert not first(bind_stack({"web": {"build": "."}})).pull_first


def test_the_policies_of_images_that_are_here(runner: Runner) -> None:
    def ids(policy: str, **more: object) -> list[str]:
        return up(runner, bind_stack({"web": {"image": "web:1", "pull_policy": policy, **more}}))

    up(runner, bind_stack({"web": {"image": "web:1", "pull_policy": "always"}}))
    for policy in ("missing", "never", "daily", "weekly", "every_1h30m", "build"):
        assert ids(policy) == [], policy
    assert ids("always") == ["pull web:1"]
    assert ids("refresh", pull_refresh_after="12h") == []
    runner.clock.now += 12 * 3600
    assert ids("refresh", pull_refresh_after="1d") == []
    assert ids("refresh", pull_refresh_after="12h") == ["pull web:1"]
    runner.clock.now += 86400
    assert ids("weekly") == []
    assert ids("daily") == ["pull web:1"]


def test_what_was_loaded_is_as_fresh_as_what_was_fetched(runner: Runner) -> None:
    facts = runner.engine.publish_image("web:2")
    runner.engine._images["web:2"] = facts.replace(tagged_at=runner.clock())
    daily = bind_stack({"web": {"image": "web:2", "pull_policy": "daily"}})
    assert "pull web:2" not in up(runner, daily)
    runner.clock.now += 86400
    assert up(runner, daily) == ["pull web:2"]
    runner.engine._images["web:2"] = facts.replace(tagged_at=runner.clock())
    assert up(runner, bind_stack({"web": {"image": "web:2", "pull_policy": "always"}})) == ["pull web:2"]


def test_pull_policy_build_builds_once_per_command(runner: Runner) -> None:
    stack = bind_stack({"web": {"build": ".", "pull_policy": "build"}})
    up(runner, stack)
    assert up(runner, stack)[0] == "build web"
    stopped = Goal(stack=stack, wants={"web": "running"}, issued_at=runner.clock(), recreate="never")
    assert not runner.plan(stopped), "commands that are about what exists fetch and build nothing"


def test_always_fetches_or_else_builds_what_can_be_built(runner: Runner) -> None:
    stack = bind_stack({"web": {"build": ".", "image": "shop:1", "pull_policy": "always"}})
    up(runner, stack)
    goal = want_all(stack, runner.clock())
    assert [(one.id, one.pull_first) for one in runner.plan(goal)] == [("build web", True)]  # type: ignore[attr-defined]
    runner.converge(goal)
    assert not runner.plan(goal)


def test_no_build_builds_nothing(runner: Runner) -> None:
    stack = bind_stack({"web": {"build": "."}})
    with pytest.raises(NotFound, match="--no-build forbids to build it"):
        runner.plan(want_all(stack, 1.0, build="never"))
    named = bind_stack({"web": {"build": ".", "image": "web:2"}})
    assert runner.plan(want_all(named, 1.0, build="never")).operations[0].id == "pull web:2"
    up(runner, stack)
    assert up(runner, stack, build="never", pull="always") == []


def test_images_that_are_mounted_are_fetched_or_built_first(runner: Runner) -> None:
    runner.engine.publish_image("data:1")
    volumes = ["image=data:1", "image=app-tools"]
    services = {"web": {"image": "web:1", "volumes": volumes}, "tools": {"build": "tools"}}
    stack = bind_stack(services)
    goal = Goal(stack=stack, wants={"web": "running"}, issued_at=1.0)
    plan = {one.id: one for one in runner.plan(goal)}
    assert {"pull data:1", "build tools"} <= set(plan["create web-1"].needs)
    assert plan["pull data:1"].cause == "image data:1, which web mounts, is not here yet"
    runner.converge(goal)
    assert not runner.plan(goal)
    with pytest.raises(NotFound, match="--pull never forbids"):
        runner.plan(want_all(bind_stack({"db": {"image": "db:1", "volumes": ["image=gone:1"]}}), 1.0, pull="never"))


def test_a_build_waits_for_images_with_names_of_what_its_service_depends_on(runner: Runner) -> None:
    base = {"build": "base", "image": "base:1"}
    stack = bind_stack(
        {
            "base": base,
            "between": {"image": "db:1", "depends_on": ["base"]},
            "plain": {"build": "plain"},
            "web": {"build": "web", "depends_on": ["between", "plain"]},
        }
    )
    plan = {one.id: one for one in runner.plan(want_all(stack, 1.0))}
    assert plan["build web"].needs == ("build base",)
    assert plan["build plain"].needs == ()
    # It is the base that is built from the other one here.
    context = {"context": "base", "additional_contexts": {"x": "service:web"}}
    stack = bind_stack({"base": {**base, "build": context}, "web": {"build": "web", "depends_on": ["base"]}})
    plan = {one.id: one for one in runner.plan(want_all(stack, 1.0))}
    assert (plan["build base"].needs, plan["build web"].needs) == (("build web",), ())
