"""Containers: created, started, stopped, killed, paused, renamed, replaced, removed; and observe tells the truth."""

from __future__ import annotations

import pytest

from orchestrator.engines.base import Change
from orchestrator.errors import Conflict, EngineError, NotFound

from .conftest import IMAGE_WITH_VOLUME, Bench


def test_a_created_container_is_there_and_does_not_run(bench: Bench) -> None:
    bench.use({"web": {"environment": {"A": "1"}}})
    made = bench.look(bench.create(number=2))
    service = bench.stack.services["web"]
    assert (made.status, made.alive, made.service, made.number) == ("created", False, "web", 2)
    assert (made.name, made.project) == (f"{bench.project}-web-2", bench.project)
    assert made.config == service.config
    assert made.config_hash
    assert made.created_at > 0
    assert (made.started_at, made.finished_at, made.pid) == (0, 0, 0)
    facts = bench.observe().images[service.image or ""]
    assert facts is not None
    assert made.image_id == facts.id


def test_a_started_container_runs(bench: Bench) -> None:
    bench.use({"web": {}})
    made = bench.look(bench.run())
    assert (made.status, made.alive, made.exit_code) == ("running", True, None)
    assert made.pid > 0
    assert made.started_at >= made.created_at
    assert made.finished_at == 0


def test_starting_what_runs_is_success(bench: Bench) -> None:
    bench.use({"web": {}})
    key = bench.run()
    before = bench.look(key)
    bench.engine.start_container(key)
    assert bench.look(key) == before


def test_the_exit_code_is_seen(bench: Bench) -> None:
    bench.use({"web": {"command": "exit 3"}})
    made = bench.ended(bench.run())
    assert (made.status, made.exit_code, made.pid) == ("exited", 3, 0)
    assert made.finished_at >= made.started_at > 0
    assert not made.hold


def test_an_end_is_told_at_once(bench: Bench) -> None:
    heard: list[Change] = []
    bench.use({"web": {"command": "sleep 0.2; exit 4"}, "db": {}})
    end = bench.engine.watch(bench.project, heard.append)
    try:
        bench.run("db")
        key = bench.run()
        bench.wait_until(lambda: bool(heard))
    finally:
        end()
    assert [(one.container_id, one.kind, one.exit_code) for one in heard] == [(key, "exited", 4)]


def test_an_ended_container_starts_again(bench: Bench) -> None:
    bench.use({"web": {"command": "exit 3"}})
    key = bench.run()
    first = bench.ended(key)
    bench.engine.start_container(key)
    bench.wait_until(lambda: bench.look(key).finished_at > first.finished_at)
    assert bench.look(key).started_at > first.started_at


def test_stop_asks_first(bench: Bench) -> None:
    bench.use({"web": {"command": "trap 'exit 7' TERM; echo ready; sleep 600 & wait"}})
    key = bench.run()
    bench.engine.stop_container(key)
    assert (bench.look(key).status, bench.look(key).exit_code) == ("exited", 7)


def test_the_stop_signal_is_the_services(bench: Bench) -> None:
    bench.use({"web": {"command": "trap 'exit 8' USR1; echo ready; sleep 600 & wait", "stop_signal": "SIGUSR1"}})
    key = bench.run()
    bench.engine.stop_container(key)
    assert bench.look(key).exit_code == 8


def test_what_does_not_listen_is_killed(bench: Bench) -> None:
    bench.use({"web": {"command": ["sleep", "600"]}})
    key = bench.run()
    bench.engine.stop_container(key, timeout=0)
    assert bench.look(key).exit_code == 137


def test_stopping_holds_until_the_next_start(bench: Bench) -> None:
    bench.use({"web": {}})
    key = bench.run()
    bench.engine.stop_container(key, hold=True)
    assert bench.look(key).hold
    bench.start(key)
    assert not bench.look(key).hold
    bench.engine.stop_container(key, hold=False)
    assert not bench.look(key).hold


def test_stopping_what_is_stopped_or_gone_is_success(bench: Bench) -> None:
    bench.use({"web": {}})
    key = bench.create()
    bench.engine.stop_container(key)
    assert bench.look(key).status == "created"
    bench.engine.remove_container(key)
    bench.engine.stop_container(key)


@pytest.mark.parametrize(("signal", "code"), [("SIGKILL", 137), ("9", 137), ("USR1", 9), ("SIGUSR1", 9)])
def test_signals_reach_the_main_process(bench: Bench, signal: str, code: int) -> None:
    bench.use({"web": {"command": "trap 'exit 9' USR1; echo ready; sleep 600 & wait"}})
    key = bench.run()
    bench.engine.kill_container(key, signal)
    assert bench.ended(key).exit_code == code
    with pytest.raises(Conflict):
        bench.engine.kill_container(key, signal)


def test_a_paused_container_is_alive_and_goes_on(bench: Bench) -> None:
    bench.use({"web": {}})
    key = bench.run()
    bench.engine.pause_container(key, paused=True)
    assert (bench.look(key).status, bench.look(key).alive) == ("paused", True)
    bench.engine.pause_container(key, paused=False)
    assert bench.look(key).status == "running"
    assert bench.shell(key, "echo again") == "again\n"


def test_a_paused_container_can_be_stopped(bench: Bench) -> None:
    bench.use({"web": {}})
    key = bench.run()
    bench.engine.pause_container(key, paused=True)
    bench.engine.stop_container(key)
    assert bench.look(key).exit_code == 0


def test_what_does_not_run_cannot_be_paused(bench: Bench) -> None:
    bench.use({"web": {}})
    key = bench.create()
    with pytest.raises(Conflict):
        bench.engine.pause_container(key, paused=True)


def test_removal_ends_what_runs_and_can_be_repeated(bench: Bench) -> None:
    bench.use({"web": {}})
    key = bench.run()
    bench.engine.remove_container(key)
    assert not bench.observe().containers
    bench.engine.remove_container(key)
    with pytest.raises(NotFound):
        bench.engine.start_container(key)


def test_a_name_belongs_to_one_container(bench: Bench) -> None:
    bench.use({"web": {}})
    bench.create()
    with pytest.raises(Conflict):
        bench.create(number=2, container_name=f"{bench.project}-web-1")
    assert len(bench.observe().containers) == 1


def test_renaming_changes_name_and_number(bench: Bench) -> None:
    bench.use({"web": {}})
    first, second = bench.run(), bench.create(number=2)
    bench.engine.rename_container(first, f"{bench.project}-web-9", 9)
    assert (bench.look(first).name, bench.look(first).number) == (f"{bench.project}-web-9", 9)
    assert bench.look(first).alive
    with pytest.raises(Conflict):
        bench.engine.rename_container(second, f"{bench.project}-web-9", 2)


def test_a_command_that_does_not_exist_says_so(bench: Bench) -> None:
    bench.use({"web": {"command": ["no-such-program"]}})
    key = bench.create()
    with pytest.raises(EngineError, match="no-such-program"):
        bench.engine.start_container(key)
    made = bench.look(key)
    assert (made.alive, made.exit_code) == (False, 127)
    assert made.finished_at > 0
    assert made.error


def test_an_image_that_is_not_there_says_so(bench: Bench) -> None:
    bench.use({"web": {"image": "missing:1"}})
    assert bench.observe().images["missing:1"] is None
    with pytest.raises(NotFound):
        bench.create()


def test_a_replacement_takes_the_name_while_the_old_one_runs(bench: Bench) -> None:
    bench.use({"web": {}})
    old = bench.run()
    new = bench.create(replaces=old)
    assert bench.look(new).name == f"{bench.project}-web-1"
    assert bench.look(old).name == f"{old[:12]}_{bench.project}-web-1"
    assert bench.look(old).alive
    bench.engine.stop_container(old, hold=False)
    bench.engine.remove_container(old)
    bench.engine.start_container(new)
    assert [one.id for one in bench.observe().of_service("web")] == [new]


def test_a_replacement_inherits_anonymous_volumes(bench: Bench) -> None:
    bench.use({"web": {"image": IMAGE_WITH_VOLUME, "volumes": ["/mine"]}})
    old = bench.run()
    held = bench.look(old).volumes
    assert set(held) == {"/held", "/mine"}
    bench.shell(old, "echo one > /held/file; echo two > /mine/file; echo three > /lost")
    new = bench.create(replaces=old)
    bench.engine.remove_container(old)
    bench.engine.start_container(new)
    assert bench.look(new).volumes == held
    assert bench.shell(new, "cat /held/file; cat /mine/file") == "one\ntwo\n"
    assert bench.exec(new, "test", "-f", "/lost").exit_code != 0


def test_a_replacement_can_have_new_anonymous_volumes(bench: Bench) -> None:
    bench.use({"web": {"image": IMAGE_WITH_VOLUME}})
    old = bench.create()
    held = bench.look(old).volumes["/held"]
    new = bench.create(replaces=old, inherit_volumes=False)
    assert bench.look(new).volumes["/held"] != held
    bench.engine.remove_container(old, volumes=True)
    assert held not in bench.observe().volumes
    assert bench.look(new).volumes["/held"] in bench.observe().volumes


def test_removal_with_volumes_spares_what_was_inherited(bench: Bench) -> None:
    bench.use({"web": {"image": IMAGE_WITH_VOLUME}})
    old = bench.create()
    new = bench.create(replaces=old)
    bench.engine.remove_container(old, volumes=True)
    assert bench.look(new).volumes["/held"] in bench.observe().volumes
    bench.engine.remove_container(new, volumes=True)
    assert not bench.observe().volumes


def test_what_is_recorded_is_told(bench: Bench) -> None:
    bench.use({"web": {}})
    key = bench.run()
    bench.engine.record_health(key, "healthy")
    bench.engine.record_restart(key, 4)
    bench.engine.record_hooks(key, 2)
    assert bench.look(key).hooks_due == 2
    assert (bench.look(key).health, bench.look(key).restart_count) == ("healthy", 4)
    bench.engine.stop_container(key)
    bench.engine.record_restart(key, 4, at=12.5)
    assert bench.look(key).restart_at == 12.5
    bench.engine.start_container(key)
    assert (bench.look(key).health, bench.look(key).restart_at) == (None, 0.0)


def test_one_off_containers_are_no_replicas(bench: Bench) -> None:
    bench.use({"web": {}})
    key = bench.create(oneoff=True, container_name=f"{bench.project}-web-run")
    assert bench.look(key).oneoff
    assert not bench.observe().of_service("web")
