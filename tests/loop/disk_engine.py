"""An engine for tests of the supervisor's process: containers are files, so that they outlive every process.

A line written into the fifo ``news`` (``NAME EXIT_CODE``) ends a container while a supervisor watches; without one,
:func:`end_container` writes the end straight into the file.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.codec import dump_record, load_record
from orchestrator.engines.base import Change, ExecRequest, ExecResult, LogLine
from orchestrator.errors import EngineError, NotFound
from orchestrator.model import Network, Probe, Service, Stack, Volume
from orchestrator.plan import CreateContainer
from orchestrator.state import Container, ImageFacts, ObservedNetwork, ObservedState, ObservedVolume


class StartRefused(EngineError):
    """A command that is not there."""

    exit_code = 127


class DiskEngine:
    """Implements what the loop uses of the Engine protocol."""

    name = "disk"

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(os.environ["DISK_ENGINE_DIR"])
        self.containers = self.folder / "containers"
        self.containers.mkdir(parents=True, exist_ok=True)
        self.on_warning: Callable[[Any], None] = lambda _diagnostic: None
        self._lock = threading.RLock()
        self._serial = 0
        self.healthy: Callable[[Container], ExecResult] = lambda _container: ExecResult(exit_code=0, output="fine\n")
        self.notify: Callable[[Change], None] = lambda _change: None
        self.delay = float(os.environ.get("DISK_ENGINE_DELAY", "0"))
        self.served = 0
        self.image_checks: dict[str, Probe] = {}
        self.refused: set[str] = set()
        self.blind = False
        self._killed = threading.Event()

    def call(self, *words: str) -> None:
        """Write down that an operation was asked for."""
        if self.delay:
            time.sleep(self.delay)
        with open(self.folder / "calls", "a") as file:
            file.write(" ".join(words) + "\n")

    def calls(self, *, prefix: str = "") -> list[str]:
        """What was asked for so far, in order."""
        try:
            return [one for one in (self.folder / "calls").read_text().splitlines() if one.startswith(prefix)]
        except FileNotFoundError:
            return []

    def load(self) -> list[Container]:
        """Every container of the folder."""
        found = []
        for path in sorted(self.containers.glob("*.json")):
            try:
                found.append(load_record(json.loads(path.read_text())))
            except FileNotFoundError:
                continue
        return found

    def find(self, key: str) -> Container:
        """By id or name."""
        for one in self.load():
            if key in (one.id, one.name):
                return one
        raise NotFound(f"no container {key}", resource=key)

    def save(self, container: Container) -> None:
        """Write one container, atomically."""
        beside = self.containers / f"{container.id}.new{threading.get_ident()}"
        beside.write_text(json.dumps(dump_record(container)))
        beside.rename(self.containers / f"{container.id}.json")

    def end_container(self, name: str, exit_code: int, *, tell: bool = True) -> None:
        """The container's main process ends by itself."""
        with self._lock:
            one = self.find(name)
            if not one.alive:
                return
            ended = one.replace(status="exited", exit_code=exit_code, finished_at=time.time(), pid=0)
            self.save(ended)
        if tell:
            self.notify(Change(container_id=one.id, kind="exited", exit_code=exit_code, finished_at=ended.finished_at))

    def require_access(self, *, starting: bool = False) -> None:
        """Everybody may."""

    def check(self, stack: Stack) -> Sequence[Any]:
        return ()

    def observe(self, project: str, stack: Stack | None = None) -> ObservedState:
        if self.blind:
            raise RuntimeError("nothing can be seen")
        images: dict[str, ImageFacts | None] = {}
        for one in stack.services.values() if stack is not None else ():
            if one.image:
                images[one.image] = self._facts(one.image) if not one.image.startswith("remote") else None
        return ObservedState(
            project=project,
            containers=tuple(one for one in self.load() if one.project == project),
            networks={one.name: one for one in self._things("network", ObservedNetwork)},
            volumes={one.name: one for one in self._things("volume", ObservedVolume)},
            images=images,
        )

    def _facts(self, image: str) -> ImageFacts:
        return ImageFacts(id=f"sha256:{image}", reference=image, healthcheck=self.image_checks.get(image))

    def _things(self, kind: str, cls: Any) -> list[Any]:
        return [load_record(json.loads(path.read_text())) for path in self.folder.glob(f"{kind}-*.json")]

    def create_network(self, project: str, network: Network) -> None:
        self.call("create network", network.name)
        made = ObservedNetwork(name=network.name, key=network.key, project=project, config=network.config)
        (self.folder / f"network-{network.name}.json").write_text(json.dumps(dump_record(made)))

    def remove_network(self, project: str, name: str) -> None:
        self.call("remove network", name)
        (self.folder / f"network-{name}.json").unlink(missing_ok=True)

    def create_volume(self, project: str, volume: Volume) -> None:
        self.call("create volume", volume.name)
        made = ObservedVolume(name=volume.name, key=volume.key, project=project, config=volume.config)
        (self.folder / f"volume-{volume.name}.json").write_text(json.dumps(dump_record(made)))

    def remove_volume(self, project: str, name: str) -> None:
        self.call("remove volume", name)
        (self.folder / f"volume-{name}.json").unlink(missing_ok=True)

    def pull_image(self, reference: str, *, platform: str | None = None, **_watched: Any) -> ImageFacts:
        self.call("pull", reference)
        return self._facts(reference)

    def build_image(self, stack: Stack, service: Service, **_asked: Any) -> ImageFacts:
        raise AssertionError("nothing is built in these tests")

    def create_container(self, stack: Stack, request: CreateContainer) -> str:
        self.call("create", request.container_name)
        with self._lock:
            if request.replaces:
                old = self.find(request.replaces)
                if old.name == request.container_name:
                    self.save(old.replace(name=f"{old.id[:12]}_{old.name}"))
            self._serial += 1
            made = Container(
                id=f"{time.time_ns():016x}{self._serial:04x}",
                name=request.container_name,
                project=stack.name,
                service=request.service.name,
                number=request.number,
                image=request.service.image or "",
                image_id=f"sha256:{request.service.image}",
                status="created",
                config=request.service.config,
                config_hash=request.config_hash,
                created_at=time.time(),
            )
            self.save(made)
        return made.id

    def start_container(self, container_id: str, *, cause: str = "") -> None:
        one = self.find(container_id)
        self.call("start", one.name)
        if "refused" in one.image or one.name in self.refused:
            raise StartRefused(f"{one.name}: no such command", resource=one.name, operation="start")
        with self._lock:
            self.save(
                self.find(container_id).replace(
                    status="running", pid=1, started_at=time.time(), exit_code=None, hold=False, health=None
                )
            )
        if "crash" in one.image:
            self.end_container(one.name, 3)
        if "oneshot" in one.image:
            self.end_container(one.name, 0)

    def prepare_container(self, container_id: str) -> None:
        """There is nothing to prepare."""

    def unprepare_container(self, container_id: str) -> None:
        """There was nothing to prepare."""

    def stop_container(self, container_id: str, *, timeout: float | None = None, hold: bool = True) -> None:
        one = self.find(container_id)
        self.call("stop", one.name)
        if "stubborn" in one.image and timeout != 0:
            self._killed.wait(30)
        self.end_container(one.name, 143)
        with self._lock:
            self.save(self.find(container_id).replace(hold=hold))

    def kill_container(self, container_id: str, signal: str = "SIGKILL") -> None:
        self.call("kill", container_id)
        self.end_container(container_id, 137)
        self._killed.set()

    def remove_container(self, container_id: str, *, volumes: bool = False) -> None:
        try:
            one = self.find(container_id)
        except NotFound:
            return
        self.call("remove", one.name)
        self.end_container(one.name, 137)
        (self.containers / f"{container_id}.json").unlink(missing_ok=True)

    def rename_container(self, container_id: str, new_name: str, number: int) -> None:
        with self._lock:
            self.save(self.find(container_id).replace(name=new_name, number=number))

    def record_health(self, container_id: str, health: Any) -> None:
        with self._lock:
            self.save(self.find(container_id).replace(health=health))

    def record_restart(self, container_id: str, count: int, *, at: float = 0.0) -> None:
        with self._lock:
            self.save(self.find(container_id).replace(restart_count=count, restart_at=at))

    def record_hooks(self, container_id: str, due: int) -> None:
        with self._lock:
            self.save(self.find(container_id).replace(hooks_due=due))

    def exec_captured(self, container: Container, request: ExecRequest, *, timeout: float) -> ExecResult:
        return self.healthy(container)

    def read_logs(self, containers: Sequence[Container], *, tail: int | None = None, **_more: Any) -> Any:
        for one in containers:
            yield LogLine(container=one.name, service=one.service, stream="stdout", time="", text=f"{one.name} says so")

    def watch(self, project: str, notify: Callable[[Change], None]) -> Callable[[], None]:
        self.notify = notify
        fifo = self.folder / "news"
        if not fifo.exists():
            os.mkfifo(fifo)
        # Opened for both ways: a reader that never sees the end of the file.
        descriptor = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)

        def listen() -> None:
            with open(descriptor, encoding="ascii") as news:
                for line in news:
                    name, _, code = line.strip().partition(" ")
                    if name == "end-of-watch":
                        return
                    self.end_container(name, int(code))

        def end() -> None:
            with open(fifo, "w") as news:
                news.write("end-of-watch\n")

        threading.Thread(target=listen, daemon=True).start()
        return end

    def serve(self, stack: Stack, loop: Any) -> None:
        self.served += 1
        with open(self.folder / "served", "a") as file:
            file.write(f"{os.getpid()}\n")
        if (self.folder / "crash").exists():
            os.kill(os.getpid(), 9)

    def stop_serving(self) -> None:
        pass
