"""Who wakes up while nothing happens: context switches of every thread of supervisor, keeper and monitors.

A thread that sleeps until something happens has none. A probe is something that happens: stacks with health checks are
told apart.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from e2e.leaks import list_processes

from soaking.machine import Machine, Project

_SLEEP = {"image": "busybox", "init": True, "command": ["sleep", "100000"], "stop_grace_period": "1s"}

STACKS: dict[str, dict[str, Any]] = {
    "plain": {"services": {f"s{number}": _SLEEP for number in range(5)}},
    "published ports": {"services": {f"s{number}": {**_SLEEP, "ports": ["127.0.0.1::80"]} for number in range(5)}},
    "several networks": {
        "services": {f"s{number}": {**_SLEEP, "networks": ["front", "back"]} for number in range(5)},
        "networks": {"front": {"enable_ipv6": True}, "back": {"internal": True}},
    },
    "restart policies": {
        "services": {
            "a": {**_SLEEP, "restart": "always"},
            "b": {**_SLEEP, "restart": "unless-stopped"},
            "gave-up": {"image": "busybox", "command": ["false"], "restart": "on-failure:1"},
            "done": {"image": "busybox", "command": ["true"]},
        }
    },
    "log rotation": {
        "services": {
            f"s{number}": {**_SLEEP, "logging": {"driver": "json-file", "options": {"max-size": "1m", "max-file": "2"}}}
            for number in range(5)
        }
    },
    "a log follower": {"services": {f"s{number}": _SLEEP for number in range(5)}},
    "probes every 10 s": {
        "services": {
            f"s{number}": {**_SLEEP, "healthcheck": {"test": ["CMD", "true"], "interval": "10s"}} for number in range(5)
        }
    },
}


def count_wakeups(state: Path, run: Path, *others: int) -> dict[str, int]:
    """How often each thread has gone to sleep so far: of the supervisors, keepers and monitors of the engine with these
    directories, and of the processes `others`."""
    found = {}
    for pid in (*list_processes(state, run), *others):
        name = _read(Path(f"/proc/{pid}/comm")).strip()
        if name not in ("stack-supervise", "stack-keeper", "conmon") and pid not in others:
            continue
        for task in Path(f"/proc/{pid}/task").iterdir():
            for line in _read(task / "status").splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    thread = _read(task / "comm").strip()
                    found[f"{name} {pid} {thread} {task.name}"] = int(line.split()[1])
    return found


def difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """The threads that have woken up in between, each with how often."""
    return {name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name, 0)}


def await_rest(state: Path, run: Path, *others: int, seconds: float = 20.0) -> None:
    """Return when nothing has woken up for a second; or after `seconds`, whatever wakes up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = count_wakeups(state, run, *others)
        time.sleep(1.0)
        if not difference(before, count_wakeups(state, run, *others)):
            return


def print_wakeups(seconds: float) -> int:
    """Bring up one stack after the other, let it rest, and count for `seconds`; 1 if anything but a probe wakes up."""
    machine = Machine(Path(tempfile.mkdtemp(prefix="stack-idle-", dir="/var/tmp")))
    wrong = 0
    try:
        machine.load_image()
        print(f"{'stack':20} {'threads':>8} {'wake-ups':>9} {'a second':>9}   in {seconds:g} s")
        for number, (name, document) in enumerate(STACKS.items()):
            project = Project(machine, f"idle{number}")
            project.write(document)
            ran = project.run("up", "-d")
            assert ran.code == 0, ran.err
            follower = None
            if name == "a log follower":
                follower = project.popen("logs", "-f", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            others = (follower.pid,) if follower is not None else ()
            await_rest(machine.state, machine.run, *others, seconds=12.0)
            before = count_wakeups(machine.state, machine.run, *others)
            time.sleep(seconds)
            after = count_wakeups(machine.state, machine.run, *others)
            woke = difference(before, after)
            total = sum(woke.values())
            print(f"{name:20} {len(after):8} {total:9} {total / seconds:9.2f}   {woke or ''}", flush=True)
            wrong += bool(total) and "probes" not in name
            if follower is not None:
                follower.terminate()
                follower.communicate(timeout=20)
            project.run("down", "-v", "-t", "0")
    finally:
        machine.scrub()
    return 1 if wrong else 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
