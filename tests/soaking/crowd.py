"""A crowd: many commands at once on one project, each of which takes away what another one is working on.

What a command may answer is that it came too late, or that a newer one wants something else. In the end nothing is
left, and an `up` finds its way.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from soaking.deeds import ACCEPTED
from soaking.machine import Machine, Project, Ran

_SLEEP: Final[dict[str, Any]] = {"image": "busybox", "init": True, "command": ["sleep", "100000"]}

_DOCUMENT: Final[dict[str, Any]] = {
    "services": {
        "a": {**_SLEEP, "network_mode": "bridge"},
        "b": {**_SLEEP, "network_mode": "bridge", "volumes": ["/anonymous", "data:/data"]},
        "c": {**_SLEEP, "ports": ["127.0.0.1::80"], "networks": ["default", "back"], "depends_on": ["a"]},
        "d": {**_SLEEP, "restart": "always", "network_mode": "service:c", "scale": 2},
    },
    "networks": {"back": {"internal": True}},
    "volumes": {"data": {}},
}

_COMMANDS: Final = tuple(
    tuple(line.split())
    for line in """
        up -d
        up -d --force-recreate d
        create
        scale d=3
        start b
        stop -t 0 b
        restart -t 0 a
        kill a
        pause c
        unpause c
        rm -sf b
        down -t 0
        run --rm -T a true
        run --rm -T c false
        exec -T a true
        cp a:/etc/passwd -
        ps -a
        top
        images
        logs
        port c 80
        stats --no-stream
        volumes
        why a
        plan
        events --since 1s --until 0s
    """.strip().splitlines()
)

_LATE: Final = (
    *ACCEPTED,
    "superseded",
    "is gone",
    "are gone",
    "no container",
    "already paused",
    "not paused",
    "was removed",
    "was not started",
    "ended before the command",
    "the command that",
    "conmon ended without an answer",
    "no network",
    "is not published",
    "has no running container",
)
"""What a command may answer that came too late."""


def run_crowd(seed: int, minutes: float, size: int) -> list[str]:
    """Have `size` users at it for `minutes`; return what was found to be wrong, and print what was done."""
    machine = Machine(Path(tempfile.mkdtemp(prefix="stack-crowd-", dir="/var/tmp")))
    try:
        machine.load_image()
        project = Project(machine, "crowd")
        project.write(_DOCUMENT)
        return _watch(machine, project, seed, minutes, size)
    finally:
        machine.scrub()


def _watch(machine: Machine, project: Project, seed: int, minutes: float, size: int) -> list[str]:
    findings: list[str] = []
    counts: Counter[tuple[str, str]] = Counter()
    end = time.monotonic() + minutes * 60

    def use(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        while time.monotonic() < end:
            ran = project.run(*chance.choice(_COMMANDS))
            complaint = _judge(ran)
            if complaint:
                findings.append(f"stack {' '.join(ran.words)}: {complaint}{project.read_trouble()}")
                print(f"FINDING  {findings[-1]}", flush=True)
            counts[ran.words[0], "done" if ran.code == 0 else "too late"] += 1

    users = [threading.Thread(target=use, args=(number,)) for number in range(size)]
    for one in users:
        one.start()
    for one in users:
        one.join()
    findings += _conclude(machine, project)
    for (word, outcome), count in sorted(counts.items()):
        print(f"{count:6}  {word} {outcome}")
    return findings


def _judge(ran: Ran) -> str:
    """What is wrong with how a command ended; empty if nothing is."""
    if ran.code is None:
        return f"did not end in 90 s: {ran.err[-600:]}"
    if "Traceback" in ran.err + ran.out or "internal error" in ran.err + ran.out:
        return ran.err[-1500:]
    own = ran.words[0] in ("run", "exec")
    if ran.code == 0 or (own and "error[" not in ran.err) or any(word in ran.err for word in _LATE):
        return ""
    return f"ended with {ran.code}: {ran.err[-600:]}"


def _conclude(machine: Machine, project: Project) -> list[str]:
    found = []
    ran = project.run("up", "-d")
    if ran.code != 0:
        found.append(f"the last up ended with {ran.code}: {ran.err[-600:]}")
    plan = project.run("plan")
    if "nothing to do" not in (plan.out + plan.err).lower():
        found.append(f"a second plan is not empty: {plan.out}")
    ran = project.run("down", "-v", "-t", "0", "--remove-orphans")
    if ran.code != 0:
        found.append(f"the last down ended with {ran.code}: {ran.err[-600:]}")
    found += [f"left: {one}" for one in machine.left()]
    found += [f"the store: {row[0]}" for row in machine.read("PRAGMA integrity_check") if row[0] != "ok"]
    for one in found:
        print(f"FINDING  {one}", flush=True)
    return found
