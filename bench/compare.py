#!/usr/bin/env python3
"""Measures this project against Docker Compose and podman-compose, in alternating runs. See README.md beside it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from isolation import enter_isolation, list_cgroups, remove_cgroups
from measuring import Measurements, MeasurementStopped, run_scenarios
from peers import REPOSITORY, DockerCompose, PodmanCompose, Stack, Tool
from report import build_report, render_markdown
from scenarios import COMPARED, plan_scale

TOOLS: dict[str, Callable[[Path], Tool]] = {"stack": Stack, "docker": DockerCompose, "podman": PodmanCompose}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one that does not (5)")
    parser.add_argument("--tools", default="stack,docker,podman", help="comma list of stack, docker, podman")
    parser.add_argument("--only", default="", help="comma list of scenarios: one, ten, chain, fifty")
    parser.add_argument("--no-compare", action="store_true", help="leave the comparison out")
    parser.add_argument("--scale", default="", metavar="SIZES", help="a scale run, for example 1,10,50,200")
    parser.add_argument("--scale-tools", default="stack", help="the tools of the scale run (stack)")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "bench" / "results", help="folder for the results")
    arguments = parser.parse_args()
    unknown = set(f"{arguments.tools},{arguments.scale_tools}".split(",")) - set(TOOLS)
    if unknown:
        parser.error(f"unknown tools: {', '.join(sorted(unknown))}")
    if arguments.rounds < 1:
        parser.error("--rounds is at least 1")
    return arguments


def set_up_tools(names: list[str], rootfs: Path, work: Path) -> tuple[dict[str, Tool], dict[str, str]]:
    """The tools that are installed here, and their versions; the others are named on stderr and left out."""
    tools: dict[str, Tool] = {}
    versions: dict[str, str] = {}
    for name in names:
        try:
            tool = TOOLS[name](work / name)
        except LookupError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        tools[name] = tool
        try:
            versions[tool.name] = tool.set_up(rootfs)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            close_tools(tools)
            raise SystemExit(f"error: {tool.name} could not be set up: {render_failure(error)}") from None
    return tools, versions


def render_failure(error: Exception) -> str:
    """A failed command's own words, where it left some."""
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        return f"{error}\n{error.stderr.decode(errors='replace')[-1000:]}"
    return str(error)


def close_tools(tools: dict[str, Tool]) -> None:
    """Stops what was started, whatever happens to one of them."""
    for tool in tools.values():
        try:
            tool.close()
        except OSError as error:
            print(f"{tool.name} could not be closed: {error}", file=sys.stderr)


def main() -> None:
    arguments = parse_arguments()
    cgroups = list_cgroups()
    enter_isolation()
    # On the disk, not in memory: a tmpfs cannot be the upper layer of everybody's overlay.
    work = Path(tempfile.mkdtemp(prefix="stack-bench-", dir="/var/tmp"))
    names = list(
        dict.fromkeys(f"{arguments.tools},{arguments.scale_tools if arguments.scale else ''}".strip(",").split(","))
    )
    subprocess.run(
        [REPOSITORY / "scripts/build-base-images", "--tar-only", work, "busybox"], check=True, stdout=sys.stderr
    )
    tools, versions = set_up_tools(names, work / "busybox.tar", work)
    compared, scale = Measurements(), None
    load = [os.getloadavg()[0]]
    wanted = set(filter(None, arguments.only.split(",")))
    scenarios = tuple(item for item in COMPARED if not wanted or item.name in wanted)
    sizes = plan_scale([int(size) for size in arguments.scale.split(",") if size])
    try:
        if not arguments.no_compare:
            chosen = [tools[name] for name in arguments.tools.split(",") if name in tools]
            compared = run_scenarios(chosen, scenarios, arguments.rounds, work, {"ten"})
        if sizes:
            chosen = [tools[name] for name in arguments.scale_tools.split(",") if name in tools]
            scale = run_scenarios(chosen, sizes, arguments.rounds, work, {item.name for item in sizes})
    except MeasurementStopped as error:
        raise SystemExit(f"error: {error}\n  the work folder is kept: {work}") from None
    finally:
        close_tools(tools)
        remove_cgroups(cgroups)
    load.append(os.getloadavg()[0])
    report = build_report(compared, scale, sizes, versions, load)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "results.json").write_text(json.dumps(report, indent=2) + "\n")
    (arguments.output / "results.md").write_text(render_markdown(report))
    print(render_markdown(report))
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
