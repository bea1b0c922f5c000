"""What the engine holds at a moment: counts that have to come back to what they were; the memory of a supervisor."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from e2e.leaks import find_leaks, name_engine

from soaking.machine import Machine

_ROWS = ("containers", "endpoints", "ports", "networks", "volumes", "mounts")


def count_things(machine: Machine) -> dict[str, int]:
    """Everything that the engine has on this machine and in its store, by kind."""
    found: dict[str, int] = {}
    for line in find_leaks(machine.state, machine.run):
        kind = line.partition(" ")[0] if not line.startswith("nftables") else "nftables table"
        if kind == "process":
            continue
        found[kind] = found.get(kind, 0) + 1
    processes = machine.processes()
    for pid in processes:
        name = f"process {_read(pid, 'comm').strip()}"
        if name in ("process conmon", "process stack-keeper", "process stack-supervise"):
            found[name] = found.get(name, 0) + 1
    found["processes"] = len(processes)
    found["firewall rules"] = _count_rules(machine)
    for table in _ROWS:
        found[f"store: {table}"] = int(machine.read(f"SELECT count(*) FROM {table}")[0][0])
    return found


def _count_rules(machine: Machine) -> int:
    tag = name_engine(machine.state)
    listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    counting, found = False, 0
    for line in listed.splitlines():
        if line.startswith("table "):
            counting = f" stack_{tag}_" in line
        elif counting and line.startswith("\t\t"):
            found += 1
    return found


def weigh(pid: int) -> dict[str, int]:
    """Memory (KiB, shared and own), open files and threads of one process; empty when it is gone."""
    try:
        rollup = dict(
            line.split()[:2] for line in _read(pid, "smaps_rollup").splitlines()[1:] if len(line.split()) >= 2
        )
        own = int(rollup["Private_Clean:"]) + int(rollup["Private_Dirty:"])
        files = len(os.listdir(f"/proc/{pid}/fd"))
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except (OSError, KeyError):
        return {}
    return {"PSS": int(rollup["Pss:"]), "own memory": own, "files": files, "threads": threads}


def list_files(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    for one in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{one}"))
        except OSError:
            continue
    return sorted(found)


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def differ(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int, int]]:
    """The counts that are not what they were."""
    names = sorted(before.keys() | after.keys())
    return {one: (before.get(one, 0), after.get(one, 0)) for one in names if before.get(one, 0) != after.get(one, 0)}
