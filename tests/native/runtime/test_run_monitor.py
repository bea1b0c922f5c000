"""Monitors: ends are seen at once, a killed monitor is noticed, nothing is held for longer than it must be."""

from __future__ import annotations

import os
import queue
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import BoxMaker

from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.runtime import monitor, process
from orchestrator.engines.native.runtime.exits import ExitWatch, watch_exits
from orchestrator.engines.native.runtime.oci_runtime import Runtime


@pytest.fixture
def ends(layout: Layout) -> Iterator[tuple[ExitWatch, queue.SimpleQueue[monitor.ExitInfo]]]:
    told: queue.SimpleQueue[monitor.ExitInfo] = queue.SimpleQueue()
    watch = watch_exits(layout, told.put)
    yield watch, told
    watch.close()
    assert told.empty(), "an end was told twice"


Ends = tuple[ExitWatch, "queue.SimpleQueue[monitor.ExitInfo]"]


def test_an_end_is_told_once(ends: Ends, one_box: BoxMaker) -> None:
    watch, told = ends
    made = one_box("sh", "-c", "read x; exit 6", stdin_open=True)
    launched = made.launch()
    watch.add(made.id)
    process.send_signal(launched.pid, launched.start_time, signal.SIGKILL)
    info = told.get(timeout=60)
    assert (info.container_id, info.exit_code, info.lost) == (made.id, 137, False)


def test_ends_of_containers_that_were_not_added(ends: Ends, one_box: BoxMaker) -> None:
    _watch, told = ends
    made = [one_box("sh", "-c", f"exit {code}") for code in (1, 2, 3)]
    for one in made:
        one.launch()
    assert sorted(told.get(timeout=60).exit_code for _ in made) == [1, 2, 3]


def test_one_that_ended_before_it_was_added(layout: Layout, one_box: BoxMaker) -> None:
    made = one_box("sh", "-c", "exit 9")
    made.launch()
    made.wait()
    told: queue.SimpleQueue[monitor.ExitInfo] = queue.SimpleQueue()
    watch = watch_exits(layout, told.put)
    watch.add(made.id)
    assert told.get(timeout=60).exit_code == 9
    watch.close()


def test_a_killed_monitor_leaves_the_container(ends: Ends, one_box: BoxMaker) -> None:
    watch, told = ends
    made = one_box("sleep", "100")
    launched = made.launch()
    watch.add(made.id)
    process.send_signal(launched.monitor_pid, launched.monitor_start_time, signal.SIGKILL)
    process.wait_process(launched.monitor_pid, launched.monitor_start_time, 20)
    state = monitor.observe_process(made.layout, made.id)
    assert state is not None
    assert (state.alive, state.monitored) == (True, False)
    assert made.exec("echo", "alive").output == "alive\n"
    process.send_signal(launched.pid, launched.start_time, signal.SIGKILL)
    info = told.get(timeout=60)
    assert (info.container_id, info.exit_code, info.lost) == (made.id, 255, True)
    assert monitor.read_exit(made.layout, made.id) is None


def test_a_launch_that_did_not_come_to_its_notes(one_box: BoxMaker) -> None:
    made = one_box("sleep", "100")
    launched = made.launch()
    (made.layout.container_run(made.id) / "process").unlink()
    state = monitor.observe_process(made.layout, made.id)
    assert state is not None
    assert (state.pid, state.start_time, state.alive) == (launched.pid, launched.start_time, True)
    assert (state.monitor_pid, state.monitored) == (launched.monitor_pid, True)


def test_pids_of_others_are_never_taken_for_ours(one_box: BoxMaker) -> None:
    made = one_box("sleep", "100")
    made.launch()
    folder = made.layout.container_run(made.id)
    own = os.getpid()
    (folder / "process").write_text(f"{own} 1 {own} 1")
    state = monitor.observe_process(made.layout, made.id)
    assert state is not None
    assert (state.alive, state.monitored) == (False, False)
    assert not process.send_signal(own, 1, signal.SIGKILL)
    (folder / "process").unlink()
    (folder / "pid").write_text(str(own))
    state = monitor.observe_process(made.layout, made.id)
    assert state is not None
    assert not state.alive


def test_out_of_memory_is_told(one_box: BoxMaker) -> None:
    from orchestrator.model import Resources

    made = one_box("tail", "/dev/zero", resources=Resources(memory=16 << 20, memswap_limit=16 << 20))
    made.launch()
    info = made.wait()
    assert (info.exit_code, info.oom_killed) == (137, True)


def test_an_attached_client_misses_nothing(one_box: BoxMaker) -> None:
    made = one_box("sh", "-c", "read line; echo got $line", stdin_open=True)
    made.launch(start=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(made.layout.container_run(made.id) / "attach"))
        made.runtime.start(made.id)
        client.send(b"hello\n")
        client.settimeout(20)
        packet = client.recv(8192)
    assert packet == b"\x02got hello\n"
    assert made.wait().exit_code == 0


def test_everything_is_removed(one_box: BoxMaker) -> None:
    made = one_box("true")
    made.launch()
    made.wait()
    made.runtime.forget(made.id, made.cgroup)
    folder = made.layout.container_run(made.id)
    (folder / "exec-killed").mkdir()
    (folder / "exec-killed/pid").touch()
    exits = Path(monitor.exits_folder(made.layout))
    for cut_short in (folder / "process.new", folder / "pid.ABC123", exits / f"{made.id}.ABC123"):
        cut_short.touch()
    monitor.remove_traces(made.layout, made.id)
    assert [path.name for path in folder.iterdir()] == ["rootfs"]
    assert not list(exits.iterdir())
    assert not made.runtime.knows(made.id)


def test_the_probe_is_remembered(layout: Layout, crun: Runtime) -> None:
    from orchestrator.engines.native.runtime.facts import observe_host
    from orchestrator.engines.native.runtime.oci_runtime import load_runtime

    kept = (layout.cache / "runtime.json").read_text()
    assert load_runtime(layout, observe_host().cgroups) == crun
    assert (layout.cache / "runtime.json").read_text() == kept
    (layout.cache / "runtime.json").write_text("{")
    assert load_runtime(layout, observe_host().cgroups) == crun


def test_a_runtime_that_is_not_installed(layout: Layout) -> None:
    from orchestrator.engines.native.runtime.facts import observe_host
    from orchestrator.engines.native.runtime.oci_runtime import load_runtime
    from orchestrator.errors import Unavailable

    with pytest.raises(Unavailable) as caught:
        load_runtime(layout, observe_host().cgroups, "no-such-runtime")
    assert "apt-get install" in caught.value.hint


@pytest.mark.parametrize(("name", "number"), [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), (1, 1)])
def test_signal_names(name: str | int, number: int) -> None:
    assert process.parse_signal(name) == number


def test_a_signal_that_is_none() -> None:
    from orchestrator.errors import EngineError

    with pytest.raises(EngineError):
        process.parse_signal("SIGNOTHING")
