"""What every engine is tried with: a project of its own, an image with busybox in it, and nothing left at the end."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stacks import bind_stack

from orchestrator.digest import config_hash
from orchestrator.engines.base import Engine, ExecRequest, ExecResult
from orchestrator.engines.fake import FakeEngine
from orchestrator.model import Stack
from orchestrator.plan import CreateContainer
from orchestrator.state import Container, ObservedState

IMAGE = "conformance:1"
IMAGE_WITH_VOLUME = "conformance:volume"
BUSYBOX = Path("/bin/busybox")
READY = "echo ready"
FOREVER = f"trap 'exit 0' TERM; {READY}; sleep 600 & wait"
"""Ends with 0 when it is asked to, once it said that it is ready: until then a main process is deaf to signals."""


class Bench:
    """One project on one engine, in few words."""

    def __init__(self, engine: Engine, project: str) -> None:
        self.engine = engine
        self.project = project
        self.stack = Stack(name=project)

    def use(self, services: dict[str, Any], **resources: Any) -> None:
        """Take a stack, and create its networks and volumes."""
        for config in services.values():
            config.setdefault("image", IMAGE)
            config.setdefault("command", FOREVER)
        self.stack = bind_stack(services, project=self.project, **resources)
        for network in self.stack.networks.values():
            if not network.external:
                self.engine.create_network(self.project, network)
        for volume in self.stack.volumes.values():
            self.engine.create_volume(self.project, volume)

    def create(self, service: str = "web", number: int = 1, **request: Any) -> str:
        """Create one replica; return its id."""
        wanted = self.stack.services[service]
        values = {
            "id": f"create {service}-{number}",
            "subject": service,
            "cause": "a test",
            "service": wanted,
            "number": number,
            "container_name": f"{self.project}-{service}-{number}",
            "config_hash": config_hash(wanted, self.stack),
        }
        return self.engine.create_container(self.stack, CreateContainer(**{**values, **request}))

    def run(self, service: str = "web", number: int = 1, **request: Any) -> str:
        """Create and start one replica; return its id."""
        made = self.create(service, number, **request)
        self.start(made)
        return made

    def start(self, container_id: str) -> None:
        """Start a container; if its command says when it is ready, wait for that."""
        said = len(self.logs(container_id))
        self.engine.start_container(container_id)
        if READY in " ".join(self.look(container_id).command):
            self.wait_until(lambda: len(self.logs(container_id)) > said)

    def observe(self) -> ObservedState:
        """The project with everything that its stack names."""
        return self.engine.observe(self.project, self.stack)

    def look(self, container_id: str) -> Container:
        """One container as it is now."""
        return next(one for one in self.observe().containers if one.id == container_id)

    def ended(self, container_id: str) -> Container:
        """The container, once it has ended."""
        self.wait_until(lambda: not self.look(container_id).alive)
        return self.look(container_id)

    def exec(self, container_id: str, *command: str, timeout: float = 60, **request: Any) -> ExecResult:
        """Run a command in a container."""
        return self.engine.exec_captured(
            self.look(container_id), ExecRequest(command=command, **request), timeout=timeout
        )

    def shell(self, container_id: str, script: str) -> str:
        """Run a shell script in a container; return its output."""
        return self.exec(container_id, "sh", "-c", script).output

    def logs(self, *container_ids: str, **how: Any) -> list[str]:
        """The texts of log lines."""
        return [one.text for one in self.engine.read_logs([self.look(key) for key in container_ids], **how)]

    def wait_until(self, true: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something is true."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.01)

    def clear(self) -> None:
        """Remove everything of the project."""
        for one in self.engine.observe(self.project).containers:
            self.engine.remove_container(one.id, volumes=True)
        left = self.engine.observe(self.project)
        for name in left.networks:
            self.engine.remove_network(self.project, name)
        for name in left.volumes:
            self.engine.remove_volume(self.project, name)
        self.engine.stop_serving()


def make_fake(_folder: Path) -> Engine:
    """The yardstick."""
    engine = FakeEngine()
    engine.publish_image(IMAGE, local=True)
    engine.publish_image(IMAGE_WITH_VOLUME, volumes=("/held",), local=True)
    return engine


def make_native(folder: Path) -> Engine:
    """The native engine in directories of its own; skipped for those who cannot run containers."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    from orchestrator.engines.native.engine import NativeEngine
    from orchestrator.engines.native.layout import Layout

    engine = NativeEngine(Layout(folder / "state", folder / "run"))
    engine.images.import_rootfs(io.BytesIO(_pack_busybox()), reference=IMAGE)
    engine.images.import_rootfs(io.BytesIO(_pack_busybox()), reference=IMAGE_WITH_VOLUME, changes=["VOLUME /held"])
    return engine


ENGINES: dict[str, Callable[[Path], Engine]] = {"fake": make_fake, "native": make_native}
"""An engine joins the suite by one entry here: from an empty folder to an engine that has both images."""


@pytest.fixture(scope="session", params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One engine for the whole session, as it serves many projects."""
    folder = tmp_path_factory.mktemp(request.param)
    yield ENGINES[request.param](folder)
    if (folder / "state").exists():
        from e2e.leaks import await_no_leaks

        # The kernel takes a namespace down, with its links, some time after the last process has left it.
        left = await_no_leaks(folder / "state", folder / "run")
        assert not left, "left behind:\n" + "\n".join(left)


_count = iter(range(1, 10**6))


@pytest.fixture
def bench(engine: Engine) -> Iterator[Bench]:
    """A project that no other test has."""
    made = Bench(engine, f"conf{next(_count)}")
    yield made
    made.clear()
    left = engine.observe(made.project)
    assert not (left.containers or left.networks or left.volumes)
    assert made.project not in engine.projects()


def _pack_busybox() -> bytes:
    target = io.BytesIO()
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in ("bin", "etc", "tmp", "dev", "proc", "sys", "root"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        archive.add(BUSYBOX, "bin/busybox")
        for name in sorted(set(applets) - {"busybox"}):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        users = b"root:x:0:0:root:/root:/bin/sh\n"
        passwd = tarfile.TarInfo("etc/passwd")
        passwd.size = len(users)
        archive.addfile(passwd, io.BytesIO(users))
    return target.getvalue()
