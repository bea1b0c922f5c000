"""What breaks a machine: killed processes, full disks, reboots, hurry. Everything heals with the next command."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Machine, Project, open_folders
from .leaks import await_no_leaks, list_processes
from .pages import await_page

STACKED = """
services:
  a:
    image: busybox
    init: true
    command: [sh, -c, "echo hi > /index.html; exec httpd -f -p 80 -h /"]
    ports: ["127.0.0.1::80"]
    volumes: ["data:/v", "/anonymous"]
    restart: always
  b: {image: busybox, init: true, command: [sleep, "1000"], depends_on: [a], secrets: [word]}
  c: {image: busybox, init: true, command: [sleep, "1000"], networks: [default, other]}
  d: {image: busybox, command: ["true"]}
volumes: {data: {}}
networks: {other: {}}
secrets: {word: {environment: HOME}}
"""

RUNNING = {"a-1": "running", "b-1": "running", "c-1": "running", "d-1": "exited"}


def states(project: Project) -> dict[str, str]:
    return {name: row["State"] for name, row in project.containers().items()}


def processes(project: Project, *names: str) -> list[int]:
    """The engine's processes that are called so: stack-keeper, stack-supervise, conmon."""
    found = []
    for pid in list_processes(project.machine.state, project.machine.run_dir):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() in names:
                found.append(pid)
        except OSError:
            continue
    return found


def kill_all(pids: list[int]) -> None:
    """End all of them at once: none may start again another one that it keeps."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def read_page(project: Project) -> str:
    return await_page(f"http://{project.succeed('port', 'a', '80').strip()}/")


def test_names_and_ports_come_back_with_another_supervisor(project: Project) -> None:
    project.write(STACKED)
    project.succeed("up", "-d")
    before = project.pid("a-1"), project.pid("b-1"), project.succeed("port", "a", "80")
    first = processes(project, "stack-supervise")
    kill_all(first)
    project.wait_until("the keeper starts another", lambda: processes(project, "stack-supervise") not in ([], first))
    project.succeed("up", "-d")
    assert (project.pid("a-1"), project.pid("b-1"), project.succeed("port", "a", "80")) == before
    project.succeed("exec", "-T", "b", "ping", "-c1", "-W2", "a")
    assert read_page(project) == "hi\n"


def test_a_container_ends_while_nobody_supervises(project: Project) -> None:
    project.write(STACKED)
    project.succeed("up", "-d")
    kill_all(processes(project, "stack-keeper") + processes(project, "stack-supervise"))
    first, other = project.pid("a-1"), project.pid("b-1")
    kill_all([first, other])
    # ps tells the truth although nobody wrote it down.
    project.wait_until("ps tells it", lambda: states(project)["b-1"] == "exited")
    assert project.containers()["b-1"]["ExitCode"] == 137
    project.succeed("up", "-d")
    assert states(project) == RUNNING
    assert project.pid("a-1") != first
    assert read_page(project) == "hi\n"


def test_a_monitor_dies(project: Project) -> None:
    project.write(STACKED)
    project.succeed("up", "-d")
    first, quiet = project.pid("a-1"), project.pid("b-1")
    kill_all(processes(project, "conmon"))
    # Containers outlive their monitors.
    assert states(project) == RUNNING
    # Their ends are seen all the same: what has a policy comes back, with a new monitor.
    kill_all([first, quiet])
    project.wait_until("a is restarted", lambda: states(project)["a-1"] == "running" and project.pid("a-1") != first)
    project.wait_until("b has ended", lambda: states(project)["b-1"] == "exited")
    assert project.containers()["b-1"]["ExitCode"] == 255
    assert len(processes(project, "conmon")) == 1
    assert read_page(project) == "hi\n"


VICTIMS = {
    "command": 2,
    "group": 5,
    "supervisor": 8,
    "supervisor and keeper": 11,
    "all but containers": 14,
    "everything": 17,
    "down": 12,
}
"""Who is killed, and after how many events: tests/kill_loop tries any moment."""


@pytest.mark.parametrize("victim", VICTIMS)
def test_killed_in_the_middle(project: Project, victim: str) -> None:
    project.write(STACKED)
    verb = ("up", "-d")
    if victim == "down":
        project.succeed("up", "-d")
        verb = ("down", "-v", "-t", "0")
    command = project.popen("--progress", "json", *verb)
    assert command.stderr is not None
    for _event in range(VICTIMS[victim]):
        assert command.stderr.readline()
    kill_victims(project, victim, command)
    command.communicate(timeout=60)
    project.succeed("up", "-d")
    assert states(project) == RUNNING
    project.succeed("exec", "-T", "b", "ping", "-c1", "-W2", "a")
    project.succeed("down", "-v", "-t", "0")
    assert not await_no_leaks(project.machine.state, project.machine.run_dir)


def kill_victims(project: Project, victim: str, command: subprocess.Popen[str]) -> None:
    if victim != "supervisor":
        command.kill()
    if victim == "group":
        kill_all([command.pid, *processes(project, "python3", "python")])
    if victim not in ("command", "group"):
        kill_all(processes(project, "stack-supervise"))
    if victim not in ("command", "group", "supervisor"):
        kill_all(processes(project, "stack-keeper"))
    if victim == "all but containers":
        kill_all(processes(project, "conmon"))
    if victim == "everything":
        kill_all(list_processes(project.machine.state, project.machine.run_dir))


def test_two_ups_of_one_project_at_once(project: Project) -> None:
    project.write(STACKED)
    for _round in range(2):
        started = [project.popen("up", "-d") for _ in range(3)]
        for one in started:
            _out, err = one.communicate(timeout=60)
            assert one.returncode == 0, err
        assert states(project) == RUNNING
        assert len(processes(project, "stack-supervise")) == 1
        started = [project.popen("down", "-t", "0") for _ in range(2)]
        for one in started:
            _out, err = one.communicate(timeout=60)
            assert one.returncode == 0, err


def test_many_projects_at_once_share_no_address_and_no_port(machine: Machine) -> None:
    for projects in open_folders(machine, [f"crowd{number}" for number in range(4)]):
        for one in projects:
            one.write("""
services:
  w: {image: busybox, init: true, command: [sleep, "1000"], ports: ["80", "127.0.0.1:41500-41599:81"], scale: 2}
""")
        started = [one.popen("up", "-d") for one in projects]
        for process in started:
            _out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        with sqlite3.connect(machine.state / "stack.db") as store:
            pools = [row[0] for row in store.execute("SELECT pools FROM networks")]
            ports = store.execute("SELECT host_port FROM ports").fetchall()
        assert len(set(pools)) == len(pools) == 4
        assert len(set(ports)) == len(ports) == 16
        for one in projects:
            one.succeed("exec", "-T", "--index", "1", "w", "ping", "-c1", "-W2", f"{one.name}-w-2")
        started = [one.popen("down", "-t", "0") for one in projects]
        assert [one.communicate(timeout=60) and one.returncode for one in started] == [0, 0, 0, 0]


def test_a_reboot(project: Project) -> None:
    project.write(STACKED)
    project.succeed("up", "-d")
    project.succeed("exec", "-T", "b", "touch", "/made")
    project.succeed("exec", "-T", "a", "sh", "-c", "echo kept > /v/note")
    lose_power(project.machine)
    # Nothing runs, and ps says so; up starts what is there.
    assert set(states(project).values()) == {"exited"}
    project.succeed("up", "-d")
    assert states(project) == RUNNING
    assert project.succeed("exec", "-T", "a", "cat", "/v/note") == "kept\n"
    project.succeed("exec", "-T", "b", "test", "-e", "/made")
    assert read_page(project) == "hi\n"
    # And down after a reboot has nothing to stop, but much to remove.
    lose_power(project.machine)
    project.succeed("down", "-v")


def lose_power(machine: Machine) -> None:
    """What a reboot leaves of an engine: its state directory."""
    kill_all(list_processes(machine.state, machine.run_dir))
    left: list[str] = []
    for _attempt in range(100):
        left = list(list_processes(machine.state, machine.run_dir))  # type: ignore[arg-type]
        if not left:
            break
        kill_all(left)
        time.sleep(0.02)
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in reversed([one for one in places if one.startswith(f"{machine.run_dir}/")]):
        subprocess.run(["umount", "-l", place], check=True)
    shutil.rmtree(machine.run_dir)
    for kind, words in (("link", "ip link delete {}"), ("nftables", "nft delete table {}")):
        for leak in await_no_leaks(machine.state, machine.run_dir, 0):
            if leak.startswith(f"{kind} "):
                name = leak.removeprefix("link ").removeprefix("nftables table ").removeprefix("table ")
                subprocess.run(words.format(name).split(), check=False, capture_output=True)
    for folder in Path("/sys/fs/cgroup").glob(f"*/{cgroup_name(machine)}"):
        for below in [*folder.iterdir(), folder]:
            if below.is_dir():
                below.rmdir()


def cgroup_name(machine: Machine) -> str:
    from orchestrator.engines.native.layout import Layout

    return f"stack-{Layout(machine.state, machine.run_dir).tag}"


@pytest.fixture
def small_disk(tmp_path: Path, machine: Machine) -> Iterator[Machine]:
    """An engine whose state directory holds 80 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", place], check=True)
    made = Machine(place)
    made.run_dir = tmp_path / "run"
    made.environment["STACK_RUN_DIR"] = str(made.run_dir)
    try:
        ran = made.run("image", "import", str(machine.folder / "busybox.tar"), "--tag", "busybox", cwd=tmp_path)
        assert ran.code == 0, ran.err
        yield made
        assert not await_no_leaks(made.state, made.run_dir)
    finally:
        if made.run_dir.exists():
            lose_power(made)
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk(small_disk: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "fulldisk"
    folder.mkdir()
    project = Project(small_disk, folder)
    project.write(STACKED)
    write_tar(tmp_path / "image.tar")
    filler = small_disk.folder / "filler"
    fill(filler)
    ran = project.run("up", "-d")
    assert ran.code == 1
    assert "No space left" in ran.err or "disk is full" in ran.err
    assert "internal error" not in ran.err
    assert "Traceback" not in ran.err
    # An image that does not fit says so as well, and leaves nothing behind.
    before = project.succeed("image", "ls", "-q")
    ran = project.run("image", "import", str(tmp_path / "image.tar"), "--tag", "busybox:2")
    assert ran.code == 1
    assert "disk-full" in ran.err
    assert project.succeed("image", "ls", "-q") == before
    assert not list((small_disk.state / "images/work").iterdir())
    filler.unlink()
    project.succeed("up", "-d")
    assert states(project) == RUNNING
    # It fills while containers run: they go on, and a command that has to write something says what is wrong.
    fill(filler)
    assert states(project) == RUNNING
    ran = project.run("down", "-v", "-t", "0")
    if ran.code != 0:
        assert "disk is full" in ran.err or "No space left" in ran.err
        assert "Traceback" not in ran.err
    filler.unlink()
    project.succeed("down", "-v", "-t", "0")


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("random")
        entry.size = 4 << 20
        archive.addfile(entry, io.BytesIO(os.urandom(entry.size)))


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            return


def test_ctrl_c_while_it_waits_stops_what_was_started(project: Project) -> None:
    project.write("""
services:
  db:
    image: busybox
    init: true
    command: [sleep, "1000"]
    healthcheck: {test: [CMD, "false"], interval: 60s, start_period: 300s, start_interval: 1s}
  web: {image: busybox, init: true, command: [sleep, "1000"], depends_on: {db: {condition: service_healthy}}}
""")
    up = project.popen("up")
    project.wait_until("db runs", lambda: states(project).get("db-1") == "running")
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=60)
    assert up.returncode == 130
    assert states(project)["db-1"] == "exited"
    assert states(project).get("web-1", "created") == "created"


@pytest.mark.slow
def test_two_hundred_services_twice(project: Project) -> None:
    services = "".join(
        f"  s{number}: {{image: busybox, init: true, command: [sleep, '1000'], ports: ['127.0.0.1::80']}}\n"
        for number in range(200)
    )
    project.write(f"services:\n{services}")
    for _round in range(2):
        project.succeed("up", "-d", timeout=180)
        assert set(states(project).values()) == {"running"}
        assert len(project.containers()) == 200
        project.succeed("exec", "-T", "s0", "ping", "-c1", "-W2", "s199")
        project.succeed("down", "-t", "0", timeout=180)
        left = await_no_leaks(project.machine.state, project.machine.run_dir)
        assert not left, left
