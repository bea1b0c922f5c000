#!/usr/bin/env python3
"""Measures pulling from a registry on loopback against Docker and Podman, in alternating runs. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from dockerd import PrivateDocker
from isolation import enter_isolation
from peers import find_stack, isolate_stack
from pulled_images import IMAGES, PrivateRegistry, make_layers, push_image
from report import collect_machine, compute_ratio, render_ratio

REPOSITORY = Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 0.004
AIMS = {("app", "docker"): "at most 2/3", ("app", "podman"): "at most 2/3", ("many", "docker"): "no slower"}


class Puller(ABC):
    """A tool that fetches images."""

    name: str
    environment: dict[str, str]

    @abstractmethod
    def pull(self, image: str) -> list[str]:
        """The command that pulls."""

    def roots(self) -> list[int]:
        """Processes that work for the tool and live before the command starts."""
        return []

    def close(self) -> None:  # noqa: B027
        """Stops what was started."""


class Stack(Puller):
    """This project, with a state directory of its own."""

    name = "stack"

    def __init__(self, work: Path) -> None:
        self.program = find_stack()
        self.environment = isolate_stack(work)

    def pull(self, image: str) -> list[str]:
        return [self.program, "image", "pull", "-q", image]


class Docker(Puller):
    """The docker command on a daemon of its own."""

    name = "docker"

    def __init__(self, work: Path) -> None:
        for program in ("dockerd", "docker"):
            if not shutil.which(program):
                raise LookupError(f"{program} is not installed (Debian: docker.io)")
        self.daemon = PrivateDocker(work)
        self.daemon.start()
        self.environment = dict(os.environ, DOCKER_HOST=self.daemon.address, DOCKER_CONFIG=str(work / "config"))

    def pull(self, image: str) -> list[str]:
        return ["docker", "pull", "-q", image]

    def roots(self) -> list[int]:
        return [self.daemon.process.pid] if self.daemon.process else []

    def close(self) -> None:
        self.daemon.stop()


class Podman(Puller):
    """Podman on storage of its own."""

    name = "podman"

    def __init__(self, work: Path) -> None:
        program = shutil.which("podman")
        if not program:
            raise LookupError("podman is not installed")
        self.command = [program, "--root", f"{work}/data", "--runroot", f"{work}/run", "--tmpdir", f"{work}/tmp"]
        self.environment = dict(os.environ)

    def pull(self, image: str) -> list[str]:
        return [*self.command, "pull", "-q", "--tls-verify=false", image]


TOOLS: dict[str, Callable[[Path], Puller]] = {"stack": Stack, "docker": Docker, "podman": Podman}


def run_pull(tool: Puller, image: str, *, watch: bool = False) -> tuple[float, int]:
    """Milliseconds of one pull; with `watch` also the peak of the tool's resident memory in bytes.

    Raises:
        RuntimeError: the command failed; with its output.
    """
    os.sync()  # what the last one left to write is not this one's burden
    peak = [0]
    ended = threading.Event()
    begun = time.perf_counter()
    process = subprocess.Popen(tool.pull(image), env=tool.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    roots = [process.pid, *tool.roots()]
    watcher = threading.Thread(target=watch_memory, args=(roots, peak, ended)) if watch else None
    if watcher:
        watcher.start()
    output = process.communicate()[0]
    elapsed = (time.perf_counter() - begun) * 1000
    ended.set()
    if watcher:
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{tool.name}: {output.decode(errors='replace')[-1000:]}")
    return elapsed, peak[0]


def watch_memory(roots: list[int], peak: list[int], ended: threading.Event) -> None:
    """Keeps the largest sum of resident memory of `roots` and their descendants, until `ended`."""
    while not ended.wait(SAMPLE_SECONDS):
        total, pending = 0, list(roots)
        while pending:
            pid = pending.pop()
            try:
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
                for task in os.listdir(f"/proc/{pid}/task"):
                    pending += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
            except OSError:
                continue
        peak[0] = max(peak[0], total)


def measure(
    tools: list[Puller], registry: PrivateRegistry, image: str, rounds: int
) -> tuple[tuple[int, int], dict[str, dict[str, Any]]]:
    """The image's sizes, and every tool's milliseconds by round; its peak memory in a round that is not timed."""
    found: dict[str, dict[str, Any]] = {tool.name: {"rounds": {}} for tool in tools}
    tars = make_layers(image)
    for number in range(rounds + 1):
        sizes = push_image(registry, image, tars, str(number))
        shift = number % len(tools)
        for tool in tools[shift:] + tools[:shift]:
            elapsed, memory = run_pull(tool, f"{registry.host}/bench/{image}:{number}", watch=number == 0)
            print(f"{image}: round {number} of {rounds}, {tool.name}: {elapsed:.0f} ms", file=sys.stderr, flush=True)
            if number == 0:
                found[tool.name]["peak"] = memory
            else:
                found[tool.name]["rounds"][number] = elapsed
    return sizes, found


def render_rows(image: str, title: str, found: dict[str, dict[str, Any]]) -> list[str]:
    """The lines of the table for one image."""
    own = found.get("stack", {}).get("rounds", {})
    lines = []
    for name, values in found.items():
        ratio = compute_ratio(own, values["rounds"]) if name != "stack" and own else None
        cells = [title, name, f"{median(values['rounds'].values()):.0f} ms", f"{values['peak'] / 2**20:.0f} MiB"]
        lines.append("| " + " | ".join([*cells, render_ratio(ratio), AIMS.get((image, name), "")]) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count, after one that does not (7)")
    parser.add_argument("--tools", default="stack,docker,podman", help="comma list of stack, docker, podman")
    parser.add_argument("--images", default=",".join(IMAGES), help=f"comma list of {', '.join(IMAGES)}")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "bench" / "results", help="folder for the results")
    arguments = parser.parse_args()
    enter_isolation()
    work = Path(tempfile.mkdtemp(prefix="stack-bench-", dir="/var/tmp"))
    registry = PrivateRegistry(work / "registry")
    tools: list[Puller] = []
    report: dict[str, Any] = {"machine": collect_machine(), "load": [os.getloadavg()[0]], "images": {}}
    table = ["| image | tool | median | peak memory | stack / tool | aim |", "|---|---|--:|--:|--:|---|"]
    try:
        for name in arguments.tools.split(","):
            try:
                tools.append(TOOLS[name](work / name))
            except LookupError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
        for image in arguments.images.split(","):
            sizes, found = measure(tools, registry, image, arguments.rounds)
            title = f"{IMAGES[image].title}, {sizes[0] / 1e6:.0f} MB ({sizes[1] / 1e6:.0f} MB compressed)"
            report["images"][image] = {"title": title, "tools": found}
            table += render_rows(image, title, found)
    finally:
        for tool in tools:
            tool.close()
        registry.close()
    report["load"].append(os.getloadavg()[0])
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "pulling.json").write_text(json.dumps(report, indent=2) + "\n")
    load = f"load average {report['load'][0]:.1f} before, {report['load'][1]:.1f} after"
    text = "\n".join(["# Pulling", "", load, "", *table, ""])
    (arguments.output / "pulling.md").write_text(text)
    print(text, flush=True)
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
