"""``--dry-run``: the plan in the words of what is done, what it would fail at, and nothing done."""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from .conftest import Machine, Project

STACK = """
services:
  web: {image: busybox, init: true, command: [sleep, "1000"], depends_on: [db], ports: ["127.0.0.1:%d:80"]}
  db: {image: busybox, init: true, command: [sleep, "1000"], volumes: [data:/data]}
  far: {image: "localhost:1/far:1", command: ["true"], profiles: [far]}
  near: {image: busybox, command: ["true"], profiles: [far], depends_on: {far: {condition: service_started}}}
  made: {build: ./made, command: ["true"], profiles: [made], develop: {watch: [{path: ./made, action: rebuild}]}}
  lost: {build: ./lost, profiles: [lost]}
  bare: {build: ./bare, profiles: [lost]}
volumes: {data: {}}
"""


def digest(machine: Machine, project: Project) -> list[str]:
    """All that there is of the engine: its files with their times, its rows, and what the kernel has of it."""
    found = []
    for root in (machine.state, machine.run_dir, project.folder):
        for path in sorted(root.rglob("*")):
            # What is only remembered to save time, and what reading a database leaves.
            if path.name.startswith("stack.db") or "remembered" in path.parts:
                continue
            about = path.lstat()
            times = "" if path.is_dir() else f"{about.st_size} {about.st_mtime_ns}"
            found.append(f"{path} {about.st_mode:o} {times}")
    with sqlite3.connect(f"file:{machine.state / 'stack.db'}?mode=ro", uri=True) as database:
        found += database.iterdump()
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    return [*found, *(one for one in mounts if str(machine.folder) in one), links.split(": <")[0], tables]


@pytest.fixture
def taken() -> object:
    """A port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_what_would_be_done_and_what_would_fail(machine: Machine, project: Project, taken: int) -> None:
    project.write(STACK % taken)
    project.write("FROM busybox\nRUN touch /x\n", "made/Dockerfile")
    (project.folder / "bare").mkdir()
    project.succeed("up", "-d", "db")
    project.succeed("stop", "-t", "0", "db")
    project.wait_until("nobody supervises", lambda: "Exited" in project.succeed("ps", "-a"))
    name, mark = project.name, " DRY-RUN MODE -  "
    held = f"host port {taken}/tcp is taken by"
    before = digest(machine, project)
    for words, code, told in (
        # Half of it is there.
        (("up", "-d", "web"), 1, [f"Container {name}-db-1 Started", f"Container {name}-web-1 Error {held}"]),
        (("up", "web"), 0, [f"Container {name}-web-1 Created"]),
        (("create", "web"), 0, [f"Container {name}-web-1 Created"]),
        (("run", "web", "true"), 0, [f"Container {name}-db-1 Started", f"Container {name}-web-run-"]),
        (("down", "-v"), 0, [f"Container {name}-db-1 Removed", f"Volume {name}_data Removed"]),
        # An image whose registry cannot be asked.
        (
            ("up", "-d", "near"),
            0,
            [
                "warning[registry-unreachable]: the registry localhost:1",
                "Image localhost:1/far:1 Pulled",
                f"Container {name}-near-1 Started",
            ],
        ),
        (("create", "far"), 0, [f"Container {name}-far-1 Created"]),
        (("run", "far"), 0, [f"Container {name}-far-run-"]),
        (("pull", "far"), 1, ["Image localhost:1/far:1 Error", "far Error"]),
        (("pull", "--ignore-pull-failures", "far"), 0, ["Image localhost:1/far:1 Error"]),
        # Images that were never built, and cannot be.
        (("up", "-d", "made"), 0, [f"Image {name}-made Built", f"Container {name}-made-1 Started"]),
        (("build", "made"), 0, [f"Image {name}-made Building", f"Image {name}-made Built"]),
        (("run", "--build", "made"), 0, [f"Image {name}-made Built"]),
        (("watch", "made"), 0, [f"Image {name}-made Built"]),
        (("build", "made", "lost"), 1, [f"Image {name}-made Built", f"Image {name}-lost Error the build context"]),
        (
            ("up", "-d", "lost"),
            1,
            [f"Image {name}-lost Error the build context", f"Container {name}-lost-1 Not created"],
        ),
        (("build", "bare"), 1, [f"Image {name}-bare Error there is no Dockerfile"]),
    ):
        ran = project.run("--dry-run", *words)
        assert ran.code == code, (words, ran.err)
        for text in told:
            assert text in ran.err, (words, text, ran.err)
        lines = [
            line
            for line in ran.err.splitlines()
            if " error[" not in line and not line.startswith(("  ", "error[", "warning["))
        ]
        assert all(line.startswith(mark) for line in lines), (words, ran.err)
    told = project.run("--dry-run", "up", "-d", "web").err
    assert re.search(rf"compose.yaml:3:\d+: error\[conflict\]: service web: {held}", told), told
    assert digest(machine, project) == before


def test_ports_of_ones_own_are_free(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    project.write(STACK % port)
    project.succeed("up", "-d")
    told = project.run("--dry-run", "up", "-d", "--force-recreate", "web")
    assert (told.code, f"Container {project.name}-web-1 Started" in told.err) == (0, True), told.err
