"""kill -9 of commands that change the image store, at any moment, over and over.

Each round makes sure that there is something to do, kills the command, checks the store with ``stack image fsck``,
runs the command to its end, and checks that it has come to what it should, and the store again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .loopback import start_registry
from .tars import file, folder, make_docker_archive, make_rootfs, make_tar

_LONGEST = 120.0
_DOCKERFILE = """\
FROM localhost/base:1 AS one
COPY src /src
RUN cat /src/* > /all
FROM localhost/base:1 AS two
RUN echo other > /other
FROM localhost/base:1
ARG ROUND
RUN echo "$ROUND" > /round
COPY src /src
COPY --from=one /all /all
COPY --from=two /other /other
LABEL round="$ROUND"
"""


class Scene:
    """A store, a registry and what images are made of, all of it new."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "state" / "images"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("STACK_", "DOCKER_"))},
            "STACK_STATE_DIR": str(root / "state"),
            "STACK_RUN_DIR": str(root / "run"),
            "STACK_REGISTRIES_CONF": str(root / "registries.conf"),
            "HOME": str(root),
        }
        (root / "registries.conf").write_text("")
        (root / "base.tar").write_bytes(make_rootfs())
        self._process, self.registry = start_registry(root)
        layers = [make_rootfs()]
        layers += [
            make_tar([folder("d"), *(file(f"d/{n}-{i}", os.urandom(3000)) for i in range(200))]) for n in range(3)
        ]
        make_docker_archive(root / "many.tar", layers, tags=["localhost/many:1"])
        self.registry.fill(f"docker-archive:{root}/many.tar", "many:1")

    def close(self) -> None:
        """Stop the registry and remove everything."""
        self._process.terminate()
        self._process.wait(60)
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *words],
            env={**self.environment, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def call(self, *words: str) -> str:
        """Run a command to its end. Raises Broken."""
        process = self.start(*words)
        output, _ = process.communicate(timeout=_LONGEST)
        if process.returncode:
            raise Broken(f"stack {' '.join(words)}: exit code {process.returncode}\n{output}")
        return output

    def inspect(self, name: str) -> dict[str, Any]:
        """What ``image inspect`` says. Raises Broken."""
        found = json.loads(self.call("image", "inspect", name))
        one: dict[str, Any] = found[0] if isinstance(found, list) else found
        return one

    def list_litter(self) -> list[str]:
        """Work under way of which nobody is left, mounts."""
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        folders = [str(one) for one in (self.store / "work").iterdir()] if (self.store / "work").is_dir() else []
        return [*folders, *(one for one in mounts if one.startswith(str(self.root)))]


class Broken(Exception):
    """Something is not as it should be after a kill."""


class Deed(ABC):
    """A command that is killed."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    @abstractmethod
    def prepare(self, number: int) -> None:
        """See to it that the command has everything to do, in round `number`."""

    @abstractmethod
    def words(self, number: int) -> tuple[str, ...]:
        """The command."""

    @abstractmethod
    def check(self, number: int) -> None:
        """Raises Broken unless the command has done its work."""

    def empty(self) -> None:
        """Remove every image."""
        self.scene.call("image", "prune", "-a", "-f")


class Build(Deed):
    """Three stages, five steps, none of them in the cache."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        scene.call("image", "import", "base.tar", "--tag", "localhost/base:1")
        (scene.root / "context" / "src").mkdir(parents=True)
        (scene.root / "context" / "Dockerfile").write_text(_DOCKERFILE)

    def prepare(self, number: int) -> None:
        for name in range(4):
            (self.scene.root / "context" / "src" / str(name)).write_text(f"{number} {name}\n" * 2000)

    def words(self, number: int) -> tuple[str, ...]:
        quick = ("--network", "none", "--progress", "plain")
        return ("image", "build", *quick, "--build-arg", f"ROUND={number}", "-t", "localhost/built:1", "context")

    def check(self, number: int) -> None:
        found = self.scene.inspect("localhost/built:1")["Config"]["Labels"]
        if found != {"round": str(number)}:
            raise Broken(f"the image has the labels {found}, in round {number}")


class Pull(Deed):
    """An image of four layers that is not here."""

    def prepare(self, number: int) -> None:
        self.empty()

    def words(self, number: int) -> tuple[str, ...]:
        return ("image", "pull", f"{self.scene.registry.host}/many:1")

    def check(self, number: int) -> None:
        self.scene.inspect(f"{self.scene.registry.host}/many:1")


class Push(Deed):
    """An image to a repository that has none of it, as if it had never been sent."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        scene.call("image", "load", "-i", "many.tar")

    def prepare(self, number: int) -> None:
        for path in (self.scene.store / "layers").glob("*.json"):
            record = json.loads(path.read_bytes())
            path.write_text(json.dumps({**record, "blobs": []}))
        self.scene.call("image", "tag", "localhost/many:1", self._name(number))

    def words(self, number: int) -> tuple[str, ...]:
        return ("image", "push", self._name(number))

    def check(self, number: int) -> None:
        there = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{self._name(number)}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if there.returncode or len(json.loads(there.stdout)["layers"]) != 4:
            raise Broken(f"the registry does not have what was sent: {there.stderr}{there.stdout}")

    def _name(self, number: int) -> str:
        return f"{self.scene.registry.host}/sent{number}:1"


class Prune(Deed):
    """Two images, then the results of a build."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        (scene.root / "context").mkdir()
        (scene.root / "context" / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")

    def prepare(self, number: int) -> None:
        self.scene.call("image", "load", "-i", "many.tar")
        (self.scene.root / "context" / "round").write_text(str(number))
        self.scene.call("image", "build", "-q", "-t", "localhost/small:1", "context")

    def words(self, number: int) -> tuple[str, ...]:
        return ("image", "prune", "-f", "--build-cache" if number % 2 else "-a")

    def check(self, number: int) -> None:
        # Which of both was killed, and went again, is to make no difference to what the other finds.
        self.scene.call("image", "prune", "-f", "-a" if number % 2 else "--build-cache")
        folders = ("l", "layers", "images", "blobs/sha256", "cache")
        left = [f"{one}/{name}" for one in folders for name in _list_folder(self.scene.store / one)]
        if left:
            raise Broken(f"still there: {' '.join(left)}")


class Load(Deed):
    """An archive of four layers."""

    def prepare(self, number: int) -> None:
        self.empty()

    def words(self, number: int) -> tuple[str, ...]:
        return ("image", "load", "-i", "many.tar")

    def check(self, number: int) -> None:
        self.scene.inspect("localhost/many:1")


class Import(Deed):
    """A root filesystem that becomes an image."""

    def prepare(self, number: int) -> None:
        self.empty()

    def words(self, number: int) -> tuple[str, ...]:
        return ("image", "import", "base.tar", "--tag", "localhost/root:1")

    def check(self, number: int) -> None:
        self.scene.inspect("localhost/root:1")


DEEDS: dict[str, type[Deed]] = {
    "build": Build,
    "pull": Pull,
    "push": Push,
    "prune": Prune,
    "load": Load,
    "import": Import,
}


class Tally:
    """What came of many kills. `late` counts those that found the command at its end."""

    def __init__(self) -> None:
        self.killed = 0
        self.late = 0
        self.faults: list[str] = []


def kill_often(scene: Scene, name: str, times: int, chance: random.Random) -> Iterator[Tally]:
    """Kill the command `name` so many times; tells after each what has come of all so far."""
    deed, tally = DEEDS[name](scene), Tally()
    deed.prepare(0)
    begun = time.monotonic()
    scene.call(*deed.words(0))
    deed.check(0)
    span, number = time.monotonic() - begun, 0
    while tally.killed < times:
        number += 1
        deed.prepare(number)
        process = scene.start(*deed.words(number))
        moment = chance.uniform(0, span)
        try:
            process.wait(moment)
            tally.late += 1
            # It was quicker than the last time: the next kill comes earlier.
            span = max(0.05, min(span, moment))
        except subprocess.TimeoutExpired:
            process.kill()
            tally.killed += 1
        process.communicate()
        try:
            scene.call("image", "fsck")
            begun = time.monotonic()
            scene.call(*deed.words(number))
            span = (3 * span + time.monotonic() - begun) / 4
            deed.check(number)
            scene.call("image", "fsck")
            if litter := scene.list_litter():
                raise Broken(f"left behind: {' '.join(litter)}")
        except Broken as error:
            tally.faults.append(f"{name}, round {number}, killed after {moment:.3f} of {span:.3f} s: {error}")
        yield tally


def _list_folder(path: Path) -> list[str]:
    return os.listdir(path) if path.is_dir() else []
