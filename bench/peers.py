"""The tools that are compared: how each is found, set up, called and taken down again."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from dockerd import PrivateDocker
from processes import Process
from scenarios import IMAGE

REPOSITORY = Path(__file__).resolve().parent.parent
DOCKER_PROCESSES = ("dockerd", "containerd", "containerd-shim", "docker-proxy", "docker-init")
PODMAN_MARK = "stack-bench-podman"


class Tool(ABC):
    """One command line that understands ``up -d``, ``ps`` and ``down`` in a folder with a compose.yaml."""

    name: str
    command: list[str]
    environment: dict[str, str]
    # A tool that needs minutes for a row takes part in fewer rounds and smaller scenarios.
    max_services = 1000
    max_rounds = 1000

    @abstractmethod
    def set_up(self, rootfs: Path) -> str:
        """Makes `rootfs` (a tar) known as the image; returns the versions of what is measured."""

    @abstractmethod
    def owns(self, process: Process) -> bool:
        """Whether a process belongs to this tool."""

    def close(self) -> None:  # noqa: B027
        """Stops what `set_up` started."""

    def read_version(self, *command: str) -> str:
        """The first line that a version command prints."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        return next((line for line in done.stdout.splitlines() if line.strip()), "unknown")


def find_stack() -> str:
    """The stack command that is measured. Raises LookupError."""
    program = os.environ.get("STACK_BIN") or shutil.which("stack", path=f"{REPOSITORY}/.venv/bin:{os.environ['PATH']}")
    if not program:
        raise LookupError("no stack command: run scripts/quickstart first, or set STACK_BIN")
    return program


def isolate_stack(work: Path) -> dict[str, str]:
    """An environment with a state and a run directory of its own below `work`."""
    return dict(os.environ, STACK_STATE_DIR=str(work / "state"), STACK_RUN_DIR=str(work / "run"))


class Stack(Tool):
    """This project, with a state and a run directory of its own."""

    name = "stack"

    def __init__(self, work: Path) -> None:
        self.command = [find_stack()]
        self.environment = isolate_stack(work)

    def set_up(self, rootfs: Path) -> str:
        subprocess.run(
            [*self.command, "image", "import", str(rootfs), "--tag", IMAGE],
            check=True,
            env=self.environment,
            stdout=subprocess.DEVNULL,
        )
        return self.read_version(*self.command, "version")

    def owns(self, process: Process) -> bool:
        # Whatever is in this run's namespaces and is not another tool's is ours: nothing can hide from the count.
        return process.name not in DOCKER_PROCESSES and PODMAN_MARK not in process.command


class DockerCompose(Tool):
    """Docker Compose on a Docker daemon of its own. The plugin is called directly, not through `docker`."""

    name = "docker compose"

    def __init__(self, work: Path) -> None:
        self.command = [find_compose()]
        for program in ("dockerd", "docker"):
            if not shutil.which(program):
                raise LookupError(f"{program} is not installed (Debian: docker.io)")
        self.docker = PrivateDocker(work)
        self.environment = dict(os.environ, DOCKER_HOST=self.docker.address)
        # A person's own contexts and credential helpers would change what is called.
        self.environment["DOCKER_CONFIG"] = str(work / "config")

    def set_up(self, rootfs: Path) -> str:
        self.docker.start()
        subprocess.run(
            ["docker", "import", str(rootfs), IMAGE], check=True, env=self.environment, stdout=subprocess.DEVNULL
        )
        server = self.read_version("docker", "version", "--format", "{{.Server.Version}}")
        return f"{self.read_version(*self.command, 'version')}, dockerd {server}"

    def owns(self, process: Process) -> bool:
        return process.name in DOCKER_PROCESSES

    def close(self) -> None:
        self.docker.stop()


class PodmanCompose(Tool):
    """podman-compose on a Podman with its own root folder."""

    name = "podman-compose"
    max_services = 10
    max_rounds = 3

    def __init__(self, work: Path) -> None:
        self.work = work
        compose = shutil.which("podman-compose")
        if not compose or not shutil.which("podman"):
            raise LookupError("podman and podman-compose are not installed")
        self.podman = work / PODMAN_MARK
        self.command = [compose, "--podman-path", str(self.podman)]
        self.environment = dict(os.environ, CONTAINERS_CONF=str(work / "containers.conf"))

    def set_up(self, rootfs: Path) -> str:
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / "containers.conf").write_text(render_podman_settings(self.work))
        root = self.work / f"{PODMAN_MARK}-data"
        self.podman.write_text(
            f'#!/bin/sh\nexec podman --root {root} --runroot {self.work}/run --tmpdir {self.work}/tmp "$@"\n'
        )
        self.podman.chmod(0o755)
        quiet = {"check": True, "env": self.environment, "capture_output": True}
        subprocess.run([self.podman, "import", str(rootfs), IMAGE], **quiet)  # type: ignore[call-overload]
        subprocess.run([self.podman, "run", "--rm", IMAGE, "true"], **quiet)  # type: ignore[call-overload]
        return f"{self.read_version('podman', '--version')}, podman-compose {read_podman_compose_version()}"

    def owns(self, process: Process) -> bool:
        return PODMAN_MARK in process.command

    def close(self) -> None:
        for step in (["rm", "--all", "--force", "--time", "0"], ["network", "prune", "--force"]):
            subprocess.run([self.podman, *step], env=self.environment, capture_output=True)


def render_podman_settings(work: Path) -> str:
    """containers.conf: limits that this process may set, a runtime that this machine's cgroups allow, own networks."""
    # Without CAP_SYS_RESOURCE a container cannot get more than this process has.
    files = min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    processes = min(4096, resource.getrlimit(resource.RLIMIT_NPROC)[1])
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    engine = "" if unified else '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\n'
    return (
        f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
        f'[network]\nnetwork_config_dir = "{work}/networks"\n{engine}'
    )


def read_podman_compose_version() -> str:
    """The version of podman-compose, whose output mixes it with Podman's."""
    done = subprocess.run(["podman-compose", "--version"], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if "compose" in line]
    return lines[0].split()[-1] if lines else "unknown"


def find_compose() -> str:
    """Docker Compose 2 (or newer) before the old Python one.

    Raises:
        LookupError: neither is there.
    """
    cache = (
        os.environ.get("STACK_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'}/stack-examples"
    )
    places = (
        os.environ.get("DOCKER_COMPOSE"),
        f"{cache}/peers/docker-compose",
        "/usr/libexec/docker/cli-plugins/docker-compose",
        "/usr/lib/docker/cli-plugins/docker-compose",
        shutil.which("docker-compose"),
    )
    for place in places:
        if place and os.access(place, os.X_OK):
            return place
    raise LookupError("Docker Compose is not installed: run bench/fetch-peers")
