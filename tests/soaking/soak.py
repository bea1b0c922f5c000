"""Half an hour of everything at once: two projects, random deeds, checks that nothing leaks and all is explained.

`storm` suffers kill -9 of supervisor, keeper, commands and containers; the supervisor of `steady` is left alone, so
that its memory can be followed.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

from soaking.causes import Causes
from soaking.deeds import Deeds, describe_counts
from soaking.machine import Machine, Project
from soaking.measure import count_things, differ, list_files, weigh
from soaking.stackfile import Document, make_steady, make_storm

SETTLE_LIMIT = 60.0
"""Seconds until everything has to be as the file says, once nothing disturbs it any more."""

GROWTH_LIMIT = 2048
"""KiB by which a supervisor's own memory may have grown from the first third of the checks to the last."""


PASSING = 4
"""How many processes may be about to end, or be a probe, when all are counted."""


class Soak:
    """One soak. `run` returns what was found to be wrong."""

    def __init__(self, seed: int, minutes: float, services: int, every: float, pace: float) -> None:
        self._chance = random.Random(seed)
        self._minutes = minutes
        self._every = every
        self._pace = pace
        self._steady_count = max(3, services // 5)
        self._storm_count = services - self._steady_count
        self.findings: list[str] = []
        self._weights: list[dict[str, int]] = []
        self._counts: list[dict[str, int]] = []
        self._logs: dict[str, str] = {}
        self._opened: list[list[str]] = []

    def run(self) -> list[str]:
        """Soak to the end and clean up; prints what it does."""
        # Not /tmp: the writable layers of the containers want a file system that overlayfs can stand on.
        machine = Machine(Path(tempfile.mkdtemp(prefix="stack-soak-", dir="/var/tmp")))
        try:
            machine.load_image()
            self._soak(machine)
        finally:
            machine.scrub()
        return self.findings

    def _soak(self, machine: Machine) -> None:
        documents = {"storm": make_storm(self._storm_count), "steady": make_steady(self._steady_count)}
        self._deeds = []
        self._causes = []
        for name, document in documents.items():
            project = Project(machine, name)
            deeds = Deeds(project, document, self._chance, hosts_too=name == "storm")
            self._deeds.append(deeds)
            self._causes.append(Causes(project))
        self._check(machine, documents)
        end = time.monotonic() + self._minutes * 60
        while time.monotonic() < end:
            until = min(end, time.monotonic() + self._every)
            while time.monotonic() < until:
                self._chance.choice((self._deeds[0], self._deeds[0], self._deeds[1])).do_one()
                time.sleep(self._chance.uniform(0, 2 * self._pace))
            self._check(machine, documents)
        self._compare_memory()
        self._take_down(machine)
        self._print_table()

    def _complain(self, what: str, text: str) -> None:
        self.findings.append(f"{what}: {text}")
        print(f"FINDING  {what}: {text}", flush=True)

    def _check(self, machine: Machine, documents: dict[str, Document]) -> None:
        """Come back to the first stack files, let everything come to rest, and compare."""
        for deeds in self._deeds:
            deeds.settle()
            for one in deeds.findings:
                self._complain(deeds.project.name, one)
            deeds.findings.clear()
            document = documents[deeds.project.name]
            deeds.document = document
            deeds.project.write(document)
            self._settle(deeds)
        counts = self._await_counts(machine)
        for causes, deeds in zip(self._causes, self._deeds, strict=True):
            for one in causes.read():
                self._complain("an event without its cause", one)
            log = deeds.project.log()
            if log and log != self._logs.get(deeds.project.name):
                self._complain(f"the supervisor of {deeds.project.name} has written", log[-2000:])
            self._logs[deeds.project.name] = log
            self._check_restarts(deeds, causes)
        self._weigh()
        self._counts.append(counts)
        print(f"{time.strftime('%H:%M:%S')}  check {len(self._counts)}: {json.dumps(self._weights[-1])}", flush=True)

    def _settle(self, deeds: Deeds) -> None:
        """`up` until it succeeds, at most three times; then every service has to be as the file says."""
        project = deeds.project
        end = time.monotonic() + SETTLE_LIMIT
        while project.hosts()[0] and not project.hosts()[1]:
            # A supervisor whose keeper was killed sees to another one by itself.
            if time.monotonic() > end:
                self._complain(f"{project.name} has a supervisor without a keeper", "nobody would start it again")
                break
            time.sleep(0.1)
        for _attempt in range(3):
            project.run("unpause")
            ran = project.run("up", "-d", "--remove-orphans")
            if ran.code == 0:
                break
        else:
            self._complain(f"{project.name} does not come up", f"{ran.code}: {(ran.out + ran.err)[-1500:]}")
        end = time.monotonic() + SETTLE_LIMIT
        while (wrong := self._find_wrong(project, deeds.document)) and time.monotonic() < end:
            time.sleep(0.3)
        if wrong:
            why = project.run("why", wrong[0].split()[0]).out
            self._complain(f"{project.name} has not come to rest", f"{wrong}\n{why}")
        plan = project.run("plan", "--format", "json")
        planned = [one["id"] for one in json.loads(plan.out)["operations"]] if plan.code == 0 else [plan.err]
        # What ended by itself since the goal was given is its restart policy's business, not the plan's.
        planned = [one for one in planned if "flaky" not in one]
        if planned:
            self._complain(f"a second plan of {project.name} is not empty", f"{planned}")

    def _find_wrong(self, project: Project, document: Document) -> list[str]:
        """Services that are not as the stack file says, each with what is wrong."""
        rows = [one for one in project.rows() if not one["oneoff"]]
        found = []
        for name, service in document["services"].items():
            own = [one for one in rows if one["service"] == name]
            if len(own) != 1:
                found.append(f"{name} has {len(own)} containers")
            elif name.startswith("job"):
                if (own[0]["state"], own[0]["exit_code"]) != ("exited", 0):
                    found.append(f"{name} is {own[0]['state']} ({own[0]['exit_code']})")
            elif own[0]["state"] != "running" or own[0]["paused"]:
                found.append(f"{name} is {own[0]['state']}, paused {own[0]['paused']}")
            elif "healthcheck" in service and own[0]["health"] != "healthy":
                found.append(f"{name} is {own[0]['health']}")
        strange = {one["service"] for one in rows} - document["services"].keys()
        oneoffs = [one["name"] for one in project.rows() if one["oneoff"]]
        return found + [f"{one} is an orphan" for one in sorted(strange)] + [f"{one} is left" for one in oneoffs]

    def _await_counts(self, machine: Machine) -> dict[str, int]:
        """The counts, which have to be those of the first check; a moment's grace for what is just ending."""
        end = time.monotonic() + 15
        while True:
            counts = count_things(machine)
            if not self._counts:
                return counts
            wrong = differ(self._counts[0], counts)
            # Commands inside containers, and probes, come and go.
            if abs(wrong.get("processes", (0, 0))[1] - wrong.get("processes", (0, 0))[0]) <= PASSING:
                wrong.pop("processes", None)
            if not wrong:
                return counts
            if time.monotonic() > end:
                break
            time.sleep(0.5)
        self._complain("counts differ from the first check's (then, now)", f"{wrong}")
        return counts

    def _check_restarts(self, deeds: Deeds, causes: Causes) -> None:
        """What the store says of the last start of each container has to stand in the log."""
        for row in deeds.project.rows():
            if row["started_at"] and not row["oneoff"]:
                known = causes.starts.get(row["id"], [])
                if not any(abs(moment - row["started_at"]) < 0.5 for moment in known):
                    self._complain("a start that the log does not know", f"{row['name']} at {row['started_at']}")

    def _weigh(self) -> None:
        weights: dict[str, int] = {}
        for deeds in self._deeds:
            for role, pid in zip(("supervisor", "keeper"), deeds.project.hosts(), strict=True):
                if deeds.project.name == "steady" and not pid:
                    self._complain("the steady project has lost its", role)
                for kind, value in weigh(pid).items() if pid else ():
                    weights[f"{deeds.project.name} {role}: {kind}"] = value
        self._weights.append(weights)
        steady = self._deeds[1].project.hosts()[0]
        self._opened.append([re.sub(r"\d{3,}", "N", place) for place in list_files(steady)] if steady else [])

    def _compare_memory(self) -> None:
        third = len(self._weights) // 3
        if not third:
            return
        for name in self._weights[0]:
            if not name.startswith("steady"):
                continue
            first = median(one[name] for one in self._weights[1 : third + 1] if name in one)
            last = median(one[name] for one in self._weights[-third:] if name in one)
            if name.endswith(("PSS", "own memory")) and last - first > GROWTH_LIMIT:
                self._complain(f"{name} has grown", f"{first} -> {last} KiB")
            if name.endswith("files") and last > first:
                more = Counter(self._opened[-1])
                more.subtract(Counter(self._opened[0]))
                changed = {place: count for place, count in more.items() if count}
                self._complain(f"{name} have become more", f"{first} -> {last}: {changed}")

    def _take_down(self, machine: Machine) -> None:
        for deeds in self._deeds:
            ran = deeds.project.run("down", "-v", "-t", "0", "--remove-orphans")
            if ran.code != 0:
                self._complain(f"down of {deeds.project.name} ended with {ran.code}", ran.err[-1000:])
        left = machine.left()
        if left:
            self._complain("down has left", "\n  ".join(left))
        rows = {name: len(machine.read(f"SELECT * FROM {name}")) for name in ("containers", "ports", "endpoints")}
        if any(rows.values()):
            self._complain("the store still has rows", f"{rows}")

    def _print_table(self) -> None:
        print("\nwhat                                   first   lowest  highest     last")
        for rows in (self._weights, self._counts):
            for name in sorted({name for row in rows for name in row}):
                values = [row[name] for row in rows if name in row]
                print(f"{name:36} {values[0]:8} {min(values):8} {max(values):8} {values[-1]:8}")
        for deeds, causes in zip(self._deeds, self._causes, strict=True):
            print(f"\n{deeds.project.name}: done: {describe_counts(deeds.counts)}")
            print(f"  kills: {len(deeds.killed)}; refusals: {describe_counts(deeds.refusals)}")
            starts = sum(len(one) for one in causes.starts.values())
            print(f"  {starts} starts in the log, by cause: {describe_counts(causes.kinds)}")
