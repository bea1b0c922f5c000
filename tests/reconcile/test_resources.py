"""Networks, volumes, names, ports and orphans: what is made anew, what is kept, what goes."""

from __future__ import annotations

import pytest
from plan_runner import Runner
from stacks import bind_network, bind_stack, want_all

from orchestrator.goal import Goal
from orchestrator.model import Stack


@pytest.fixture
def runner() -> Runner:
    found = Runner()
    for reference in ("web:1", "db:1", "api:1"):
        found.engine.publish_image(reference, local=True)
    return found


def up(runner: Runner, stack: Stack, **fields: object) -> list[str]:
    plans = runner.converge(want_all(stack, runner.clock(), **fields))
    assert not runner.failed, runner.failed
    return [one.id for plan in plans for one in plan]


def test_a_network_that_changed_is_made_anew_below_its_containers(runner: Runner) -> None:
    up(runner, bind_stack({"web": {}, "db": {"networks": ["back"]}}, {"default": {}}))
    edited = bind_stack({"web": {}, "db": {"networks": ["back"]}}, {"default": {"internal": True}})
    plan = runner.plan(want_all(edited, runner.clock()))
    assert {one.cause for one in plan} == {"network default changed: internal: not set -> true"}
    steps = ["stop web-1", "remove network app_default", "create network app_default", "start web-1"]
    assert [one.id for one in plan] == steps
    ids = {one.name: one.id for one in runner.engine.observe("app").containers}
    up(runner, edited)
    assert runner.engine.observe("app").networks["app_default"].internal
    assert {one.name: one.id for one in runner.engine.observe("app").containers} == ids
    # What changed itself is made anew, and what is not to run is as well made anew.
    again = bind_stack({"web": {"environment": {"A": "1"}}, "db": {"networks": ["back"]}}, {"default": {}})
    plan = runner.plan(want_all(again, runner.clock()))
    assert [one.id for one in plan][-3:] == ["create web-1", "remove web-1", "start web-1"]
    plan = runner.plan(Goal(stack=bind_stack({"web": {}}), wants={"web": "created"}, issued_at=runner.clock()))
    assert [one.id for one in plan][-2:] == ["create web-1", "remove web-1"]


def test_a_network_stays_while_somebody_else_runs_on_it(runner: Runner) -> None:
    up(runner, bind_stack({"web": {}, "db": {}}))
    edited = bind_stack({"web": {}, "db": {}}, {"default": {"internal": True}})
    plan = runner.plan(Goal(stack=edited, wants={"web": "running"}, issued_at=runner.clock()))
    assert not plan
    assert [one.code for one in plan.warnings] == ["network-in-use"]
    assert "db runs on it" in plan.warnings[0].message


def test_a_network_of_another_project_is_used_as_it_is(runner: Runner) -> None:
    runner.engine.create_network("other", bind_network("app", "default", {"internal": True}))
    plan = runner.plan(want_all(bind_stack({"web": {}}), 1.0))
    assert [one.id for one in plan] == ["create web-1", "start web-1"]
    assert [one.code for one in plan.warnings] == ["network-not-ours"]


def test_a_volume_that_differs_is_kept_and_told_of(runner: Runner) -> None:
    services = {"db": {"volumes": ["data:/data"]}}
    up(runner, bind_stack(services))
    plan = runner.plan(want_all(bind_stack(services, None, {"data": {"driver_opts": {"type": "nfs"}}}), runner.clock()))
    assert not plan
    assert plan.warnings[0].code == "volume-differs"
    assert "driver_opts.type: not set -> nfs" in plan.warnings[0].message


def test_a_volume_that_differs_is_made_anew_with_consent(runner: Runner) -> None:
    services = {"db": {"volumes": ["data:/data", "other:/other"]}, "web": {}}
    up(runner, bind_stack(services))
    options = {"driver_opts": {"type": "nfs"}}
    edited = bind_stack(services, None, {"data": options, "other": options})
    goal = want_all(edited, runner.clock(), renew_volumes=("data",))
    plan = runner.plan(goal)
    ids = [one.id.partition(" (")[0] for one in plan]
    assert ids == [
        "stop db-1",
        "remove db-1",
        "remove volume app_data",
        "create volume app_data",
        "create db-1",
        "start db-1",
    ]
    assert [one.code for one in plan.warnings] == ["volume-differs"]
    up(runner, edited, renew_volumes=("data",))
    assert not runner.plan(goal)
    # Where nothing may be made anew, no volume is.
    last = bind_stack(services, None, {"data": {}, "other": options})
    assert not runner.plan(want_all(last, runner.clock(), renew_volumes=("data",), recreate="never"))


def test_a_renamed_network_recreates_what_joins_it(runner: Runner) -> None:
    up(runner, bind_stack({"web": {}}))
    plan = runner.plan(want_all(bind_stack({"web": {}}, {"default": {"name": "elsewhere"}}), runner.clock()))
    assert plan.operations[0].id == "create network elsewhere"
    assert {one.cause for one in plan.operations[1:]} == {"networks: app_default -> elsewhere"}


def test_a_changed_config_recreates_what_mounts_it(runner: Runner) -> None:
    up(runner, bind_stack({"web": {"configs": ["site"]}}, configs={"site": "old"}))
    plan = runner.plan(want_all(bind_stack({"web": {"configs": ["site"]}}, configs={"site": "new"}), runner.clock()))
    assert {one.cause for one in plan} == {"the content of a secret or config changed"}


def test_services_can_exchange_ports_and_names(runner: Runner) -> None:
    up(
        runner,
        bind_stack(
            {"web": {"ports": ["80:80"], "container_name": "x"}, "api": {"ports": ["81:80"], "container_name": "y"}}
        ),
    )
    up(
        runner,
        bind_stack(
            {"web": {"ports": ["81:80"], "container_name": "y"}, "api": {"ports": ["80:80"], "container_name": "x"}}
        ),
    )
    ports = {one.name: one.bindings[0].host_port for one in runner.engine.observe("app").containers}
    assert ports == {"x": 80, "y": 81}


def test_a_port_that_moves_is_free_before_it_is_taken(runner: Runner) -> None:
    up(runner, bind_stack({"web": {"ports": ["80:80"]}, "api": {"depends_on": ["web"]}}))
    edited = bind_stack({"web": {}, "api": {"depends_on": ["web"], "ports": ["80:80"]}})
    plan = {one.id: one for one in runner.plan(want_all(edited, runner.clock()))}
    assert "stop web-1" in plan["start api-1"].needs
    assert plan["stop web-1"].needs == ()
    up(runner, edited)


def test_orphans_are_told_of_or_removed(runner: Runner) -> None:
    up(runner, bind_stack({"web": {"depends_on": ["db"]}, "db": {}, "api": {}}))
    smaller = bind_stack({"api": {}})
    plan = runner.plan(want_all(smaller, runner.clock()))
    assert not plan
    assert plan.warnings[0].message.startswith("app-db-1, app-web-1: the stack file has no such service")
    plan = runner.plan(want_all(smaller, runner.clock(), remove_orphans=True))
    assert [(one.id, one.needs) for one in plan] == [
        ("stop web-1", ()),
        ("remove web-1", ("stop web-1",)),
        ("stop db-1", ("stop web-1",)),
        ("remove db-1", ("stop db-1",)),
    ]


def test_services_of_other_profiles_are_no_orphans(runner: Runner) -> None:
    up(runner, bind_stack({"web": {}, "db": {}}))
    assert not runner.plan(want_all(bind_stack({"web": {}}, disabled=("db",)), runner.clock())).warnings


def test_stopping_goes_from_dependents_to_dependencies(runner: Runner) -> None:
    stack = bind_stack({"web": {"depends_on": ["api"]}, "api": {"depends_on": ["db"]}, "db": {}})
    up(runner, stack)
    runner.engine.exit(runner.find("app", "app-api-1"), 0)
    plan = runner.plan(Goal(stack=stack, wants=dict.fromkeys(stack.services, "stopped"), stop_timeout=3.0))
    assert [(one.id, one.needs) for one in plan] == [("stop web-1", ()), ("stop db-1", ("stop web-1",))]
    assert {one.timeout for one in plan} == {3.0}  # type: ignore[attr-defined]


def test_down_removes_everything_but_volumes(runner: Runner) -> None:
    stack = bind_stack({"web": {"depends_on": ["db"]}, "db": {"volumes": ["data:/d", "/anonymous"]}, "api": {}})
    up(runner, stack)
    smaller = bind_stack({"web": {"depends_on": ["db"]}, "db": {"volumes": ["data:/d", "/anonymous"]}})
    runner.converge(Goal(stack=smaller, down=True, remove_orphans=True))
    left = runner.engine.observe("app")
    assert not left.containers
    assert not left.networks
    assert len(left.volumes) == 2
    runner.converge(Goal(stack=smaller, down=True, remove_volumes=True))
    assert not runner.engine.projects()


def test_down_leaves_orphans_and_what_they_use(runner: Runner) -> None:
    stack = bind_stack(
        {
            "web": {"networks": ["front", "back"], "volumes": ["kept:/k"]},
            "api": {"networks": ["back"], "volumes": ["kept:/k", "lost:/l"]},
        },
        {"front": {}, "back": {}},
    )
    up(runner, stack)
    smaller = bind_stack({"api": {"networks": ["back"]}}, {"back": {}})
    goal = Goal(stack=smaller, down=True, remove_volumes=True)
    plan = runner.plan(goal)
    assert [one.code for one in plan.warnings] == ["orphan-containers"]
    assert "app-web-1" in plan.warnings[0].message
    assert [one.id for one in plan] == ["stop api-1", "remove api-1", "remove volume app_lost"]
    runner.converge(goal)
    left = runner.engine.observe("app")
    assert [one.name for one in left.containers if one.alive] == ["app-web-1"]
    assert set(left.networks) == {"app_front", "app_back"}
    assert set(left.volumes) == {"app_kept"}
    assert not runner.plan(goal)
    assert not runner.plan(goal.replace(ignore_orphans=True)).warnings


def test_down_without_a_stack_file_still_knows_the_order(runner: Runner) -> None:
    up(runner, bind_stack({"web": {"depends_on": ["db"]}, "db": {}}))
    plan = runner.plan(Goal(stack=Stack(name="app"), down=True, remove_orphans=True))
    assert {one.id: one.needs for one in plan}["stop db-1"] == ("stop web-1",)


def test_down_leaves_what_is_external(runner: Runner) -> None:
    runner.engine.create_network("other", bind_network("other", "shared", {}))
    stack = bind_stack({"web": {"networks": ["shared"]}}, {"shared": {"name": "other_shared", "external": True}})
    up(runner, stack)
    plan = runner.plan(Goal(stack=stack, down=True, remove_volumes=True))
    assert [one.id for one in plan] == ["stop web-1", "remove web-1"]


def test_an_interrupted_recreation_is_cleaned_up(runner: Runner) -> None:
    stack = bind_stack({"web": {}})
    up(runner, stack)
    goal = want_all(stack, runner.clock(), recreate_before={"web": runner.clock()})
    runner.perform(goal, runner.plan(goal).operations[0])
    plan = runner.plan(goal)
    assert plan.operations[0].cause == "it was left over when it was made anew"
    runner.converge(goal)
    assert runner.states() == {"app-web-1": "running"}


def test_an_interrupted_recreation_that_was_taken_back_keeps_the_old_container(runner: Runner) -> None:
    stack = bind_stack({"web": {}})
    up(runner, stack)
    old = runner.find("app", "app-web-1")
    edited = want_all(bind_stack({"web": {"environment": {"A": "1"}}}), runner.clock())
    runner.perform(edited, runner.plan(edited).operations[0])
    assert up(runner, stack) == ["remove web-1 (000000000002)", "rename web-1"]
    assert runner.find("app", "app-web-1") == old
    assert runner.states() == {"app-web-1": "running"}
