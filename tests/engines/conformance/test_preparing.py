"""A start that is done ahead of its time: nobody notices, and it can be taken back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from orchestrator.engines.native.engine import NativeEngine
from orchestrator.model import VolumeMount

from .conftest import Bench

ECHO = "echo begun; sleep 600"


def native(bench: Bench) -> NativeEngine:
    if not isinstance(bench.engine, NativeEngine):
        pytest.skip("the native engine's own way to do it")
    return bench.engine


def waiting_process(engine: NativeEngine, key: str) -> int:
    return int(Path(engine.layout.container_run(key) / "pid").read_text())


def test_what_is_prepared_has_not_begun(bench: Bench) -> None:
    bench.use({"web": {"command": ECHO}})
    key = bench.create()
    bench.engine.prepare_container(key)
    assert (bench.look(key).status, bench.look(key).alive, bench.look(key).pid) == ("created", False, 0)
    bench.start(key)
    bench.wait_until(lambda: bench.logs(key) == ["begun"])
    assert bench.look(key).alive


def test_preparing_twice_and_what_runs_changes_nothing(bench: Bench) -> None:
    bench.use({"web": {"command": ECHO}})
    key = bench.create()
    bench.engine.prepare_container(key)
    bench.engine.prepare_container(key)
    bench.engine.start_container(key)
    before = bench.look(key)
    bench.engine.prepare_container(key)
    bench.engine.unprepare_container(key)
    assert bench.look(key) == before
    assert before.alive


def test_it_can_be_taken_back(bench: Bench) -> None:
    bench.use({"web": {"command": ECHO}})
    key = bench.create()
    bench.engine.prepare_container(key)
    bench.engine.unprepare_container(key)
    assert bench.look(key).status == "created"
    if isinstance(bench.engine, NativeEngine):
        assert not bench.engine.layout.container_run(key).exists()
    bench.start(key)
    bench.wait_until(lambda: bench.logs(key) == ["begun"])


def test_what_is_prepared_can_be_removed(bench: Bench) -> None:
    bench.use({"web": {"command": ECHO}})
    key = bench.create()
    bench.engine.prepare_container(key)
    bench.engine.remove_container(key)
    assert not bench.observe().containers


def test_the_process_waits_before_its_first_instruction(bench: Bench) -> None:
    engine = native(bench)
    bench.use({"web": {"command": ECHO}})
    key = bench.create()
    engine.prepare_container(key)
    pid = waiting_process(engine, key)
    os.kill(pid, 0)
    assert bench.logs(key) == []
    bench.start(key)
    assert bench.look(key).pid == pid


def test_one_that_died_while_it_waited_is_started_anew(bench: Bench) -> None:
    engine = native(bench)
    bench.use({"web": {"command": ECHO}})
    key = bench.create()
    engine.prepare_container(key)
    pid = waiting_process(engine, key)
    os.kill(pid, signal.SIGKILL)
    bench.wait_until(lambda: not Path(f"/proc/{pid}").exists())
    bench.start(key)
    bench.wait_until(lambda: bench.logs(key) == ["begun"])


def test_another_process_starts_it_anew(bench: Bench) -> None:
    engine = native(bench)
    bench.use({"web": {"command": ECHO}})
    key = bench.create()
    engine.prepare_container(key)
    pid = waiting_process(engine, key)
    NativeEngine(engine.layout).start_container(key)
    bench.wait_until(lambda: bench.logs(key) == ["begun"])
    assert bench.look(key).pid != pid
    assert not Path(f"/proc/{pid}").exists()


def test_what_depends_on_the_host_is_left_for_the_start(bench: Bench, tmp_path: Path) -> None:
    engine = native(bench)
    source = tmp_path / "later"
    bench.use({"web": {"command": "cat /given; sleep 600"}})
    mount = VolumeMount(type="bind", source=str(source), target="/given")
    bench.stack = bench.stack.replace(services={"web": bench.stack.services["web"].replace(volumes=(mount,))})
    key = bench.create()
    engine.prepare_container(key)
    assert not engine.layout.container_run(key).exists()
    source.write_text("made meanwhile\n")
    bench.start(key)
    bench.wait_until(lambda: bench.logs(key) == ["made meanwhile"])


def test_a_volume_of_several_is_filled_by_who_starts_first(bench: Bench) -> None:
    engine = native(bench)
    shared = {"volumes": ["data:/data"], "command": ECHO}
    bench.use({"web": shared, "db": shared}, volumes={"data": {}})
    web, _db = bench.create("web"), bench.create("db")
    engine.prepare_container(web)
    assert not engine.layout.container_run(web).exists()
