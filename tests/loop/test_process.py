"""Real processes: keeper, supervisor, clients that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from disk_engine import DiskEngine

from orchestrator.engines.native.layout import Layout
from orchestrator.errors import StackError, Unavailable
from orchestrator.events import Event
from orchestrator.goal import Goal, Want
from orchestrator.model import Stack
from orchestrator.source import SourceMap
from orchestrator.spec.bind import bind_stack
from orchestrator.supervision import client, control, launch, supervisor
from orchestrator.supervision.client import Session, converge, load_goal, query_status, request_shutdown


def bind(services: dict[str, Any]) -> Stack:
    tree = {"name": "demo", "services": services}
    return bind_stack(tree, SourceMap(), directory="/", files=("/compose.yaml",))


def stack_of(*names: str, image: str = "img", **config: Any) -> Stack:
    return bind({name: {"image": image, **config} for name in names})


def up(stack: Stack, **fields: Any) -> Goal:
    return Goal(stack=stack, wants=dict.fromkeys(stack.services, "running"), issued_at=time.time(), **fields)


def down(stack: Stack) -> Goal:
    wants: dict[str, Want] = dict.fromkeys(stack.services, "absent")
    return Goal(stack=stack, wants=wants, issued_at=time.time(), down=True, remove_orphans=True)


def ignore(_event: Event) -> None:
    pass


def eventually(check: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"in vain: {what}")


def wait_for_end(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(pid)
            assert select.select([process], [], [], 10)[0], f"process {pid} is still there"
            os.close(process)


def files_of(place: Layout) -> list[str]:
    return [str(path) for root in (place.run, place.state) for path in root.rglob("*") if not path.is_dir()]


@pytest.fixture
def project(disk: DiskEngine, place: Layout) -> Iterator[Stack]:
    stack = stack_of("app", "web")
    yield stack
    # Whatever the test did: this must bring everything down.
    assert converge(down(stack), sink=ignore).converged
    assert disk.load() == []
    assert query_status("demo") is None
    assert files_of(place) == []


def test_up_leaves_a_supervisor_and_down_leaves_nothing(project: Stack, disk: DiskEngine, place: Layout) -> None:
    events: list[Event] = []
    assert converge(up(project), sink=events.append, prepared=launch.prepare()).converged
    assert events[-1].kind == "converged"
    assert [one.phase for one in events if one.action == "start app-1"] == ["started", "done"]
    status = query_status("demo")
    assert status is not None
    assert status["settled"] and status["containers"]["demo-app-1"]["status"] == "running"
    assert os.getsid(status["pid"]) == os.getsid(status["keeper"]) == status["keeper"]
    goal = load_goal("demo")
    assert goal is not None and dict(goal.wants) == {"app": "running", "web": "running"}
    assert converge(down(project), sink=ignore).converged
    for pid in (status["pid"], status["keeper"]):
        with pytest.raises(ProcessLookupError):
            os.pidfd_open(pid)
    assert files_of(place) == []


def test_the_supervisor_holds_no_stream_of_its_starter(project: Stack) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    assert converge(up(project), sink=ignore, prepared=launch.prepare()).converged
    os.close(writer)
    assert select.select([reader], [], [], 5)[0]
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_nothing_is_left_when_the_starter_goes_away_before_it_names_a_project(place: Layout) -> None:
    prepared = launch.prepare()
    children = eventually(lambda: children_of(prepared.keeper), "the keeper forks")
    prepared.close()
    wait_for_end(prepared.keeper, *children)
    assert files_of(place) == []


def test_nothing_is_left_when_the_starter_is_killed_before_it_names_a_project(place: Layout) -> None:
    reader, writer = os.pipe()
    starter = os.fork()
    if starter == 0:
        prepared = launch.prepare()
        os.write(writer, str(prepared.keeper).encode())
        time.sleep(60)
        os._exit(0)
    keeper = int(os.read(reader, 16))
    children = eventually(lambda: children_of(keeper), "the keeper forks")
    os.kill(starter, signal.SIGKILL)
    os.waitpid(starter, 0)
    wait_for_end(keeper, *children)


def children_of(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def test_a_killed_supervisor_is_back_at_once_and_restarts_no_container(project: Stack, disk: DiskEngine) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    calls = disk.calls()
    for _ in range(3):
        before = query_status("demo")
        assert before is not None
        os.kill(before["pid"], signal.SIGKILL)
        after = eventually(lambda: query_status("demo"), "a successor")
        assert after["pid"] != before["pid"]
        assert after["keeper"] == before["keeper"]
        eventually(lambda: query_status("demo")["containers"], "it has adopted the containers")  # type: ignore[index]
    assert disk.calls() == calls
    assert len((disk.folder / "served").read_text().splitlines()) == 4
    assert converge(up(project), sink=ignore).converged
    assert disk.calls() == calls


def test_a_successor_applies_restart_policies(disk: DiskEngine, place: Layout) -> None:
    stack = stack_of("app", restart="always")
    converge(up(stack), sink=ignore, prepared=launch.prepare())
    status = query_status("demo")
    assert status is not None
    os.kill(status["pid"], signal.SIGKILL)
    disk.end_container("demo-app-1", 1, tell=False)
    eventually(lambda: disk.calls(prefix="start") == ["start demo-app-1"] * 2, "the successor starts it again")
    eventually(lambda: disk.find("demo-app-1").alive, "it runs")
    tell_end(disk, "demo-app-1", 1)
    eventually(lambda: disk.calls(prefix="start") == ["start demo-app-1"] * 3, "and again")
    assert disk.find("demo-app-1").restart_count == 2
    converge(down(stack), sink=ignore)


def tell_end(disk: DiskEngine, name: str, code: int) -> None:
    with open(disk.folder / "news", "w") as news:
        news.write(f"{name} {code}\n")


def test_a_killed_keeper_is_replaced_at_once_and_the_new_one_keeps(project: Stack, disk: DiskEngine) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    first = query_status("demo")
    assert first is not None
    calls = disk.calls()
    keeper = first["keeper"]
    for _ in range(2):
        kill_and_reap(keeper)
        status = eventually(lambda gone=keeper: has_keeper_other_than(gone), "another keeper")
        assert status["pid"] == first["pid"]
        keeper = status["keeper"]
        assert Path(f"/proc/{keeper}/comm").read_text() == "stack-keeper\n"
    # The new one is no parent of what it keeps; of what it starts, it is.
    for _ in range(2):
        before = query_status("demo")
        assert before is not None
        os.kill(before["pid"], signal.SIGKILL)
        after = eventually(lambda gone=before["pid"]: has_successor(gone), "a successor")
        assert after["keeper"] == keeper
        eventually(lambda: query_status("demo")["containers"], "it has adopted the containers")  # type: ignore[index]
    assert disk.calls() == calls
    assert converge(up(project), sink=ignore).converged
    assert disk.calls() == calls


def kill_and_reap(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def has_keeper_other_than(gone: int) -> dict[str, Any] | None:
    """The project's status once it has a keeper that is its own comm, and not `gone`."""
    status = query_status("demo")
    if status is None or status["keeper"] in (0, gone):
        return None
    # Before it is itself it is still an interpreter that has just been started.
    named = Path(f"/proc/{status['keeper']}/comm")
    return status if named.exists() and named.read_text() == "stack-keeper\n" else None


def has_successor(gone: int) -> dict[str, Any] | None:
    status = query_status("demo")
    return status if status is not None and status["pid"] != gone else None


def test_a_new_keeper_starts_nothing_after_a_supervisor_that_left(project: Stack, disk: DiskEngine) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    first = query_status("demo")
    assert first is not None
    kill_and_reap(first["keeper"])
    status = eventually(lambda: has_keeper_other_than(first["keeper"]), "another keeper")
    assert request_shutdown("demo")
    wait_for_end(status["keeper"])
    assert query_status("demo") is None
    assert all(one.alive for one in disk.load())


def test_keeper_and_supervisor_killed_one_after_the_other(project: Stack, disk: DiskEngine) -> None:
    """Whether another keeper was there in time or not: the next command finds the project as it was."""
    converge(up(project), sink=ignore, prepared=launch.prepare())
    calls = disk.calls()
    for pause in (0.0, 0.001, 0.01, 0.03):
        status = eventually(lambda: query_status("demo"), "a supervisor")
        os.kill(status["keeper"], signal.SIGKILL)
        time.sleep(pause)
        os.kill(status["pid"], signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(status["keeper"], 0)
        assert converge(up(project), sink=ignore, prepared=launch.prepare()).converged
        assert disk.calls() == calls


def test_after_both_are_killed_the_next_command_adopts(project: Stack, disk: DiskEngine) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    status = query_status("demo")
    assert status is not None
    os.killpg(status["keeper"], signal.SIGKILL)
    wait_for_end(status["pid"])
    calls = disk.calls()
    assert converge(up(project), sink=ignore, prepared=launch.prepare()).converged
    assert disk.calls() == calls


def test_a_supervisor_that_dies_half_way_is_followed_to_its_successor(
    project: Stack, disk: DiskEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISK_ENGINE_DELAY", "0.2")
    killed: list[int] = []

    def kill_once(event: Event) -> None:
        if event.action == "start app-1" and not killed:
            status = query_status("demo")
            assert status is not None
            killed.append(status["pid"])
            os.kill(status["pid"], signal.SIGKILL)

    assert converge(up(project), sink=kill_once, prepared=launch.prepare()).converged
    assert killed
    assert all(one.alive for one in disk.load())
    assert len(disk.calls(prefix="create demo")) == 2


def test_a_supervisor_that_keeps_crashing_is_started_with_growing_pauses(project: Stack, disk: DiskEngine) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    status = query_status("demo")
    assert status is not None
    served = disk.folder / "served"
    (disk.folder / "crash").touch()
    os.kill(status["pid"], signal.SIGKILL)
    eventually(lambda: len(served.read_text().splitlines()) >= 4, "it is tried again")
    (disk.folder / "crash").unlink()
    eventually(lambda: (query_status("demo") or {}).get("containers"), "it recovers")
    assert len(served.read_text().splitlines()) < 12
    assert all(one.alive for one in disk.load())


def test_a_follower_is_taken_along_to_the_successor(project: Stack, disk: DiskEngine) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    status = query_status("demo")
    assert status is not None
    heard: list[Event] = []
    other = os.fork()
    if other == 0:
        time.sleep(0.1)
        os.kill(status["pid"], signal.SIGKILL)
        eventually(lambda: (query_status("demo") or {}).get("containers"), "a successor")
        # The follower has to be there as well.
        eventually(lambda: (query_status("demo") or {})["clients"] >= 2, "the follower is back")
        tell_end(disk, "demo-web-1", 9)
        os._exit(0)
    with Session("demo") as session:
        assert session.follow(heard.append, until=lambda one: one.action == "die")
    os.waitpid(other, 0)
    assert heard[-1].details["exit_code"] == 9


def test_sigterm_ends_supervision_and_no_container(project: Stack, disk: DiskEngine) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    status = query_status("demo")
    assert status is not None
    os.kill(status["pid"], signal.SIGTERM)
    wait_for_end(status["pid"], status["keeper"])
    assert all(one.alive for one in disk.load())
    assert query_status("demo") is None
    assert load_goal("demo") is not None


def test_request_shutdown_waits_for_both_processes(project: Stack, disk: DiskEngine) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    status = query_status("demo")
    assert status is not None
    assert request_shutdown("demo")
    assert query_status("demo") is None
    assert not request_shutdown("demo")
    assert all(one.alive for one in disk.load())


def test_a_supervisor_of_another_version_is_replaced(
    project: Stack, disk: DiskEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    old = query_status("demo")
    calls = disk.calls()
    monkeypatch.setattr(control, "CODE_VERSION", "9/9")
    monkeypatch.setattr(client, "CODE_VERSION", "9/9")
    monkeypatch.setattr(supervisor, "CODE_VERSION", "9/9")
    assert query_status("demo") is None
    assert old is not None
    os.kill(old["pid"], 0)  # who only asks has not ended what supervises
    assert converge(up(project), sink=ignore).converged
    new = query_status("demo")
    assert old is not None and new is not None
    assert (old["pid"], new["version"]) != (new["pid"], old["version"])
    assert disk.calls() == calls


def test_two_at_once_become_one_supervisor(project: Stack, disk: DiskEngine) -> None:
    others = [run_client(up(project)) for _ in range(3)]
    assert converge(up(project), sink=ignore, prepared=launch.prepare()).converged
    assert [os.waitpid(pid, 0)[1] for pid in others] == [0, 0, 0]
    assert sorted(disk.calls(prefix="create")) == ["create demo-app-1", "create demo-web-1"]
    assert sorted(disk.calls(prefix="start")) == ["start demo-app-1", "start demo-web-1"]


def run_client(goal: Goal, *, before: Callable[[], None] = lambda: None) -> int:
    """A command in a process of its own; its exit status says whether the goal was reached."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            before()
            status = 0 if converge(goal, sink=ignore, prepared=launch.prepare()).converged else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def test_clients_killed_at_random_moments_leave_a_project_that_comes_up_and_goes_down(
    disk: DiskEngine, place: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISK_ENGINE_DELAY", "0.01")
    stack = stack_of("a", "b", "c")
    chance = random.Random(7)
    for _round in range(12):
        victim = run_client(up(stack))
        time.sleep(chance.uniform(0.0, 0.15))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        assert converge(up(stack), sink=ignore, prepared=launch.prepare()).converged
        assert sorted(one.name for one in disk.load()) == ["demo-a-1", "demo-b-1", "demo-c-1"]
        assert converge(down(stack), sink=ignore, prepared=launch.prepare()).converged
        assert disk.load() == []
        # A killed client's supervisor may have had the goal already: it is then the one that was asked above.
        eventually(lambda: query_status("demo") is None, "the supervisor leaves")
    eventually(lambda: files_of(place) == [], "no file is left")


def test_an_interrupted_command_can_give_another_goal(project: Stack, disk: DiskEngine) -> None:
    slow = {"image": "img", "healthcheck": {"test": ["CMD", "x"], "interval": "1h0m0s"}}
    needs = {"db": {"condition": "service_healthy", "required": True}}
    stack = bind({"db": slow, "web": {"image": "img", "depends_on": needs}})

    def interrupt(event: Event) -> None:
        if event.action == "wait db healthy":
            raise KeyboardInterrupt

    with Session("demo", prepared=launch.prepare()) as session:
        with pytest.raises(KeyboardInterrupt):
            session.converge(up(stack), interrupt)
        stop = Goal(stack=stack, wants={"db": "stopped", "web": "stopped"}, issued_at=time.time())
        assert session.converge(stop, ignore).converged
        assert session.finish()
    assert not any(one.alive for one in disk.load())


def test_a_goal_interrupted_before_anybody_took_it_is_not_taken_up_later(place: Layout, disk: DiskEngine) -> None:
    stack = stack_of("app")
    session = Session("demo", prepared=launch.prepare())
    previous = signal.signal(signal.SIGALRM, raise_interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.0001)
            session.converge(up(stack), ignore)
            time.sleep(5)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert session.converge(down(stack), ignore).converged
    session.finish()
    session.close()
    assert disk.load() == []


def raise_interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def test_a_follower_hears_of_exits_and_of_the_end(project: Stack, disk: DiskEngine) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    with Session("demo") as session:
        heard: list[Event] = []
        assert session.ask("ping", "pong") == {"pong": True}
        other = os.fork()
        if other == 0:
            time.sleep(0.2)
            tell_end(disk, "demo-app-1", 6)
            os._exit(0)
        assert session.follow(heard.append, until=lambda one: one.action == "die")
        os.waitpid(other, 0)
        assert (heard[-1].service, heard[-1].details["exit_code"]) == ("app", 6)


def test_a_supervisor_without_containers_leaves_when_its_last_client_does(place: Layout, disk: DiskEngine) -> None:
    stack = stack_of("job", image="oneshot")
    assert converge(up(stack), sink=ignore, prepared=launch.prepare()).converged
    eventually(lambda: query_status("demo") is None, "the supervisor leaves")
    assert load_goal("demo") is not None
    converge(down(stack), sink=ignore, prepared=launch.prepare())


def test_nonsense_on_the_socket_is_refused_and_harms_nobody(project: Stack, place: Layout) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    for nonsense in (b"not json\n", b"[1]\n", b'{"do":"dance"}\n', b'{"do":"apply","request":1,"goal":{}}\n'):
        connection = control.connect_control(control.Place.of("demo", place))
        assert connection is not None
        connection.sendall(nonsense)
        answer = b""
        while b"refused" not in answer:
            data = connection.recv(65536)
            assert data
            answer += data
        connection.close()
    assert query_status("demo") is not None


def test_an_engine_that_cannot_be_loaded_is_one_clear_message(place: Layout) -> None:
    with pytest.raises(StackError, match="no engine is called nowhere"):
        converge(up(stack_of("app")), sink=ignore, engine="nowhere")


def test_a_timeout_is_told_and_the_goal_stays(
    project: Stack, disk: DiskEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISK_ENGINE_DELAY", "0.3")
    with pytest.raises(Unavailable, match="timed out"):
        converge(up(project), sink=ignore, prepared=launch.prepare(), timeout=0.2)
    eventually(lambda: len([one for one in disk.load() if one.alive]) == 2, "it comes up all the same")


def test_a_deep_run_directory_does_not_matter(
    tmp_path: Path, disk: DiskEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 120)
    monkeypatch.setenv("STACK_RUN_DIR", str(deep))
    stack = stack_of("app")
    assert converge(up(stack), sink=ignore, prepared=launch.prepare()).converged
    assert query_status("demo") is not None
    assert converge(down(stack), sink=ignore).converged


def test_the_goal_on_disk_is_whole_json(project: Stack, place: Layout) -> None:
    converge(up(project), sink=ignore, prepared=launch.prepare())
    data = json.loads(Path(control.Place.of("demo", place).goal).read_text())
    assert data["version"] == control.CODE_VERSION
    assert oct(Path(control.Place.of("demo", place).goal).stat().st_mode & 0o777) == "0o600"
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(control.Place.of("demo", place).socket)
