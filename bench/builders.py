"""The tools that build images: how each is found, set up, called and taken down again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from dockerd import PrivateDocker
from peers import find_stack, isolate_stack, render_podman_settings

IMAGE = "localhost/bench-busybox:1"


class Builder(ABC):
    """A tool that builds a folder with a Dockerfile."""

    name: str
    environment: dict[str, str]

    @abstractmethod
    def set_up(self, rootfs: Path) -> str:
        """Makes `rootfs` (a tar) known as the base image; returns the version of what is measured."""

    @abstractmethod
    def build(self, folder: Path, tag: str, *, cold: bool) -> list[str]:
        """The command that builds; with `cold` nothing of an earlier build may be used."""

    @abstractmethod
    def inspect(self, tag: str) -> list[str]:
        """The command that prints an image's identifier or configuration."""

    def close(self) -> None:  # noqa: B027
        """Stops what was started."""

    def call(self, *command: str) -> str:
        """Runs a command that is not measured; its standard output."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {done.stderr.strip()[-1000:]}")
        return done.stdout

    def identify(self, tag: str) -> str:
        """An image's identifier."""
        return self.call(*self.inspect(tag)).strip()


class Stack(Builder):
    """This project, with a state directory of its own."""

    name = "stack"

    def __init__(self, work: Path) -> None:
        self.program = find_stack()
        self.environment = isolate_stack(work)

    def set_up(self, rootfs: Path) -> str:
        self.call(self.program, "image", "import", str(rootfs), "--tag", IMAGE)
        return self.call(self.program, "version").splitlines()[0]

    def build(self, folder: Path, tag: str, *, cold: bool) -> list[str]:
        return [self.program, "image", "build", *(["--no-cache"] if cold else []), "-t", tag, str(folder)]

    def inspect(self, tag: str) -> list[str]:
        return [self.program, "image", "inspect", tag]

    def identify(self, tag: str) -> str:
        found = json.loads(super().identify(tag))
        return str((found[0] if isinstance(found, list) else found)["Id"])


class Docker(Builder):
    """`docker build` with BuildKit, through buildx where that is installed, on a daemon of its own."""

    name = "docker"

    def __init__(self, work: Path) -> None:
        if not shutil.which("dockerd"):
            raise LookupError("dockerd is not installed (Debian: docker.io)")
        self.daemon = PrivateDocker(work)
        self.environment = dict(
            os.environ, DOCKER_HOST=self.daemon.address, DOCKER_CONFIG=str(work / "config"), DOCKER_BUILDKIT="1"
        )
        self.program = find_docker(self.environment)

    def set_up(self, rootfs: Path) -> str:
        self.daemon.start()
        self.call(self.program, "import", str(rootfs), IMAGE)
        server = self.call(self.program, "version", "--format", "{{.Client.Version}}, dockerd {{.Server.Version}}")
        buildx = subprocess.run(
            [self.program, "buildx", "version"], env=self.environment, capture_output=True, text=True
        )
        return server.strip() + (f", {buildx.stdout.strip()}" if buildx.returncode == 0 else ", BuildKit")

    def build(self, folder: Path, tag: str, *, cold: bool) -> list[str]:
        return [self.program, "build", *(["--no-cache"] if cold else []), "-t", tag, str(folder)]

    def inspect(self, tag: str) -> list[str]:
        return [self.program, "image", "inspect", "--format", "{{.Id}}", tag]

    def close(self) -> None:
        self.daemon.stop()


class Buildah(Builder):
    """`buildah build` with layers, on storage of its own."""

    name = "buildah"

    def __init__(self, work: Path) -> None:
        program = shutil.which("buildah")
        if not program:
            raise LookupError("buildah is not installed")
        self.work = work
        self.command = [program, "--root", f"{work}/data", "--runroot", f"{work}/run"]
        self.environment = dict(os.environ, CONTAINERS_CONF=f"{work}/containers.conf")

    def set_up(self, rootfs: Path) -> str:
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / "containers.conf").write_text(render_podman_settings(self.work))
        container = self.call(*self.command, "from", "scratch").strip()
        self.call(*self.command, "add", container, str(rootfs), "/")
        self.call(*self.command, "config", "--cmd", "sh", container)
        self.call(*self.command, "commit", "--rm", container, IMAGE)
        return self.call(*self.command, "--version").strip()

    def build(self, folder: Path, tag: str, *, cold: bool) -> list[str]:
        # Its own sandbox without an OCI runtime: the quicker of the two that it has.
        options = ["--layers", "--pull=never", "--isolation=chroot", *(["--no-cache"] if cold else [])]
        return [*self.command, "build", *options, "-t", tag, str(folder)]

    def inspect(self, tag: str) -> list[str]:
        return [*self.command, "inspect", "--type=image", "--format", "{{.FromImageID}}", tag]


def find_docker(environment: dict[str, str]) -> str:
    """A docker command whose BuildKit works: a current one needs the buildx plugin, an old one has it built in.

    Raises:
        LookupError: there is none.
    """
    for folder in os.environ["PATH"].split(":"):
        program = f"{folder}/docker"
        if not os.access(program, os.X_OK):
            continue
        done = subprocess.run(
            [program, "build", "--help"], env=environment, capture_output=True, text=True, check=False
        )
        if "buildx" in done.stdout or "--progress" in done.stdout:
            probe = subprocess.run([program, "build", "/nonexistent"], env=environment, capture_output=True, text=True)
            if "buildx component is missing" not in probe.stderr:
                return program
    raise LookupError("no docker command with BuildKit (Debian: docker.io, docker-cli, docker-buildx)")


BUILDERS: dict[str, type[Builder]] = {"stack": Stack, "docker": Docker, "buildah": Buildah}
