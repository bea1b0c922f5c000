"""What a kill -9 in the middle of something leaves to be done: the next command does it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from .conftest import Project

HOOKED = """
services:
  web:
    image: busybox
    init: true
    command: [sleep, "1000"]
    volumes: [./out:/out]
    post_start:
      - command: [sh, -c, "echo one >> /out/log"]
      - command: [sh, -c, "echo two >> /out/log; test -e /out/go || exec sleep 1000"]
      - command: [sh, -c, "echo three >> /out/log"]
  after: {image: busybox, init: true, command: [sh, -c, "cp /out/log /out/seen; sleep 1000"], depends_on: [web],
    volumes: [./out:/out]}
"""

RUN = """
services:
  a: {image: busybox, init: true, command: [sleep, "1000"]}
  b: {image: busybox, init: true, command: [sleep, "1000"], volumes: [./out:/out]}
"""

KILLED_AFTER_CREATION = """
import os, sys
from orchestrator.actions import run
make = run.create_oneoff
def create_oneoff(engine, wanted):
    make(engine, wanted)
    os.kill(os.getpid(), 9)
run.create_oneoff = create_oneoff
sys.argv = ["stack", "run", *sys.argv[1:]]
from orchestrator.cli.main import start
start()
"""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def kill_hosts(project: Project, *, keeper: bool) -> None:
    """kill -9 of the project's supervisor, with `keeper` of its keeper as well, at once."""
    pid = project.supervisor()
    with open(f"/proc/{pid}/stat") as file:
        parent = int(file.read().rpartition(")")[2].split()[1])
    for number in (signal.SIGSTOP, signal.SIGKILL):  # neither may start the other one again
        for one in (parent, pid) if keeper else (pid,):
            os.kill(one, number)


def prepare_out(project: Project) -> Path:
    out = project.folder / "out"
    out.mkdir()
    out.chmod(0o777)
    return out


def test_hooks_that_were_never_run_are_run_by_the_next_up(project: Project) -> None:
    project.write(HOOKED)
    out = prepare_out(project)
    command = project.popen("up", "-d")
    project.wait_until("the second hook runs", lambda: lines(out / "log") == ["one", "two"])
    pid = project.pid("web-1")
    command.kill()
    command.communicate()
    kill_hosts(project, keeper=True)
    (out / "go").touch()
    project.succeed("up", "-d")
    # What was done is not done again, what was cut short is, and who depends on it has waited.
    assert lines(out / "log") == ["one", "two", "two", "three"]
    project.wait_until("the dependent starts", (out / "seen").exists)
    assert lines(out / "seen") == lines(out / "log")
    assert project.pid("web-1") == pid
    project.succeed("up", "-d")
    assert lines(out / "log") == ["one", "two", "two", "three"]


def test_hooks_that_were_never_run_are_run_by_the_successor(project: Project) -> None:
    project.write(HOOKED)
    out = prepare_out(project)
    command = project.popen("up", "-d")
    project.wait_until("the second hook runs", lambda: lines(out / "log") == ["one", "two"])
    (out / "go").touch()
    kill_hosts(project, keeper=False)
    # The command follows the goal to the keeper's next supervisor.
    assert command.wait(60) == 0
    command.communicate()
    assert lines(out / "log") == ["one", "two", "two", "three"]


def test_a_pre_start_container_whose_loop_was_killed(project: Project) -> None:
    text = """
services:
  web:
    image: busybox
    init: true
    command: [sleep, "1000"]
    volumes: [./out:/out]
    pre_start:
      - command: [sh, -c, "echo before >> /out/log; test -e /out/go || exec sleep 1000"]
  other: {image: busybox, init: true, command: [sleep, "1000"]}
"""
    project.write(text)
    out = prepare_out(project)
    for command in (("up", "-d", "other"), ("up", "-d")):
        victim = project.popen("up", "-d", "web")
        project.wait_until("it runs", lambda: "web-pre_start-0" in project.containers() and bool(lines(out / "log")))
        victim.kill()
        victim.communicate()
        kill_hosts(project, keeper=True)
        # One command has nothing to do with it, and takes it away; the other one runs it anew.
        if command == ("up", "-d"):
            (out / "go").touch()
        project.succeed(*command)
        assert "web-pre_start-0" not in project.containers()
        (out / "log").rename(out / "before")
    assert lines(out / "before") == ["before", "before"]
    assert project.containers()["web-1"]["State"] == "running"


def test_run_rm_killed_before_its_container_started(project: Project) -> None:
    project.write(RUN)
    prepare_out(project)
    for words in (("--rm", "-T", "b", "true"), ("--rm", "-d", "b", "true"), ("--name", "kept", "b", "true")):
        done = subprocess.run(
            [sys.executable, "-c", KILLED_AFTER_CREATION, *words],
            cwd=project.folder,
            env=project.machine.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert len(project.containers()) == 1
        project.succeed("up", "-d", "a")
        # Without --rm it stays, as one that has run would, and goes as an orphan.
        assert sorted(project.containers()) == (["a-1"] if "--rm" in words else ["a-1", "kept"])
        project.succeed("up", "-d", "--remove-orphans", "a")
        assert sorted(project.containers()) == ["a-1"]
        project.succeed("rm", "-fs", "a")


def test_run_rm_whose_command_and_hosts_were_killed_while_it_ran(project: Project) -> None:
    project.write(RUN)
    out = prepare_out(project)
    words = ("sh", "-c", "touch /out/there; while ! test -e /out/go; do sleep 0.05; done")
    command = project.popen("run", "--rm", "-T", "--name", "once", "b", *words)
    project.wait_until("it runs", (out / "there").exists)
    command.kill()
    command.communicate()
    kill_hosts(project, keeper=True)
    (out / "go").touch()
    project.wait_until("it has ended", lambda: project.containers()["once"]["State"] == "exited")
    project.succeed("up", "-d", "a")
    project.wait_until("it is gone", lambda: sorted(project.containers()) == ["a-1"])


def test_a_killed_keeper_is_replaced_and_brings_a_killed_supervisor_back(project: Project) -> None:
    project.write(RUN)
    prepare_out(project)
    project.succeed("up", "-d")
    before, pids = project.supervisor(), (project.pid("a-1"), project.pid("b-1"))
    with open(f"/proc/{before}/stat") as file:
        os.kill(int(file.read().rpartition(")")[2].split()[1]), signal.SIGKILL)
    project.wait_until("another keeper is there", lambda: bool(keepers_of(before)))
    os.kill(before, signal.SIGKILL)
    project.wait_until("the supervisor is back", lambda: names_are_served(project))
    assert project.supervisor() != before
    assert (project.pid("a-1"), project.pid("b-1")) == pids


def keepers_of(supervisor: int) -> list[int]:
    """The new keeper is a child of what it keeps."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return [int(one) for one in children if Path(f"/proc/{one}/comm").read_text() == "stack-keeper\n"]


def names_are_served(project: Project) -> bool:
    return project.run("exec", "-T", "a", "ping", "-c1", "-W2", "b").code == 0


def test_an_up_that_a_newer_one_overtakes(project: Project) -> None:
    text = """
services:
  slow: {image: busybox, init: true, command: [sleep, "1000"],
    healthcheck: {test: [CMD, test, -e, /ready], interval: 1h, start_period: 1h, start_interval: 1h}}
  web: {image: busybox, init: true, command: [sleep, "VERSION"], depends_on: {slow: {condition: CONDITION}}}
"""

    def write(version: str, condition: str) -> None:
        project.write(text.replace("VERSION", version).replace("CONDITION", condition))

    for attached in (False, True):
        write("1000", "service_healthy")
        older = project.popen("up", *(() if attached else ("-d",)))
        project.wait_until("it waits", lambda: project.containers().get("slow-1", {}).get("State") == "running")
        write("2000", "service_started")
        project.succeed("up", "-d")
        out, err = older.communicate(timeout=60)
        assert older.returncode == 1
        assert (out + err).count("a newer command, given while this one was at work, wants something else of web") == 1
        assert project.containers()["web-1"]["Command"].strip('"') == "sleep 2000"
        project.succeed("down", "-t", "0")
    # Two that want the same both get it.
    write("1000", "service_started")
    both = [project.popen("up", "-d") for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    for one in both:
        one.communicate()
