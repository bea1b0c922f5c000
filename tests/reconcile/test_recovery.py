"""What a crash, or somebody's hands, left to be done: it stands in the next plan."""

from __future__ import annotations

import pytest
from plan_runner import Runner
from stacks import want_all

from orchestrator.errors import NotFound
from orchestrator.goal import Goal
from orchestrator.model import Stack
from orchestrator.plan import CreateContainer, Plan, RunHooks
from orchestrator.reconcile import reconcile
from orchestrator.state import ObservedState
from reconcile.random_stacks import load_document


@pytest.fixture
def runner() -> Runner:
    found = Runner()
    for reference in ("x:1", "x:2"):
        found.engine.publish_image(reference, local=True)
    return found


def look(runner: Runner, goal: Goal) -> ObservedState:
    return runner.engine.observe("app", goal.stack)


def change_containers(observed: ObservedState, **fields: object) -> ObservedState:
    return observed.replace(containers=tuple(one.replace(**fields) for one in observed.containers))


def load(services: dict[str, object], volumes: dict[str, object] | None = None) -> Stack:
    return load_document({"services": services, "volumes": volumes or {}})


def ids(plan: Plan) -> list[str]:
    return [one.id for one in plan]


HOOKS = [{"command": ["one"]}, {"command": ["two"]}, {"command": ["three"]}]


def test_hooks_that_are_due_are_run_and_waited_for(runner: Runner) -> None:
    stack = load({"web": {"image": "x:1", "post_start": HOOKS}, "api": {"image": "x:1", "depends_on": ["web"]}})
    some = Goal(stack=stack, wants={"web": "running"}, issued_at=runner.clock())
    runner.converge(some)
    goal = want_all(stack, runner.clock())
    observed = look(runner, goal)
    assert "post_start web-1" not in ids(reconcile(goal, observed, runner.clock()))
    plan = {one.id: one for one in reconcile(goal, change_containers(observed, hooks_due=2), runner.clock())}
    hooks = plan["post_start web-1"]
    assert isinstance(hooks, RunHooks)
    assert ([one.command for one in hooks.hooks], hooks.first) == ([("two",), ("three",)], 1)
    assert "post_start web-1" in plan["start api-1"].needs
    # A file that has fewer of them by now, and a container that does not run.
    assert not reconcile(some, change_containers(observed, hooks_due=2, status="paused"), runner.clock())


def make_oneoff(runner: Runner, stack: Stack, name: str) -> str:
    request = CreateContainer(
        id="c", subject=name, cause="", service=stack.services["web"], number=1, container_name=name, config_hash="",
        oneoff=True,
    )  # fmt: skip
    return runner.engine.create_container(stack, request)


def test_a_pre_start_container_that_nobody_waits_for_goes(runner: Runner) -> None:
    stack = load({"web": {"image": "x:1", "pre_start": [{"command": ["true"]}]}, "api": {"image": "x:1"}})
    runner.converge(Goal(stack=stack, wants={"api": "running"}, issued_at=runner.clock()))
    left = make_oneoff(runner, stack, "app-web-pre_start-0")
    other = Goal(stack=stack, wants={"api": "running"}, issued_at=runner.clock())
    (removal,) = runner.plan(other)
    assert removal.subject == "app-web-pre_start-0"
    assert removal.cause == "whoever waited for it was killed"
    # The one that comes after it has the same name.
    plan = {one.id: one for one in runner.plan(want_all(stack, runner.clock()))}
    assert removal.id in plan["pre_start web 0"].needs
    # What has failed stays to be looked at.
    runner.engine.start_container(left)
    runner.engine.exit(left, 3)
    assert not runner.plan(other)


def test_an_abandoned_one_off_container_goes_if_it_was_to_go(runner: Runner) -> None:
    stack = load({"web": {"image": "x:1"}})
    runner.converge(want_all(stack, runner.clock()))
    key = make_oneoff(runner, stack, "app-web-run")
    goal = want_all(stack, runner.clock())
    observed = look(runner, goal)

    def plan(changed: Goal = goal, **fields: object) -> Plan:
        found = tuple(one.replace(**fields) if one.id == key else one for one in observed.containers)
        return reconcile(changed, observed.replace(containers=found), runner.clock())

    assert not plan()
    assert not plan(auto_remove=True)
    (removal,) = plan(abandoned=True, auto_remove=True)
    assert removal.subject == "app-web-run"
    assert not plan(abandoned=True)
    assert [one.subject for one in plan(goal.replace(remove_orphans=True), abandoned=True)] == ["app-web-run"]
    # One whose start stands in the goal is started: the engine says whether that is in vain.
    assert ids(plan(goal.replace(oneoffs=(key,)), abandoned=True, auto_remove=True)) == ["start app-web-run"]


def test_a_volume_that_was_deleted_is_made_again_and_what_has_it_mounted_is_restarted(runner: Runner) -> None:
    stack = load(
        {"web": {"image": "x:1", "volumes": ["data:/v"]}, "api": {"image": "x:1"}},
        {"data": {}},
    )
    runner.converge(want_all(stack, runner.clock()))
    goal = want_all(stack, runner.clock())
    observed = look(runner, goal)
    lost = {name: one.replace(lost=True, mountpoint="/there") for name, one in observed.volumes.items()}
    stale = tuple(
        one.replace(stale_volumes=("app_data",)) if one.service == "web" else one for one in observed.containers
    )
    plan = reconcile(goal, observed.replace(volumes=lost, containers=stale), runner.clock())
    assert plan.render() == (
        "create volume app_data  # somebody has deleted /there\n"
        "restart web-1  # somebody has deleted what it has mounted: app_data  <- create volume app_data\n"
    )
    assert [one.code for one in plan.warnings] == ["volume-lost"]
    external = load({"web": {"image": "x:1", "volumes": ["data:/v"]}}, {"data": {"external": True, "name": "app_data"}})
    with pytest.raises(NotFound, match=r"external volume app_data not found.*somebody has deleted /there"):
        reconcile(want_all(external, runner.clock()), observed.replace(volumes=lost), runner.clock())


def test_who_waits_for_health_waits_until_the_old_container_has_gone(runner: Runner) -> None:
    def stack(image: str) -> Stack:
        check = {"test": ["CMD", "true"]}
        update = {"update_config": {"order": "start-first"}}
        return load(
            {
                "db": {"image": image, "healthcheck": check, "deploy": update},
                "web": {"image": "x:1", "depends_on": {"db": {"condition": "service_healthy"}}},
            }
        )

    runner.converge(Goal(stack=stack("x:1"), wants={"db": "running"}, issued_at=runner.clock()))
    plan = {one.id: one for one in runner.plan(want_all(stack("x:2"), runner.clock()))}
    assert "remove db-1" in plan["wait db healthy"].needs
