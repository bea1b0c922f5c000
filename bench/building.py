#!/usr/bin/env python3
"""Measures building images against `docker build` and Buildah, in alternating runs. See README.md beside it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

from builders import BUILDERS, IMAGE, Builder
from isolation import enter_isolation, list_cgroups, remove_cgroups
from peers import REPOSITORY
from report import collect_machine, compute_ratio, render_ratio

SOURCES = 400

FIFTEEN = f"""\
FROM {IMAGE}
ARG VERSION=1
ENV APP=/app VERSION=$VERSION
LABEL org.example.version=$VERSION
WORKDIR /app
COPY package.txt ./
RUN mkdir deps && for i in 1 2 3 4 5 6 7 8; do cp package.txt deps/$i; done
COPY src ./src
RUN cat src/*/* | wc -c > size
RUN echo built > done
COPY conf /etc/app
RUN echo x > /etc/app/extra
USER 1000:1000
EXPOSE 8080
CMD ["cat", "/app/done"]
"""

FIVE = f"""\
FROM {IMAGE}
COPY package.txt /app/
RUN cp /app/package.txt /app/deps
COPY src /app/src
RUN cat /app/src/*/* | wc -c > /app/size
COPY conf /etc/app
"""


class Scenario(NamedTuple):
    """One row: which file is built, what is done to the context before each measured build, and the ratio aimed at."""

    name: str
    title: str
    dockerfile: str
    layers_change: bool
    cold: bool
    change: Callable[[Path, str], None]
    budget: float


def change_nothing(_folder: Path, _mark: str) -> None:
    """The same inputs again."""


def change_source(folder: Path, mark: str) -> None:
    """One of the source files is edited."""
    (folder / "src" / "07" / "13").write_text(f"edited {mark}\n" * 20)


SCENARIOS = (
    Scenario("unchanged", "rebuild of 15 steps, nothing changed", FIFTEEN, False, False, change_nothing, 1 / 3),
    Scenario("cold", "cold build, five COPY and RUN layers", FIVE, True, True, change_nothing, 1 / 2),
    Scenario("changed", "one source file changed, rebuild", FIFTEEN, True, False, change_source, 1 / 2),
)


def write_context(folder: Path, dockerfile: str) -> None:
    """A small application: 400 source files in 20 folders, 3 MB."""
    for number in range(SOURCES):
        path = folder / "src" / f"{number // 20:02}" / f"{number % 20:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"source {number}\n" * 600)
    (folder / "conf").mkdir()
    for number in range(20):
        (folder / "conf" / f"{number}.conf").write_text(f"value={number}\n" * 50)
    (folder / "package.txt").write_text("name version\n" * 1000)
    (folder / "Dockerfile").write_text(dockerfile)


def run_build(tool: Builder, folder: Path, tag: str, *, cold: bool) -> float:
    """The milliseconds of one build.

    Raises:
        RuntimeError: it failed; with the end of its output.
    """
    command = tool.build(folder, tag, cold=cold)
    os.sync()  # what the last one left to write is not this one's burden
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, env=tool.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = process.communicate()[0]
    elapsed = (time.perf_counter() - begun) * 1000
    if process.returncode:
        raise RuntimeError(f"{tool.name}: {' '.join(command)}\n{output.decode(errors='replace')[-1500:]}")
    return elapsed


def measure(tools: list[Builder], scenario: Scenario, work: Path, rounds: int) -> dict[str, dict[int, float]]:
    """Every tool's milliseconds by round, after two builds that do not count.

    Raises:
        RuntimeError: a build failed, or did not do its work: the image changed where it should not, or did not change.
    """
    found: dict[str, dict[int, float]] = {tool.name: {} for tool in tools}
    tag = f"localhost/bench-{scenario.name}:1"
    folders = {tool.name: work / f"{scenario.name}-{tool.name}" for tool in tools}
    before: dict[str, str] = {}
    for tool in tools:
        # A context each, as no tool should find another's marks in it.
        write_context(folders[tool.name], scenario.dockerfile)
        run_build(tool, folders[tool.name], tag, cold=False)
        before[tool.name] = tool.identify(tag)
    for number in range(rounds + 1):
        shift = number % len(tools)
        for tool in tools[shift:] + tools[:shift]:
            scenario.change(folders[tool.name], str(number))
            elapsed = run_build(tool, folders[tool.name], tag, cold=scenario.cold)
            identifier = tool.identify(tag)
            if (identifier != before[tool.name]) != scenario.layers_change and tool.name != "buildah":
                raise RuntimeError(f"{tool.name}: the build of {scenario.name} did not do what it should")
            before[tool.name] = identifier
            print(f"{scenario.name}: round {number} of {rounds}, {tool.name}: {elapsed:.0f} ms", file=sys.stderr)
            if number:
                found[tool.name][number] = elapsed
    return found


def render_table(report: dict[str, Any]) -> list[str]:
    """The table of medians and ratios."""
    names = list(report["versions"])
    others = [name for name in names if name != "stack"]
    head = ["what", *names, *(f"stack / {name}" for name in others), "aim (docker)"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    for scenario in SCENARIOS:
        values = report["rows"].get(scenario.name)
        if not values:
            continue
        cells = [scenario.title, *(f"{median(values[name].values()):.0f} ms" for name in names)]
        ratios = [compute_ratio(values["stack"], values[name]) if "stack" in values else None for name in others]
        lines.append("| " + " | ".join([*cells, *map(render_ratio, ratios), f"1/{1 / scenario.budget:.0f}"]) + " |")
    return lines


def set_up(names: list[str], work: Path) -> tuple[list[Builder], dict[str, str]]:
    """The tools that are installed here, and their versions."""
    subprocess.run(
        [REPOSITORY / "scripts/build-base-images", "--tar-only", work, "busybox"], check=True, stdout=sys.stderr
    )
    tools: list[Builder] = []
    versions: dict[str, str] = {}
    for name in names:
        try:
            tool = BUILDERS[name](work / name)  # type: ignore[call-arg]
        except LookupError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        tools.append(tool)
        versions[name] = tool.set_up(work / "busybox.tar")
    return tools, versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count, after one that does not (7)")
    parser.add_argument("--tools", default="stack,docker,buildah", help="comma list of stack, docker, buildah")
    parser.add_argument("--only", default="", help="comma list of unchanged, cold, changed")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "bench" / "results", help="folder for the results")
    arguments = parser.parse_args()
    cgroups = list_cgroups()
    enter_isolation()
    # On the disk, not in memory: a tmpfs cannot be the upper layer of everybody's overlay.
    work = Path(tempfile.mkdtemp(prefix="stack-bench-", dir="/var/tmp"))
    tools: list[Builder] = []
    report: dict[str, Any] = {"machine": collect_machine(), "load": [os.getloadavg()[0]], "rows": {}}
    try:
        tools, report["versions"] = set_up(arguments.tools.split(","), work)
        for scenario in SCENARIOS:
            if not arguments.only or scenario.name in arguments.only.split(","):
                report["rows"][scenario.name] = measure(tools, scenario, work, arguments.rounds)
    except RuntimeError as error:
        raise SystemExit(f"error: {error}\n  the work folder is kept: {work}") from None
    finally:
        for tool in tools:
            tool.close()
        remove_cgroups(cgroups)
    report["load"].append(os.getloadavg()[0])
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "building.json").write_text(json.dumps(report, indent=2) + "\n")
    text = "\n".join(
        [
            "# Building",
            "",
            *(f"- {name}: {version}" for name, version in report["versions"].items()),
            "",
            *render_table(report),
        ]
    )
    (arguments.output / "building.md").write_text(text + "\n")
    print(text)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
