"""Quicker ways to the same answer: `up` asks the supervisor, `ps` reads the store; neither says a stale word."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Project, Ran

SLEEP = '["sh", "-c", "trap \'exit 0\' TERM; sleep 3600 & wait"]'

PROBE = """
import sys
from orchestrator.cli.main import main
code = main(sys.argv[2:])
loaded = sys.modules.keys() & {"orchestrator.supervision.client", "orchestrator.engines.native.engine"}
open(sys.argv[1], "w").write("usual" if loaded else "short")
raise SystemExit(code)
"""


def run_noting(project: Project, *words: str, **environment: str) -> tuple[str, Ran]:
    """Run a command; whether it took the short way or the usual one, and how it ended."""
    note = project.folder.parent / f"{project.name}.way"
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(note), *words],
        cwd=project.folder,
        env={**project.machine.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    way = note.read_text()
    note.unlink()
    return way, Ran(done.returncode, done.stdout, done.stderr)


def settle(*files: Path) -> None:
    """Wait until the times of files tell them from whatever is written later."""
    for file in files:
        while time.time_ns() - file.stat().st_ctime_ns < 60_000_000:
            time.sleep(0.01)


@pytest.fixture
def shop(project: Project) -> Project:
    """A stack of two services that runs; its next `up -d` has nothing to do, and is remembered."""
    project.write("one", "word")
    project.write(
        f"""
services:
  web:
    image: busybox
    command: {SLEEP}
    secrets: [word]
    environment: {{TAG: "${{TAG:-1}}"}}
    depends_on: [db]
  db:
    image: busybox
    command: {SLEEP}
    volumes: ["data:/data"]
secrets: {{word: {{file: ./word}}}}
volumes: {{data: {{}}}}
"""
    )
    settle(project.folder / "compose.yaml", project.folder / "word")
    project.succeed("up", "-d")
    project.wait_until("up is remembered", lambda: run_noting(project, "up", "-d")[0] == "short")
    return project


def strip_times(text: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in json.loads(line).items() if key != "time"} for line in text.splitlines()]


def test_both_ways_say_the_same(shop: Project) -> None:
    ran = run_noting(shop, "up", "-d")[1]
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == f" Container {shop.name}-db-1 Running\n Container {shop.name}-web-1 Running\n"
    assert run_noting(shop, "up", "-d", STACK_SHORTCUTS="0") == ("usual", ran)
    for words in (["--progress", "json"], ["--progress", "quiet"], ["--progress", "tty", "--ansi", "never"]):
        told = {}
        for _ in range(2):
            way, ran = run_noting(shop, *words, "up", "-d")
            told[way] = strip_times(ran.err) if "json" in words else re.sub(r"\d+\.\d+s", "", ran.err)
            assert ran.code == 0
        assert told["short"] == told["usual"], words


def test_what_is_waited_for_is_there_already(shop: Project) -> None:
    first = run_noting(shop, "up", "-d", "--wait")
    assert first[0] == "usual"
    way, ran = run_noting(shop, "up", "-d", "--wait")
    assert way == "short"
    assert ran.err == first[1].err
    assert f" Container {shop.name}-web-1 Waiting\n" in ran.err


def _kill_outside(shop: Project) -> None:
    pid = shop.pid("web-1")
    end = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    os.close(end)


def _retag(shop: Project) -> None:
    shop.write(f"FROM busybox\nLABEL made={time.time_ns()}\n", "Dockerfile")
    shop.succeed("image", "tag", "busybox", "kept")
    shop.succeed("image", "build", "-q", "-t", "busybox", ".")


def _kill_supervisor(shop: Project) -> None:
    pid = shop.supervisor()
    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        status = json.loads(shop.succeed("why", "--format", "json", "web"))
        return status is not None and status["pid"] != pid

    shop.wait_until("another supervisor is there", replaced)


def _rewrite(name: str, change: Callable[[str], str]) -> Callable[[Project], None]:
    return lambda shop: shop.write(change((shop.folder / name).read_text()), name)


CHANGES: dict[str, tuple[Callable[[Project], Any], dict[str, str], str]] = {
    "killed": (_kill_outside, {}, "web-1 Started"),
    "stopped": (lambda shop: shop.succeed("stop", "db"), {}, "db-1 Started"),
    "scaled": (lambda shop: shop.succeed("scale", "db=2"), {}, "db-2 Removed"),
    "stack file": (_rewrite("compose.yaml", lambda text: text.replace(":-1", ":-2")), {}, "web-1 Recreated"),
    "secret": (_rewrite("word", lambda _text: "two"), {}, "web-1 Recreated"),
    "dotenv": (lambda shop: shop.write("TAG=3\n", ".env"), {}, "web-1 Recreated"),
    "environment": (lambda shop: None, {"TAG": "4"}, "web-1 Recreated"),
    "supervisor": (_kill_supervisor, {}, "web-1 Running"),
    "removed": (lambda shop: shop.succeed("rm", "-sf", "web"), {}, "web-1 Created"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_any_change_takes_the_usual_way(shop: Project, name: str) -> None:
    change, environment, said = CHANGES[name]
    change(shop)
    way, ran = run_noting(shop, "up", "-d", **environment)
    assert way == "usual"
    assert ran.code == 0, ran.err
    assert f" Container {shop.name}-{said}\n" in ran.err
    assert {one["State"] for one in shop.containers().values()} == {"running"}


def test_an_image_that_moved_is_noticed(shop: Project) -> None:
    _retag(shop)
    try:
        way, ran = run_noting(shop, "up", "-d")
        assert way == "usual"
        assert f" Container {shop.name}-web-1 Recreated\n" in ran.err
    finally:
        shop.succeed("down", "-t", "0")
        shop.succeed("image", "tag", "kept", "busybox")
        shop.succeed("image", "rm", "kept")


def test_a_memory_without_a_supervisor_is_no_answer(shop: Project) -> None:
    """As after a reboot: the run directory may have survived, whoever stood behind it has not."""
    supervisor = shop.supervisor()
    keeper = int(Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (keeper, supervisor):
        os.kill(pid, signal.SIGKILL)
    way, ran = run_noting(shop, "up", "-d")
    assert way == "usual"
    assert ran.err == f" Container {shop.name}-db-1 Running\n Container {shop.name}-web-1 Running\n"
    assert shop.supervisor() != supervisor


def test_what_asks_for_something_to_be_done_is_done_each_time(shop: Project) -> None:
    for _ in range(2):
        way, ran = run_noting(shop, "up", "-d", "--force-recreate", "web")
        assert way == "usual"
        assert " Recreated\n" in ran.err
    for _ in range(2):
        assert run_noting(shop, "up", "-d", "--no-start")[0] == "usual"


def test_ps_says_the_same_both_ways(project: Project) -> None:
    project.write(
        f"""
services:
  web:
    image: busybox
    command: {SLEEP}
    expose: ["7000", "7001-7002/udp"]
    ports: ["127.0.0.1::80", "::81/udp"]
    healthcheck: {{test: ["CMD", "true"], interval: 1s, start_interval: 1s, start_period: 9s}}
    deploy: {{replicas: 2}}
  still: {{image: busybox, command: {SLEEP}}}
  job: {{image: busybox, command: ["sh", "-c", "exit 3"]}}
  again: {{image: busybox, command: ["false"], restart: always}}
  made: {{image: busybox, command: ["true"], profiles: [later]}}
"""
    )
    settle(project.folder / "compose.yaml")
    project.succeed("up", "-d")
    project.succeed("--profile", "later", "create", "made")
    project.succeed("pause", "still")
    project.wait_until("job has ended", lambda: project.containers()["job-1"]["State"] == "exited")
    project.wait_until("web is healthy", lambda: project.containers()["web-2"]["Health"] == "healthy")
    variants = (["-a", "--no-trunc"], ["-aq"], ["--status", "exited"], ["web"])
    for words in variants:

        def same(words: list[str] = words) -> bool:
            # Moments pass between two looks, and one service comes and goes.
            short, usual = (run_noting(project, "ps", *words, STACK_SHORTCUTS=one)[1] for one in ("1", "0"))
            return short == usual and short.code == 0

        project.wait_until(f"ps {words} says the same", same)
    assert run_noting(project, "ps", "web", STACK_SHORTCUTS="1")[0] == "short"
    assert run_noting(project, "ps", "nobody")[1].code == 1


def test_ps_tells_an_end_that_nobody_has_written_down(project: Project) -> None:
    project.write(f"services: {{web: {{image: busybox, command: {SLEEP}}}}}\n")
    settle(project.folder / "compose.yaml")
    project.succeed("up", "-d")
    project.succeed("ps")
    supervisor = project.supervisor()
    os.kill(supervisor, signal.SIGSTOP)
    try:
        _kill_outside(project)
        project.wait_until("the end is told", lambda: "Exited (137)" in run_noting(project, "ps", "-a")[1].out)
        assert run_noting(project, "ps", "-a")[0] == "usual"
    finally:
        os.kill(supervisor, signal.SIGCONT)


def test_the_program_leaves_nothing_unsaid(project: Project) -> None:
    """It ends without the interpreter's tear-down: what was written last has to be there all the same."""
    project.write("services: {" + ", ".join(f"s{one}: {{image: busybox}}" for one in range(300)) + "}\n")
    code = "from orchestrator.cli.main import start; start()"
    ran = subprocess.run(
        [sys.executable, "-c", code, "config", "--services"],
        cwd=project.folder,
        env=project.machine.environment,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, len(ran.stdout.splitlines()), ran.stderr) == (0, 300, "")
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", code, "config", "--services"],
            cwd=project.folder,
            env=project.machine.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ran.returncode != 0
    assert ROOT.exists()
