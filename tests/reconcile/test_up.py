"""What `up` does and, as important, what it leaves alone."""

from __future__ import annotations

import pytest
from plan_runner import Runner
from stacks import bind_stack, want_all

from orchestrator.errors import ModelError, NotFound
from orchestrator.goal import Goal
from orchestrator.model import Stack


@pytest.fixture
def runner() -> Runner:
    found = Runner()
    for reference in ("web:1", "web:2", "db:1", "job:1", "cache:1"):
        found.engine.publish_image(reference, local=True)
    return found


def up(runner: Runner, stack: Stack, **fields: object) -> list[str]:
    """Converge to `up` and return the ids of all operations."""
    plans = runner.converge(want_all(stack, runner.clock(), **fields))
    assert not runner.failed, runner.failed
    return [one.id for plan in plans for one in plan]


def ids(runner: Runner, goal: Goal) -> list[str]:
    return [one.id for one in runner.plan(goal)]


def test_creations_wait_for_nobody_and_starts_do(runner: Runner) -> None:
    stack = bind_stack({"web": {"depends_on": {"db": {"condition": "service_healthy"}}}, "db": {"healthcheck": "true"}})
    plan = {one.id: one for one in runner.plan(want_all(stack, 1.0))}
    assert plan["create web-1"].needs == ("create network app_default",)
    assert plan["start web-1"].needs == ("create web-1", "wait db healthy")
    assert plan["wait db healthy"].needs == ("start db-1",)


def test_one_wait_is_shared_by_all_dependents(runner: Runner) -> None:
    healthy = {"db": {"condition": "service_healthy"}}
    stack = bind_stack(
        {"web": {"depends_on": healthy}, "cache": {"depends_on": healthy}, "db": {"healthcheck": "true"}}
    )
    plan = runner.plan(want_all(stack, 1.0))
    assert [one.cause for one in plan if one.id == "wait db healthy"] == ["cache, web wait for it"]


def test_a_dependency_that_is_healthy_already_is_not_waited_for(runner: Runner) -> None:
    stack = bind_stack({"web": {"depends_on": {"db": {"condition": "service_healthy"}}}, "db": {"healthcheck": "true"}})
    up(runner, stack)
    runner.engine.exit(runner.find("app", "app-web-1"), 1)
    assert ids(runner, want_all(stack, runner.clock())) == ["start web-1"]


def test_what_ended_after_the_user_asked_is_left_to_its_restart_policy(runner: Runner) -> None:
    stack = bind_stack({"web": {"restart": "always"}})
    goal = want_all(stack, runner.clock())
    runner.converge(goal)
    runner.engine.exit(runner.find("app", "app-web-1"), 1)
    assert not runner.plan(goal)
    assert ids(runner, want_all(stack, runner.clock())) == ["start web-1"]


def test_a_completed_job_is_not_run_again_until_it_changes(runner: Runner) -> None:
    waits = {"depends_on": {"job": {"condition": "service_completed_successfully"}}}
    stack = bind_stack({"job": {}, "web": waits})
    up(runner, stack)
    assert runner.states() == {"app-job-1": "exited", "app-web-1": "running"}
    assert not runner.plan(want_all(stack, runner.clock()))
    edited = bind_stack({"job": {"environment": {"STEP": "2"}}, "web": waits})
    assert up(runner, edited) == ["create job-1", "remove job-1", "start job-1"]


def test_a_failed_job_is_run_again(runner: Runner) -> None:
    stack = bind_stack({"job": {}})
    up(runner, stack)
    runner.engine.exit(runner.find("app", "app-job-1"), 3)
    plan = runner.plan(want_all(stack, runner.clock()))
    assert [(one.id, one.cause) for one in plan] == [("start job-1", "it exited with code 3, 0 s ago")]


def test_a_probed_service_that_ended_with_zero_is_no_job(runner: Runner) -> None:
    stack = bind_stack({"db": {"healthcheck": "true"}})
    up(runner, stack)
    runner.engine.exit(runner.find("app", "app-db-1"), 0)
    assert ids(runner, want_all(stack, runner.clock())) == ["start db-1"]


def test_what_the_user_stopped_is_started_by_up(runner: Runner) -> None:
    stack = bind_stack({"web": {"init": True}})
    up(runner, stack)
    stop = Goal(stack=stack, wants={"web": "stopped"}, issued_at=runner.clock())
    runner.converge(stop)
    assert runner.engine.observe("app").containers[0].hold
    assert up(runner, stack) == ["start web-1"]


def test_an_edit_recreates_and_says_why(runner: Runner) -> None:
    up(runner, bind_stack({"web": {"environment": {"DEBUG": "0"}}}))
    plan = runner.plan(want_all(bind_stack({"web": {"environment": {"DEBUG": "1"}, "image": "web:2"}}), 9.0))
    assert {one.cause for one in plan} == {"environment.DEBUG: 0 -> 1; image changed: web:1 -> web:2"}
    assert [one.id for one in plan] == ["create web-1", "stop web-1", "remove web-1", "start web-1"]


def test_a_new_image_under_the_same_name_recreates(runner: Runner) -> None:
    stack = bind_stack({"web": {}})
    up(runner, stack)
    runner.engine.publish_image("web:1", image_id="sha256:" + "f" * 64, local=True)
    plan = runner.plan(want_all(stack, runner.clock()))
    assert plan.operations[0].cause.startswith("image changed: web:1 was ")
    assert plan.operations[0].cause.endswith(", is ffffffffffff")


def test_no_recreate_leaves_diverged_containers(runner: Runner) -> None:
    up(runner, bind_stack({"web": {}}))
    edited = bind_stack({"web": {"environment": {"A": "1"}}})
    assert not runner.plan(want_all(edited, runner.clock(), recreate="never"))


def test_force_recreate_happens_once(runner: Runner) -> None:
    stack = bind_stack({"web": {}})
    up(runner, stack)
    now = runner.clock()
    assert "create web-1" in up(runner, stack, recreate_before={"web": now})
    assert not runner.plan(want_all(stack, now, recreate_before={"web": now}))


def test_anonymous_volumes_are_inherited_unless_renewed(runner: Runner) -> None:
    runner.engine.publish_image("db:1", volumes=("/data",), local=True)
    stack = bind_stack({"db": {}})
    up(runner, stack)
    first = runner.engine.observe("app").containers[0].volumes["/data"]
    up(runner, stack, recreate_before={"db": runner.clock()})
    assert runner.engine.observe("app").containers[0].volumes["/data"] == first
    up(runner, stack, renew_volumes_before={"db": runner.clock()})
    assert runner.engine.observe("app").containers[0].volumes["/data"] != first
    assert first not in runner.engine.observe("app").volumes


def test_scaling_down_takes_diverged_ones_first_then_the_highest(runner: Runner) -> None:
    stack = bind_stack({"web": {"scale": 4}})
    up(runner, stack)
    assert ids(runner, want_all(stack, runner.clock(), scale={"web": 2})) == [
        "stop web-3",
        "remove web-3",
        "stop web-4",
        "remove web-4",
    ]
    runner.engine.publish_image("web:1", image_id="sha256:" + "e" * 64, local=True)
    up(runner, bind_stack({"web": {"scale": 4}}), recreate="never")
    third = want_all(stack, runner.clock(), scale={"web": 1}, recreate_before={"web": 0.0})
    assert ids(runner, third)[:6] == [
        "stop web-2",
        "remove web-2",
        "stop web-3",
        "remove web-3",
        "stop web-4",
        "remove web-4",
    ]


def test_scaling_up_fills_the_gaps(runner: Runner) -> None:
    stack = bind_stack({"web": {"scale": 2}})
    up(runner, stack)
    runner.engine.remove_container(runner.find("app", "app-web-1"))
    assert up(runner, stack, scale={"web": 3}) == ["create web-1", "start web-1", "create web-3", "start web-3"]


def test_a_named_container_cannot_be_scaled(runner: Runner) -> None:
    stack = bind_stack({"web": {"container_name": "one", "scale": 2}})
    with pytest.raises(ModelError, match="2 containers that are all called one"):
        runner.plan(want_all(stack, 1.0))


def test_dependents_restart_with_what_they_depend_on_where_asked(runner: Runner) -> None:
    def stack(debug: str) -> Stack:
        return bind_stack(
            {
                "web": {"depends_on": {"db": {"restart": True}}},
                "cache": {"depends_on": {"db": {}}},
                "db": {"environment": {"DEBUG": debug}},
            }
        )

    up(runner, stack("0"))
    plan = runner.plan(want_all(stack("1"), runner.clock()))
    assert {one.id: one.needs for one in plan}["restart web-1"] == ("start db-1",)
    assert not any("cache" in one.id for one in plan)


def test_a_restart_of_dependents_survives_a_crash(runner: Runner) -> None:
    stack = bind_stack({"web": {"depends_on": {"db": {"restart": True}}}, "db": {}})
    up(runner, stack)
    now = runner.clock()
    goal = want_all(stack, now, recreate_before={"db": now})
    for one in runner.plan(goal):
        if one.id != "restart web-1":
            runner.perform(goal, one)
    assert [(one.id, one.cause) for one in runner.plan(goal)] == [
        ("restart web-1", "db is made anew, and it restarts with it")
    ]


def test_containers_in_a_shared_namespace_are_made_anew_together(runner: Runner) -> None:
    def stack(debug: str) -> Stack:
        return bind_stack({"cache": {"network_mode": "service:web"}, "web": {"environment": {"DEBUG": debug}}})

    up(runner, stack("0"))
    plan = {one.id: one for one in runner.plan(want_all(stack("1"), runner.clock()))}
    assert plan["create cache-1"].cause == "it builds upon the container of web, which is made anew"
    assert plan["create cache-1"].needs == ("create web-1",)


def test_an_optional_dependency_that_fails_does_not_hold_back(runner: Runner) -> None:
    stack = bind_stack({"web": {"depends_on": {"missing": {"required": False}}}, "missing": {}})
    runner.converge(want_all(stack, runner.clock()))
    assert set(runner.failed) == {"pull missing:1"}
    assert runner.states() == {"app-web-1": "running"}


def test_no_deps_waits_for_nobody(runner: Runner) -> None:
    stack = bind_stack({"web": {"depends_on": {"db": {"condition": "service_healthy"}}}, "db": {"healthcheck": "x"}})
    goal = Goal(stack=stack, wants={"web": "running"}, issued_at=runner.clock())
    assert ids(runner, goal) == ["create network app_default", "create web-1", "start web-1"]


@pytest.mark.parametrize("required", [True, False])
def test_waiting_for_health_that_nobody_checks_is_told(runner: Runner, required: bool) -> None:
    waiting = {"web": {"depends_on": {"db": {"condition": "service_healthy", "required": required}}}, "db": {}}
    plan = runner.plan(want_all(bind_stack(waiting), 1.0))
    # It fails when the time comes, which a dependency that is not required may.
    assert [one.code for one in plan.warnings] == ["health-check-missing"] * required


@pytest.mark.parametrize(
    ("attributes", "what"),
    [({"network_mode": "service:db"}, "network namespace"), ({"volumes_from": ["db"]}, "volume")],
)
def test_no_deps_needs_the_container_that_another_is_built_upon(
    runner: Runner, attributes: dict[str, object], what: str
) -> None:
    stack = bind_stack({"web": attributes, "db": {}})
    goal = Goal(stack=stack, wants={"web": "running"}, issued_at=runner.clock())
    with pytest.raises(NotFound, match=f"cannot share {what} with service db: container missing"):
        runner.plan(goal)


def test_external_resources_have_to_be_there(runner: Runner) -> None:
    stack = bind_stack(
        {"web": {"networks": ["outside"], "volumes": ["store:/s"]}},
        {"outside": {"name": "shared", "external": True}},
        {"store": {"name": "disk", "external": True}},
    )
    with pytest.raises(NotFound) as caught:
        runner.plan(want_all(stack, 1.0))
    assert [one.code for one in caught.value.diagnostics] == ["external-network-missing", "external-volume-missing"]
    assert not runner.engine.calls


def test_a_missing_image_that_may_not_be_fetched_is_refused(runner: Runner) -> None:
    with pytest.raises(NotFound, match="pull_policy: never forbids"):
        runner.plan(want_all(bind_stack({"web": {"image": "gone:1", "pull_policy": "never"}}), 1.0))
    with pytest.raises(NotFound, match="--pull never forbids"):
        runner.plan(want_all(bind_stack({"web": {"image": "gone:1"}}), 1.0, pull="never"))


def test_one_pull_serves_all_services_and_happens_once(runner: Runner) -> None:
    runner.engine.publish_image("new:1")
    stack = bind_stack({"a": {"image": "new:1"}, "b": {"image": "new:1"}})
    assert up(runner, stack).count("pull new:1") == 1
    assert not runner.plan(want_all(stack, runner.clock()))


def test_pull_always_pulls_once_per_command(runner: Runner) -> None:
    stack = bind_stack({"web": {"pull_policy": "always"}})
    up(runner, stack)
    assert up(runner, stack) == ["pull web:1"]
    daily = bind_stack({"web": {"pull_policy": "every_12h"}})
    assert up(runner, daily) == []


def test_a_service_with_a_build_is_built_when_its_image_is_missing(runner: Runner) -> None:
    stack = bind_stack({"web": {"build": "."}})
    assert up(runner, stack)[:2] == ["build web", "create network app_default"]
    assert not runner.plan(want_all(stack, runner.clock()))


def test_create_starts_nothing_and_up_then_starts(runner: Runner) -> None:
    stack = bind_stack({"web": {}})
    runner.converge(want_all(stack, runner.clock(), "created"))
    assert runner.states() == {"app-web-1": "created"}
    assert up(runner, stack) == ["start web-1"]


def test_a_restart_goes_in_order_and_waits_for_health(runner: Runner) -> None:
    stack = bind_stack({"web": {"depends_on": {"db": {"condition": "service_healthy"}}}, "db": {"healthcheck": "true"}})
    up(runner, stack)
    now = runner.clock()
    plan = runner.plan(want_all(stack, now, restart_before={"web": now, "db": now}))
    assert [(one.id, one.needs) for one in plan] == [
        ("restart db-1", ()),
        ("wait db healthy", ("restart db-1",)),
        ("restart web-1", ("wait db healthy",)),
    ]
