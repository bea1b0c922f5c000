"""Runs scenarios with tools in turn and collects what each round measured."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from peers import Tool
from processes import measure_memory, wait_for_services
from scenarios import Scenario

# Far beyond the slowest row; only a hang gets there.
COMMAND_SECONDS = 900
CLEAN_UP_ATTEMPTS = 3

Samples = dict[str, dict[str, dict[str, dict[int, float]]]]
"""scenario -> measure -> tool -> round -> milliseconds, or bytes for ``memory``."""


class MeasurementStopped(Exception):
    """No further round makes sense."""


@dataclass(slots=True)
class Measurements:
    """All rounds of all scenarios, and the memory of each tool's processes by name."""

    samples: Samples = field(default_factory=dict)
    memory_parts: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, scenario: str, measure: str, tool: str, number: int, value: float) -> None:
        """Keeps what round `number` measured."""
        self.samples.setdefault(scenario, {}).setdefault(measure, {}).setdefault(tool, {})[number] = value


def wait_for_end(process: subprocess.Popen[bytes]) -> None:
    """Returns the moment that `process` ends.

    Raises:
        MeasurementStopped: it hangs; it has been killed.
    """
    # Not Popen.wait(timeout): that looks every 50 ms, which is as long as some commands take.
    handle = os.pidfd_open(process.pid)
    try:
        ended, _, _ = select.select([handle], [], [], COMMAND_SECONDS)
    finally:
        os.close(handle)
    if not ended:
        process.kill()
        process.wait()
        raise MeasurementStopped(f"{process.args!r} did not end within {COMMAND_SECONDS} s")
    process.wait()


def run_command(tool: Tool, folder: Path, *arguments: str) -> float:
    """The milliseconds of one call.

    Raises:
        RuntimeError: it failed; with the end of its output.
    """
    # A file, not a pipe: a pipe would be held open by whatever stays behind in the background.
    log = folder / "output"
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            [*tool.command, *arguments],
            cwd=folder,
            env=tool.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        wait_for_end(process)
        elapsed = (time.perf_counter() - start) * 1000
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"{tool.name}: {' '.join(arguments)} ended with {process.returncode}:\n{tail}")
    return elapsed


def check_services(tool: Tool, expected: int, after: str) -> None:
    """A fast command that did not do its work is no result.

    Raises:
        RuntimeError: another number of services runs.
    """
    running = wait_for_services(expected)
    if running != expected:
        raise RuntimeError(f"{tool.name}: {running} services run after {after}, not {expected}")


def run_cycle(
    tool: Tool, scenario: Scenario, folder: Path, with_memory: bool
) -> tuple[dict[str, float], dict[str, int]]:
    """One life of a project: up, up again, ps, down. Returns the measures, and the tool's memory by process name."""
    measures: dict[str, float] = {}
    parts: dict[str, int] = {}
    try:
        measures["up"] = run_command(tool, folder, "up", "-d")
        check_services(tool, scenario.services, "up")
        measures["again"] = run_command(tool, folder, "up", "-d")
        check_services(tool, scenario.services, "the second up")
        measures["ps"] = run_command(tool, folder, "ps")
        if with_memory:
            parts = measure_memory(tool.owns)
            measures["memory"] = float(sum(parts.values()))
        measures["down"] = run_command(tool, folder, "down")
        check_services(tool, 0, "down")
    except RuntimeError:
        clean_up(tool, folder)
        raise
    return measures, parts


def clean_up(tool: Tool, folder: Path) -> None:
    """After a failure: what is left would disturb the next round.

    Raises:
        MeasurementStopped: services go on running; nothing measured after that would count.
    """
    for _ in range(CLEAN_UP_ATTEMPTS):
        with contextlib.suppress(RuntimeError):
            run_command(tool, folder, "down")
            check_services(tool, 0, "down")
            return
    raise MeasurementStopped(f"{tool.name}: `down` does not bring {folder.name} down, see {folder}/output")


def run_scenarios(
    tools: list[Tool], scenarios: Iterable[Scenario], rounds: int, work: Path, memory: set[str]
) -> Measurements:
    """Every scenario `rounds` times after one round that does not count, the tools taking turns within a round."""
    found = Measurements()
    for scenario in scenarios:
        folder = work / scenario.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "compose.yaml").write_text(scenario.render())
        taking_part = [tool for tool in tools if scenario.services <= tool.max_services]
        for number in range(rounds + 1):
            # Who goes first changes with every round.
            shift = number % len(taking_part) if taking_part else 0
            for tool in taking_part[shift:] + taking_part[:shift]:
                if number > tool.max_rounds:
                    continue
                print(f"{scenario.name}: round {number} of {rounds}, {tool.name}", file=sys.stderr, flush=True)
                try:
                    measures, parts = run_cycle(tool, scenario, folder, scenario.name in memory)
                except RuntimeError as error:
                    # A tool that fails now and then loses the round, and the report says so.
                    print(error, file=sys.stderr, flush=True)
                    found.failures.append(f"{scenario.name}, round {number}: {error}")
                    continue
                if number == 0:
                    continue
                for measure, value in measures.items():
                    found.add(scenario.name, measure, tool.name, number, value)
                if parts:
                    found.memory_parts.setdefault(scenario.name, {})[tool.name] = parts
    return found
