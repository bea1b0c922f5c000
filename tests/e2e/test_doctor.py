"""``stack doctor``: what is amiss is named with the way out, and ``--fix`` puts right what it can."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from .conftest import Machine, Project
from .leaks import find_leaks, name_engine
from .test_faults import kill_all, processes

SLEEPER = 'services: {web: {image: busybox, init: true, command: [sleep, "1000"]}}\n'


def look(project: Project, *words: str) -> dict[str, list[dict[str, str]]]:
    """What doctor finds that is not as it should be, by name."""
    found: dict[str, list[dict[str, str]]] = {}
    ran = project.run("doctor", "--format", "json", *words)
    assert ran.err == ""
    for one in json.loads(ran.out):
        if one["state"] != "ok":
            found.setdefault(one["name"], []).append(one)
    return found


def open_store(machine: Machine) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(machine.state / "stack.db", isolation_level=None))


def test_what_belongs_to_nobody_is_removed(project: Project) -> None:
    project.write(SLEEPER)
    project.succeed("up", "-d")
    assert "leftovers" not in look(project)
    kill_all(processes(project, "stack-keeper") + processes(project, "stack-supervise"))
    with open_store(project.machine) as store:
        for table in ("endpoints", "containers", "networks"):
            store.execute(f"DELETE FROM {table}")
    (told,) = look(project)["leftovers"]
    for part in ("a mount", "a monitor", "processes", "a network namespace", "bridge ", "table "):
        assert part in told["detail"]
    assert "--fix" in told["hint"]
    assert "leftovers" not in look(project, "--fix")
    left = find_leaks(project.machine.state, project.machine.run_dir)
    assert [one for one in left if "/projects/" not in one] == []


def test_a_volume_that_nobody_knows_is_left_alone(project: Project) -> None:
    data = project.machine.state / "volumes" / "unknown" / "_data"
    data.mkdir(parents=True)
    try:
        (told,) = look(project, "--fix")["volume"]
        assert "unknown" in told["detail"]
        assert data.is_dir()
    finally:
        shutil.rmtree(data.parent)


def test_rights_are_put_right(project: Project) -> None:
    project.write(SLEEPER)
    project.succeed("ps")
    state = project.machine.state
    before = state.stat().st_mode & 0o7777
    state.chmod(0o777)
    try:
        assert "0777" in look(project)["rights"][0]["detail"]
        assert "rights" not in look(project, "--fix")
        assert state.stat().st_mode & 0o022 == 0
    finally:
        state.chmod(before)


def test_a_store_that_cannot_be_used(project: Project) -> None:
    project.write(SLEEPER)
    project.succeed("up", "-d")
    project.succeed("down", "-t", "0")
    with open_store(project.machine) as store:
        store.execute("BEGIN IMMEDIATE")
        (told,) = look(project)["store"]
        assert "is locked for writing by " in told["detail"]
        assert "kill" in told["hint"]
        store.execute("ROLLBACK")
        (version,) = store.execute("PRAGMA user_version").fetchone()
        store.execute("PRAGMA user_version = 99")
        try:
            found = look(project)
        finally:
            store.execute(f"PRAGMA user_version = {version}")
    assert [one["detail"] for one in found["store"]] == [
        f"the store {project.machine.state}/stack.db was written by a newer version of stack"
    ]
    assert "projects" not in found


def test_a_damaged_store(project: Project, tmp_path: Path) -> None:
    project.write(SLEEPER)
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    (state / "stack.db").write_bytes(b"not a database at all" * 400)
    (state / "stack.db").chmod(0o600)
    environment = {**project.machine.environment, "STACK_STATE_DIR": str(state)}
    project.machine, before = Machine(tmp_path), project.machine
    try:
        project.machine.environment.update(environment, STACK_RUN_DIR=str(tmp_path / "run"))
        assert "is damaged: file is not a database" in look(project)["store"][0]["detail"]
        for words in (("ps",), ("ls",), ("-p", "x", "down")):
            ran = project.run(*words)
            assert (ran.code, ran.err.count("error[")) == (1, 1)
            assert "is damaged" in ran.err
    finally:
        project.machine = before


def test_what_others_have_put_in_the_way(project: Project) -> None:
    project.write(SLEEPER)
    project.succeed("up", "-d")
    with open_store(project.machine) as store:
        ((pools,),) = store.execute("SELECT pools FROM networks").fetchall()
    gateway = json.loads(pools)[0]["gateway"]
    chain = "inet in_the_way forward"
    try:
        subprocess.run(["ip", "link", "add", "in-the-way", "type", "bridge"], check=True)
        subprocess.run(["ip", "address", "add", f"{gateway}/16", "dev", "in-the-way"], check=True)
        rules = f"add table inet in_the_way; add chain {chain} {{ type filter hook forward priority 0; policy drop; }}"
        subprocess.run(["nft", rules], check=True)
        found = look(project)
        assert "in-the-way" in found["network"][0]["detail"]
        (told,) = [one for one in found["firewall"] if chain in one["detail"]]
        links = f'"st{name_engine(project.machine.state)}-*"'
        assert links in told["hint"]
        subprocess.run(["nft", told["hint"].strip("`").removeprefix("nft ").strip("'")], check=True)
        assert not any(chain in one["detail"] for one in look(project).get("firewall", ()))
    finally:
        subprocess.run(["nft", "delete table inet in_the_way"], check=False)
        subprocess.run(["ip", "link", "delete", "in-the-way"], check=False)
