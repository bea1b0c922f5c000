"""Looking inside: commands in running containers, and their logs."""

from __future__ import annotations

import threading

import pytest

from orchestrator.errors import EngineError

from .conftest import Bench


def test_a_command_gives_code_and_output(bench: Bench) -> None:
    bench.use({"web": {"environment": {"COLOUR": "red"}}})
    key = bench.run()
    done = bench.exec(key, "sh", "-c", "echo $COLOUR; echo $SHAPE >&2; exit 5", environment={"SHAPE": "round"})
    assert (done.exit_code, done.timed_out) == (5, False)
    assert sorted(done.output.splitlines()) == ["red", "round"]


def test_a_command_that_takes_too_long_is_ended(bench: Bench) -> None:
    bench.use({"web": {}})
    key = bench.run()
    done = bench.exec(key, "sh", "-c", "echo begun; sleep 30", timeout=0.5)
    assert (done.exit_code, done.timed_out) == (124, True)
    assert done.output == "begun\n"
    assert bench.look(key).alive


def test_a_command_that_does_not_exist_is_127(bench: Bench) -> None:
    bench.use({"web": {}})
    assert bench.exec(bench.run(), "no-such-program").exit_code == 127


def test_a_container_that_does_not_run_has_no_commands(bench: Bench) -> None:
    bench.use({"web": {"command": "exit 0"}})
    key = bench.run()
    bench.ended(key)
    with pytest.raises(EngineError):
        bench.exec(key, "true")


def test_files_written_by_a_command_stay_while_the_container_does(bench: Bench) -> None:
    bench.use({"web": {}})
    key = bench.run()
    bench.shell(key, "echo here > /tmp/file")
    bench.engine.stop_container(key)
    bench.start(key)
    assert bench.shell(key, "cat /tmp/file") == "here\n"


def test_the_log_keeps_both_streams_in_order(bench: Bench) -> None:
    bench.use({"web": {"command": "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three"}})
    key = bench.run()
    made = bench.ended(key)
    lines = list(bench.engine.read_logs([made]))
    assert [(one.stream, one.text) for one in lines] == [("stdout", "one"), ("stderr", "two"), ("stdout", "three")]
    assert {one.service for one in lines} == {"web"}
    assert [one.time for one in lines] == sorted(one.time for one in lines)
    assert bench.logs(key, tail=2) == ["two", "three"]
    assert bench.logs(key, tail=0) == []
    assert bench.logs(key, since=made.finished_at + 60) == []
    assert bench.logs(key, until=made.started_at - 60) == []


def test_logs_of_several_runs_are_kept(bench: Bench) -> None:
    bench.use({"web": {"command": "echo run"}})
    key = bench.run()
    bench.ended(key)
    bench.engine.start_container(key)
    bench.wait_until(lambda: bench.logs(key) == ["run", "run"])
    bench.ended(key)


def test_logs_of_several_containers_come_in_the_order_of_time(bench: Bench) -> None:
    bench.use({"a": {"command": "echo first"}, "b": {"command": "echo second"}})
    first = bench.run("a")
    bench.ended(first)
    second = bench.run("b")
    bench.ended(second)
    assert bench.logs(second, first) == ["first", "second"]


def test_following_ends_with_the_container(bench: Bench) -> None:
    bench.use({"web": {"command": "echo one; sleep 0.5; echo two"}})
    key = bench.run()
    assert bench.logs(key, follow=True) == ["one", "two"]


def test_following_ends_when_it_is_told_to(bench: Bench) -> None:
    bench.use({"web": {"command": "echo one; sleep 600"}})
    key = bench.run()
    enough = threading.Event()
    texts = []
    for line in bench.engine.read_logs([bench.look(key)], follow=True, stopped=enough.is_set):
        texts.append(line.text)
        enough.set()
    assert texts == ["one"]
