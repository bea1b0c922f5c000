"""kill -9 of everything that can be killed."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from .conftest import Project

KEPT = """
services:
  a: {image: busybox, init: true, command: [sleep, "1000"], restart: always}
  b: {image: busybox, init: true, command: [sleep, "1000"]}
"""


def ids(project: Project) -> dict[str, str]:
    return {name: row["ID"] for name, row in project.containers("--no-trunc").items()}


def test_the_supervisor_dies_and_nothing_else(project: Project) -> None:
    project.write(KEPT)
    project.succeed("up", "-d")
    before, pids = ids(project), (project.pid("a-1"), project.pid("b-1"))
    supervisor = project.supervisor()
    os.kill(supervisor, signal.SIGKILL)
    # Containers go on, and ps tells the truth.
    assert {row["State"] for row in project.containers().values()} == {"running"}
    # The keeper starts another one, which adopts them.
    project.wait_until("another supervisor is there", lambda: _supervisor(project) not in (0, supervisor))
    project.succeed("up", "-d")
    assert ids(project) == before
    assert (project.pid("a-1"), project.pid("b-1")) == pids


def test_supervisor_and_keeper_die_and_the_next_up_adopts(project: Project) -> None:
    project.write(KEPT)
    project.succeed("up", "-d")
    pids = (project.pid("a-1"), project.pid("b-1"))
    supervisor = project.supervisor()
    with open(f"/proc/{supervisor}/stat") as file:
        keeper = int(file.read().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    assert {row["State"] for row in project.containers().values()} == {"running"}
    project.succeed("up", "-d")
    assert (project.pid("a-1"), project.pid("b-1")) == pids
    # Names are served again.
    project.succeed("exec", "-T", "a", "ping", "-c1", "-W2", "b")


def test_a_main_process_dies_and_its_policy_counts(project: Project) -> None:
    project.write(KEPT)
    project.succeed("up", "-d")
    first = project.pid("a-1")
    os.kill(first, signal.SIGKILL)
    os.kill(project.pid("b-1"), signal.SIGKILL)
    project.wait_until(
        "a is restarted",
        lambda: project.containers()["a-1"]["State"] == "running" and project.pid("a-1") != first,
    )
    assert project.containers()["b-1"]["State"] == "exited"
    assert project.containers()["b-1"]["ExitCode"] == 137


def test_after_a_stop_nothing_is_restarted(project: Project) -> None:
    project.write(KEPT)
    project.succeed("up", "-d")
    project.succeed("stop", "-t", "0", "a")
    time.sleep(0.5)
    assert project.containers()["a-1"]["State"] == "exited"
    # Neither after a kill: whoever says so means it.
    project.succeed("start", "a")
    project.succeed("kill", "a")
    project.wait_until("a is dead", lambda: project.containers()["a-1"]["State"] == "exited")
    time.sleep(0.5)
    assert project.containers()["a-1"]["State"] == "exited"
    assert project.containers()["a-1"]["ExitCode"] == 137


@pytest.mark.parametrize("seed", range(int(os.environ.get("STACK_TEST_KILLS", "6"))))
def test_up_is_killed_at_a_random_moment(project: Project, seed: int) -> None:
    project.write("""
services:
  a: {image: busybox, init: true, command: [sleep, "1000"], ports: ["127.0.0.1::80"], volumes: ["data:/v"]}
  b: {image: busybox, init: true, command: [sleep, "1000"], depends_on: [a]}
  c: {image: busybox, init: true, command: [sleep, "1000"], depends_on: [b]}
volumes: {data: {}}
""")
    chance = random.Random(seed)
    victim = project.popen("up", "-d")
    time.sleep(chance.uniform(0.0, 0.6))
    if chance.random() < 0.5:
        os.kill(victim.pid, signal.SIGKILL)
    else:
        os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate(timeout=60)
    project.succeed("up", "-d")
    assert {name: row["State"] for name, row in project.containers().items()} == {
        "a-1": "running", "b-1": "running", "c-1": "running",
    }  # fmt: skip
    project.succeed("down", "-t", "0", "-v")


def _supervisor(project: Project) -> int:
    ran = project.run("why", "--format", "json", "a")
    import json

    status = json.loads(ran.out) if ran.code == 0 else None
    return int(status["pid"]) if status else 0
