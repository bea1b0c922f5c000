"""What somebody takes away by hand from under a stack that runs: the next `up` makes it again, and says so."""

from __future__ import annotations

import json
import shutil
import subprocess

from .conftest import Project

STACK = """
services:
  a: {image: busybox, init: true, command: [sleep, "1000"], volumes: ["data:/v"], ports: ["127.0.0.1:0:80"]}
  b: {image: busybox, init: true, command: [sleep, "1000"]}
volumes: {data: {}}
"""


def links(project: Project) -> list[dict[str, object]]:
    """The links of the project's containers, with their bridges."""
    found: list[dict[str, object]] = json.loads(subprocess.check_output(["ip", "-j", "link", "show", "type", "bridge"]))
    known = {row["bridge"] for row in rows(project, "SELECT bridge FROM networks")}
    return [one for one in found if one["ifname"] in known]


def rows(project: Project, query: str) -> list[dict[str, str]]:
    import sqlite3

    with sqlite3.connect(f"file:{project.machine.state / 'stack.db'}?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(query)]


def reaches(project: Project) -> bool:
    return project.run("exec", "-T", "a", "ping", "-c1", "-W2", "b").code == 0


def test_a_bridge_and_a_firewall_table_that_somebody_deletes(project: Project) -> None:
    project.write(STACK)
    project.succeed("up", "-d")
    pids = (project.pid("a-1"), project.pid("b-1"))
    tables = subprocess.check_output(["nft", "list", "tables", "inet"], text=True).splitlines()
    (table,) = [line.split()[2] for line in tables if line.endswith(f"_{project.name}")]
    (bridge,) = links(project)
    subprocess.run(["ip", "link", "del", str(bridge["ifname"])], check=True)
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)
    assert not reaches(project)
    told = project.run("doctor")
    assert f"network {project.name}_default" in told.out
    assert f"firewall table of {project.name}" in told.out
    ran = project.run("up", "-d")
    assert ran.code == 0
    assert f"link of network {project.name}_default was gone" in ran.err + ran.out
    assert f"firewall table of {project.name} was gone" in ran.err + ran.out
    assert reaches(project)
    assert subprocess.run(["nft", "list", "table", "inet", table], capture_output=True).returncode == 0
    # Nothing had to be started again, and now there is nothing to say.
    assert (project.pid("a-1"), project.pid("b-1")) == pids
    ran = project.run("up", "-d")
    assert "gone" not in ran.err + ran.out
    assert project.name not in project.run("doctor").out


def test_a_volume_that_somebody_deletes(project: Project) -> None:
    project.write(STACK)
    project.succeed("up", "-d")
    project.succeed("exec", "-T", "a", "sh", "-c", "echo old > /v/file")
    other = project.pid("b-1")
    folder = project.machine.state / "volumes" / f"{project.name}_data"
    shutil.rmtree(folder)
    assert f"volume {project.name}_data" in project.run("doctor").out
    ran = project.run("up", "-d")
    assert ran.code == 0
    assert "volume data is gone with its data" in ran.err + ran.out
    project.succeed("exec", "-T", "a", "sh", "-c", "test ! -e /v/file && echo new > /v/file")
    assert (folder / "_data/file").read_text() == "new\n"
    assert project.pid("b-1") == other
    first = project.pid("a-1")
    ran = project.run("up", "-d")
    assert "gone" not in ran.err + ran.out
    assert project.pid("a-1") == first


def test_a_volume_that_somebody_made_again_under_a_container(project: Project) -> None:
    project.write(STACK)
    project.succeed("up", "-d")
    first = project.pid("a-1")
    folder = project.machine.state / "volumes" / f"{project.name}_data"
    shutil.rmtree(folder)
    # Another project's command, or a start by a policy, may have made the folder before `up` looks.
    project.succeed("run", "--rm", "-v", f"{project.name}_data:/x", "b", "true")
    project.succeed("up", "-d")
    assert project.pid("a-1") != first
    project.succeed("exec", "-T", "a", "sh", "-c", "echo new > /v/file")
    assert (folder / "_data/file").read_text() == "new\n"
