"""Each command's edit of the goal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.actions.goals import (
    UpOptions,
    edit_down,
    edit_interrupted,
    edit_restart,
    edit_start,
    edit_up,
    edit_want,
    parse_scale,
    read_pull,
)
from orchestrator.errors import UsageError
from orchestrator.goal import Goal
from orchestrator.model import Dependency, Service, Stack
from orchestrator.state import ObservedState
from orchestrator.superseding import explain_interruption

from .conftest import Ran, make_container


def make_stack() -> Stack:
    """Web needs api, and is restarted with it; api needs db; job stands alone."""
    return Stack(
        name="shop",
        services={
            "web": Service(name="web", depends_on={"api": Dependency(service="api", restart=True)}),
            "api": Service(name="api", depends_on={"db": Dependency(service="db")}),
            "db": Service(name="db"),
            "job": Service(name="job"),
        },
    )


STACK = make_stack()


def test_up_wants_everything_or_what_was_named_with_its_dependencies() -> None:
    assert edit_up(STACK, None, UpOptions(), 5.0).wants == dict.fromkeys(("api", "db", "job", "web"), "running")
    goal = edit_up(STACK, None, UpOptions(services=("api",)), 5.0)
    assert goal.wants == {"api": "running", "db": "running"}
    assert goal.issued_at == 5.0
    assert edit_up(STACK, None, UpOptions(services=("api",), dependencies=False), 5.0).wants == {"api": "running"}
    assert edit_up(STACK, None, UpOptions(services=("db",), start=False), 5.0).wants == {"db": "created"}


def test_force_recreate_is_for_the_named_and_always_recreate_deps_for_the_rest() -> None:
    goal = edit_up(STACK, None, UpOptions(services=("api",), force_recreate=True), 5.0)
    assert goal.recreate_before == {"api": 5.0}
    goal = edit_up(STACK, None, UpOptions(services=("api",), always_recreate_deps=True), 5.0)
    assert goal.recreate_before == {"db": 5.0}
    assert edit_up(STACK, None, UpOptions(no_recreate=True), 5.0).recreate == "never"
    with pytest.raises(UsageError, match="contradict"):
        edit_up(STACK, None, UpOptions(no_recreate=True, force_recreate=True), 5.0)


def test_a_scale_outlives_commands_about_other_services() -> None:
    scaled = edit_up(STACK, None, UpOptions(scale={"web": 3, "db": 2}), 5.0)
    # As with compose, an up without --scale means the number in the file ...
    assert edit_up(STACK, scaled, UpOptions(), 6.0).scale == {}
    # ... but only for the services that it is about.
    assert edit_up(STACK, scaled, UpOptions(services=("db",)), 6.0).scale == {"web": 3}
    assert edit_want(STACK, scaled, ("db",), "stopped", 6.0).scale == {"web": 3, "db": 2}


def test_stop_is_about_the_stack_that_was_brought_up() -> None:
    previous = Goal(stack=STACK)
    edited = STACK.replace(services={"db": Service(name="db", image="changed"), "new": Service(name="new")})
    goal = edit_want(edited, previous, ("db", "new"), "stopped", 6.0, timeout=3)
    assert goal.stack is STACK
    assert goal.wants == {"db": "stopped"}
    assert (goal.recreate, goal.stop_timeout) == ("never", 3)


def test_start_and_restart_make_no_containers() -> None:
    goal = edit_start(STACK, None, {"web": 2}, 6.0, wait=True)
    assert (goal.wants, goal.scale, goal.wait_for, goal.recreate) == ({"web": "running"}, {"web": 2}, ("web",), "never")
    assert edit_start(STACK, None, {"web": 2}, 6.0, rerun=("web", "db")).rerun_before == {"web": 6.0}
    goal = edit_restart(STACK, None, ("api",), {"api": 1, "web": 2, "db": 1}, 6.0)
    assert goal.restart_before == {"api": 6.0, "web": 6.0}
    assert goal.scale == {"api": 1, "web": 2}
    assert edit_restart(STACK, None, ("api",), {"api": 1, "web": 2}, 6.0, dependents=False).wants == {"api": "running"}


def test_down() -> None:
    goal = edit_down(STACK, 6.0, remove_volumes=True, timeout=0)
    assert (goal.down, goal.remove_volumes, goal.stop_timeout, goal.remove_orphans) == (True, True, 0, False)


def test_an_interrupted_up_begins_nothing_more() -> None:
    goal = edit_up(STACK, None, UpOptions(services=("web",), scale={"web": 5}), 5.0)
    observed = ObservedState(
        project="shop",
        containers=(make_container(), make_container(number=2), make_container("api", status="created")),
    )
    edited = edit_interrupted(goal, observed, 6.0)
    assert edited.wants == {"web": "running", "api": "stopped", "db": "absent"}
    assert edited.scale == {"web": 2}


def test_an_interrupted_up_says_how_far_it_came() -> None:
    goal = edit_up(STACK, None, UpOptions(services=("web",), scale={"web": 5}), 5.0)
    observed = ObservedState(
        project="shop",
        containers=(
            make_container(), make_container(number=2), make_container("api", status="created"),
            make_container("db", health="starting"),
        ),
    )  # fmt: skip
    told = explain_interruption(goal, observed)
    assert told == "interrupted; running: db (not healthy yet), web (2 of 5); not started: api"
    # What has run and ended since was begun; what had ended before was not.
    for finished_at, rest in ((6.0, ""), (4.0, "; not started: web")):
        ended = make_container(status="exited", finished_at=finished_at)
        others = (make_container("api"), make_container("db"))
        told = explain_interruption(goal, ObservedState(project="shop", containers=(ended, *others)))
        assert told == f"interrupted; running: api, db{rest}"
    goal = edit_up(STACK, None, UpOptions(start=False), 5.0)
    assert explain_interruption(goal, ObservedState(project="shop")).startswith("interrupted; not created: api, db")


@pytest.mark.parametrize("text", ["web", "web=", "=3", "web=x", "web=-1"])
def test_scale_words(text: str) -> None:
    assert parse_scale(["web=3", "db=0"]) == {"web": 3, "db": 0}
    with pytest.raises(UsageError):
        parse_scale([text])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-V", "--no-recreate"), "--renew-anon-volumes and --no-recreate contradict each other"),
        (("--always-recreate-deps", "--no-recreate"), "--always-recreate-deps and --no-recreate contradict each other"),
        (("-d", "--attach", "web"), "--attach is about output that is shown"),
        (("--wait", "--attach-dependencies"), "--attach-dependencies is about output that is shown"),
        (("--attach", "web", "--attach-dependencies"), "leave out --attach-dependencies"),
        (("--watch", "--no-build"), "leave out --no-build"),
        (("--abort-on-container-exit", "--abort-on-container-failure"), "cannot be combined"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    stack: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compose.yaml").write_text("services: {web: {image: w}}")
    ran = stack("--dry-run", "up", *words)
    assert (ran.code, told in ran.err) == (16, True), ran.err


def test_words_of_pull() -> None:
    assert read_pull(None, build=False) == (None, False)
    assert read_pull("if_not_present", build=False) == ("missing", False)
    assert read_pull("never", build=True) == ("never", True)
    assert read_pull("build", build=False) == (None, True)
