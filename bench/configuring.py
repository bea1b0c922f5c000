#!/usr/bin/env python3
"""Measures `stack config` against `docker compose config`, in alternating runs. See README.md beside it.

The first run of a file reads it; later ones are answered from memory while nothing has changed. Both are measured: for
the first, what is remembered is removed before every run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from peers import find_stack

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peers import find_compose
from report import collect_machine, compute_ratio, render_ratio

REPOSITORY = Path(__file__).resolve().parent.parent
SIZES = (10, 1000)


def render_stack(services: int) -> str:
    """A stack file of chained services with a port, a volume and variables each."""
    lines = ["services:"]
    for number in range(services):
        lines += [
            f"  s{number:04d}:",
            f"    image: localhost/bench:{number}",
            '    command: [sh, -c, "sleep 100 & wait"]',
            f'    ports: ["{10000 + number}:80"]',
            f"    environment: {{NUMBER: '{number}', MODE: \"${{MODE:-fast}}\"}}",
            f"    volumes: [data{number}:/data]",
        ]
        if number:
            lines.append(f"    depends_on: [s{number - 1:04d}]")
    lines.append("volumes:")
    lines += [f"  data{number}: {{}}" for number in range(services)]
    return "\n".join(lines) + "\n"


def run_timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Milliseconds that a command takes; raises CalledProcessError with its words when it fails."""
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    taken = (time.perf_counter() - begun) * 1000
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return taken


def measure_size(services: int, rounds: int, work: Path) -> dict[str, dict[int, float]]:
    """Milliseconds by tool and round: ``stack`` from memory, ``stack first`` without, ``docker compose``."""
    folder = work / f"config{services}"
    folder.mkdir()
    (folder / "compose.yaml").write_text(render_stack(services))
    environment = dict(os.environ, STACK_STATE_DIR=str(work / "state"), STACK_RUN_DIR=str(work / "run"))
    ours, theirs = [find_stack(), "config"], [find_compose(), "config"]
    found: dict[str, dict[int, float]] = {"stack": {}, "stack first": {}, "docker compose": {}}
    # Once without a clock: byte code is compiled, files are in the page cache.
    for command in (ours, theirs):
        run_timed(command, folder, environment)
    for number in range(rounds):
        shutil.rmtree(work / "run", ignore_errors=True)
        found["stack first"][number] = run_timed(ours, folder, environment)
        found["docker compose"][number] = run_timed(theirs, folder, environment)
        found["stack"][number] = run_timed(ours, folder, environment)
    return found


def main() -> int:
    """Measure, print a table, and write the figures as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, help="a file for the figures, as JSON")
    asked = parser.parse_args()
    report = {"machine": collect_machine(), "rows": []}
    print("| `config` of | tool | median | ratio to docker compose |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="stack-bench-") as place:
        for services in SIZES:
            found = measure_size(services, asked.rounds if services < 100 else max(3, asked.rounds // 3), Path(place))
            for tool, taken in found.items():
                ratio = compute_ratio(taken, found["docker compose"])
                print(f"| {services} services | {tool} | {median(taken.values()):.0f} ms | {render_ratio(ratio)} |")
                report["rows"].append({"services": services, "tool": tool, "milliseconds": taken, "ratio": ratio})
    if asked.output:
        asked.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
