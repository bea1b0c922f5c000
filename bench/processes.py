"""Which processes a tool keeps, what memory they take, and whether the containers really run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scenarios import SLEEP_SECONDS

SETTLE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Process:
    """One process outside of all containers, inside this run's namespaces."""

    pid: int
    name: str
    command: str
    pss: int
    """Proportional set size in bytes: private memory plus this process's share of what it shares."""


def read_link(pid: str, namespace: str) -> str:
    """The identity of a process's namespace."""
    return os.readlink(f"/proc/{pid}/ns/{namespace}")


def read_pss(pid: int) -> int:
    """Bytes; 0 for a process without memory of its own (a zombie)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def observe_processes() -> list[Process]:
    """Every process of this run's network namespace, save this program and what runs inside a container.

    A process inside a container is in a PID namespace of its own; its memory is the service's, not the tool's.
    """
    own_network, own_pids = read_link("self", "net"), read_link("self", "pid")
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if read_link(entry, "net") != own_network or read_link(entry, "pid") != own_pids:
                continue
            command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            name = Path(f"/proc/{entry}/comm").read_text().strip()
            found.append(Process(int(entry), name, command, read_pss(int(entry))))
        except OSError:
            continue
    return found


def measure_memory(owns: Callable[[Process], bool]) -> dict[str, int]:
    """PSS in bytes of a tool's own processes by process name, after they have come to rest."""
    time.sleep(SETTLE_SECONDS)
    totals: dict[str, int] = {}
    for process in observe_processes():
        if owns(process):
            totals[process.name] = totals.get(process.name, 0) + process.pss
    return totals


def count_services() -> int:
    """Containers of this run whose service process runs, told by its command line and its own PID namespace."""
    own_pids = read_link("self", "pid")
    wanted = f"sleep\0{SLEEP_SECONDS}\0".encode()
    count = 0
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and Path(f"/proc/{entry}/cmdline").read_bytes() == wanted:
                count += read_link(entry, "pid") != own_pids
        except OSError:
            continue
    return count


def wait_for_services(expected: int, seconds: float = 5.0) -> int:
    """The number of running services as soon as it is `expected`, otherwise the number after `seconds`."""
    end = time.monotonic() + seconds
    while (count := count_services()) != expected and time.monotonic() < end:
        time.sleep(0.02)
    return count
