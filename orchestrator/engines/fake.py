"""An engine in memory: the test double, and the yardstick of what an engine does.

Containers run a few words of shell (:mod:`orchestrator.engines.fake_shell`). Nothing outlives the object; several
threads may use it at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from orchestrator.engines.base import Change, ExecRequest, ExecResult, Finding, LogLine
from orchestrator.engines.fake_inside import FakeInside
from orchestrator.engines.fake_parts import (
    FakeContainer,
    Watch,
    find_address,
    find_files,
    find_ports,
    follow_logs,
    mount_volumes,
)
from orchestrator.engines.fake_shell import CommandMissing, Script
from orchestrator.errors import Conflict, Diagnostic, EngineError, NotFound
from orchestrator.model import image_reference
from orchestrator.reconcile.images import list_mounted, list_references
from orchestrator.state import Container, HealthStatus, ObservedState

if TYPE_CHECKING:
    import asyncio

    from orchestrator.model import Stack
    from orchestrator.plan import CreateContainer

_SIGNALS = {"1": "HUP", "2": "INT", "9": "KILL", "10": "USR1", "12": "USR2", "15": "TERM"}
_NUMBERS = {name: int(number) for number, name in _SIGNALS.items()}


class FakeEngine(FakeInside):
    """The whole Engine protocol over dictionaries.

    `clock` gives the time (epoch seconds). `before` is called with (operation, resource) ahead of each change; what it
    raises is what the operation raises: that is how tests inject failures and crashes. `calls` lists those pairs.
    """

    name = "fake"

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self.on_warning: Callable[[Diagnostic], None] = lambda _warning: None
        self.served: list[str] = []
        self._changed = threading.Condition(self._lock)
        self._watches: list[Watch] = []

    # What tests set up

    def exit(self, container_id: str, code: int = 0, *, oom_killed: bool = False) -> None:
        """Let a container's main process end by itself."""
        with self._lock:
            self._end(self._find(container_id), code, oom_killed=oom_killed)

    # Observation

    def require_access(self, *, starting: bool = False) -> None:
        """Everybody may."""

    def check(self, stack: Stack) -> Sequence[Diagnostic]:
        """Nothing is beyond it."""
        return ()

    def observe(self, project: str, stack: Stack | None = None) -> ObservedState:
        """What is there of one project."""
        with self._lock:
            named_networks = {one.name for one in stack.networks.values()} if stack else set()
            named_volumes = {one.name for one in stack.volumes.values()} if stack else set()
            references = list_references(stack) if stack else set()
            return ObservedState(
                project=project,
                containers=tuple(one.state for one in self._containers.values() if one.state.project == project),
                networks={k: v for k, v in self._networks.items() if v.project == project or k in named_networks},
                volumes={k: v for k, v in self._volumes.items() if v.project == project or k in named_volumes},
                images={reference: self._find_image(reference) for reference in sorted(references)},
            )

    def projects(self) -> Sequence[str]:
        """Projects with anything here."""
        with self._lock:
            found = {one.state.project for one in self._containers.values()}
            found |= {one.project for one in self._networks.values()}
            found |= {one.project for one in self._volumes.values()}
            return sorted(found - {""})

    # Containers

    def create_container(self, stack: Stack, request: CreateContainer) -> str:
        """Create a container; it takes name and anonymous volumes over from the one that it replaces."""
        self._begin("create", request.container_name)
        service = request.service
        with self._lock:
            reference = image_reference(stack, service)
            image = self._find_image(reference)
            if image is None:
                raise NotFound(f"no image {reference}", resource=reference, operation="create container")
            for key in service.networks:
                if stack.networks[key].name not in self._networks:
                    name = stack.networks[key].name
                    raise NotFound(f"no network {name}", resource=name, operation="create container")
            old = self._containers.get(request.replaces or "")
            holder = next((c for c in self._containers.values() if c.state.name == request.container_name), None)
            if holder is not None and holder is not old:
                raise _name_taken(request.container_name, "create container")
            volumes = mount_volumes(stack, service, image, old if request.inherit_volumes else None, self._ids)
            for name in volumes.values():
                if name not in self._volumes and len(name) < 64:
                    raise NotFound(f"no volume {name}", resource=name, operation="create container")
                self._add_volume(name, "", stack.name, {})
            if old is not None and holder is old:
                old.change(name=f"{old.state.id[:12]}_{old.state.name}")
            made = FakeContainer(stack, request, next(self._ids), image, volumes, self._clock())
            found = {one: self._find_image(one) for one in list_mounted(service)}
            made.change(mounted_images={name: facts.id for name, facts in found.items() if facts is not None})
            self._containers[made.state.id] = made
            self._tell(made.state, "create")
            return made.state.id

    def start_container(self, container_id: str, *, cause: str = "") -> None:
        """Start a container: its script runs up to its first sleep."""
        self._begin("start", self._name_of(container_id))
        with self._lock:
            one = self._find(container_id)
            if one.state.alive:
                return
            running = [c.state for c in self._containers.values() if c.state.alive]
            one.change(bindings=find_ports(one, running))
            endpoints = []
            for key, attachment in sorted(one.service.networks.items()):
                name = one.stack.networks[key].name
                if name not in self._networks:
                    raise NotFound(f"no network {name}", resource=name, operation="start container")
                endpoints.append(find_address(self._networks[name], attachment, running, one.state))
            environment = {key: value or "" for key, value in one.service.environment.items()}
            try:
                files = find_files(one, self._files)
                one.script = Script(one.argv, environment, files, one.service.hostname or one.state.id[:12])
            except CommandMissing as error:
                one.change(status="exited", exit_code=127, error=f"{error}: not found", finished_at=self._clock())
                raise EngineError(
                    f"{one.state.service}: the command {error} does not exist in image {one.state.image}",
                    resource=one.state.name,
                    operation="start container",
                ) from error
            one.begin(self._clock(), tuple(endpoints))
            self._tell(one.state, "start", **({"cause": cause} if cause else {}))
            self._go_on(one, one.script)

    def _go_on(self, one: FakeContainer, script: Script) -> None:
        """Run a container's script on; later again, when it only sleeps for a while."""
        with self._lock:
            if one.script is not script or not one.state.alive:
                return
            pause = script.run()
            one.take_output(self._clock())
            self._changed.notify_all()
            if pause is None:
                self._end(one, script.exit_code or 0)
            elif pause < 60:
                one.timer = threading.Timer(pause, self._go_on, (one, script))
                one.timer.daemon = True
                one.timer.start()

    def _end(self, one: FakeContainer, code: int, *, oom_killed: bool = False) -> None:
        if not one.state.alive:
            return
        one.end(self._clock(), code, oom_killed=oom_killed)
        self._tell(one.state, "die", exitCode=str(code))
        self._changed.notify_all()
        change = Change(container_id=one.state.id, kind="exited", exit_code=code, finished_at=one.state.finished_at)
        for watch in self._watches:
            if watch.project == one.state.project:
                watch.tell(change)

    def prepare_container(self, container_id: str) -> None:
        """There is nothing to prepare."""

    def unprepare_container(self, container_id: str) -> None:
        """There was nothing to prepare."""

    def stop_container(self, container_id: str, *, timeout: float | None = None, hold: bool = True) -> None:
        """Stop a container. One that ignores its stop signal is killed at once: nobody waits for a fake."""
        self._begin("stop", self._name_of(container_id))
        with self._lock:
            one = self._containers.get(container_id)
            if one is None:
                return
            one.change(hold=hold or one.state.hold)
            if one.state.alive:
                self._tell(one.state, "kill", signal=str(_NUMBERS.get(one.service.stop_signal or "TERM", 15)))
                self._signal(one, one.service.stop_signal or "SIGTERM")
                self._end(one, 137)
                self._tell(one.state, "stop")

    def kill_container(self, container_id: str, signal: str = "SIGKILL") -> None:
        """Send a signal to the main process. Conflict when there is none."""
        self._begin("kill", self._name_of(container_id))
        with self._lock:
            one = self._find(container_id)
            if not one.state.alive:
                raise Conflict(f"{one.state.name} is not running", resource=one.state.name, operation="kill container")
            name = _SIGNALS.get(signal, signal.upper().removeprefix("SIG"))
            self._tell(one.state, "kill", signal=str(_NUMBERS.get(name, 15)))
            self._signal(one, signal)

    def _signal(self, one: FakeContainer, signal: str) -> None:
        name = _SIGNALS.get(signal, signal.upper().removeprefix("SIG"))
        traps = one.script.traps if one.script is not None else {}
        if name == "KILL":
            self._end(one, 137)
        elif name in traps:
            self._end(one, traps[name])
        elif one.service.init:
            # A main process without a handler ignores signals, unless an init passes them on to it.
            self._end(one, 128 + _NUMBERS.get(name, 15))

    def pause_container(self, container_id: str, *, paused: bool) -> None:
        """Freeze or thaw a container. Conflict when it does not run."""
        self._begin("pause" if paused else "unpause", self._name_of(container_id))
        with self._lock:
            one = self._find(container_id)
            if not one.state.alive:
                raise Conflict(f"{one.state.name} is not running", resource=one.state.name, operation="pause container")
            one.change(status="paused" if paused else "running")
            self._tell(one.state, "pause" if paused else "unpause")

    def remove_container(self, container_id: str, *, volumes: bool = False) -> None:
        """Remove a container; `volumes`: and its anonymous volumes, unless another container has them too."""
        self._begin("remove", self._name_of(container_id))
        with self._lock:
            one = self._containers.get(container_id)
            if one is None:
                return
            self._end(one, 137)
            del self._containers[container_id]
            self._tell(one.state, "destroy")
            used = {name for other in self._containers.values() for name in other.state.volumes.values()}
            for name in one.state.volumes.values():
                if volumes and not self._volumes[name].key and name not in used:
                    del self._volumes[name], self._files[name]

    def rename_container(self, container_id: str, new_name: str, number: int) -> None:
        """Change name and number. Conflict when the name is taken."""
        self._begin("rename", self._name_of(container_id))
        with self._lock:
            one = self._find(container_id)
            if any(c.state.name == new_name for c in self._containers.values() if c is not one):
                raise _name_taken(new_name, "rename container")
            one.change(name=new_name, number=number)

    def record_health(self, container_id: str, health: HealthStatus | None) -> None:
        """Remember a container's health."""
        with self._lock:
            if container_id in self._containers:
                self._containers[container_id].change(health=health)

    def record_restart(self, container_id: str, count: int, *, at: float = 0.0) -> None:
        """Remember how often a restart policy has started a container, and when it is going to."""
        with self._lock:
            if container_id in self._containers:
                self._containers[container_id].change(restart_count=count, restart_at=at)

    def record_hooks(self, container_id: str, due: int) -> None:
        """Remember how many of a container's hooks are still to be run."""
        with self._lock:
            if container_id in self._containers:
                self._containers[container_id].change(hooks_due=due)

    # Looking inside

    def exec_attached(self, container: Container, request: ExecRequest) -> int:
        """Run a command; its output goes to this process's stdout."""
        import sys

        result = self.exec_captured(container, request, timeout=float("inf"))
        sys.stdout.write(result.output)
        return result.exit_code

    def exec_captured(self, container: Container, request: ExecRequest, *, timeout: float) -> ExecResult:
        """Run a command; a sleep longer than `timeout` seconds is a time-out, at once."""
        with self._lock:
            one = self._find(container.id)
            if not one.state.alive:
                raise NotFound(f"{one.state.name} is not running", resource=one.state.name, operation="exec")
            environment = {key: value or "" for key, value in one.service.environment.items()}
            environment.update(request.environment)
            try:
                script = Script(request.command, environment, find_files(one, self._files), one.state.id[:12])
            except CommandMissing as error:
                return ExecResult(exit_code=127, output=f"{error}: not found\n")
            slept = 0.0
            while (pause := script.run()) is not None:
                slept += pause
                if slept > timeout:
                    return ExecResult(exit_code=124, timed_out=True, output=_joined(script))
            return ExecResult(exit_code=script.exit_code or 0, output=_joined(script))

    def read_logs(
        self,
        containers: Sequence[Container],
        *,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        follow: bool = False,
        stopped: Callable[[], bool] | None = None,
    ) -> Iterator[LogLine]:
        """Yield what containers wrote."""
        wanted = {one.id for one in containers}

        def collect() -> tuple[list[FakeContainer], bool]:
            with self._lock:
                found = [one for key, one in self._containers.items() if key in wanted]
                return found, any(one.state.alive for one in found)

        def rest() -> None:
            with self._changed:
                self._changed.wait(0.05)

        yield from follow_logs(
            collect, rest, tail=tail, since=since, until=until, ended=stopped if follow else _at_once
        )

    # Hosting

    def watch(self, project: str, notify: Callable[[Change], None]) -> Callable[[], None]:
        """Tell of every container of the project that ends, from a thread of its own."""
        watch = Watch(project, notify)
        with self._lock:
            self._watches.append(watch)

        def end() -> None:
            with self._lock:
                if watch in self._watches:
                    self._watches.remove(watch)
            watch.end()

        return end

    def serve(self, stack: Stack, loop: asyncio.AbstractEventLoop) -> None:
        """Remember that the project is served."""
        if stack.name not in self.served:
            self.served.append(stack.name)

    def stop_serving(self) -> None:
        """Forget it."""
        self.served.clear()

    def diagnose(self, *, fix: bool = False) -> Sequence[Finding]:
        """It stands on nothing."""
        return (Finding(name="fake engine", state="ok", detail="everything is in memory"),)

    def _name_of(self, container_id: str) -> str:
        one = self._containers.get(container_id)
        return one.state.name if one is not None else container_id

    def _find(self, container_id: str) -> FakeContainer:
        one = self._containers.get(container_id)
        if one is None:
            raise NotFound(f"no container {container_id[:12]}", resource=container_id, operation="find container")
        return one


def _at_once() -> bool:
    return True


def _name_taken(name: str, operation: str) -> Conflict:
    return Conflict(f"the container name {name} is taken", resource=name, operation=operation)


def _joined(script: Script) -> str:
    lines: Iterable[str] = (text for _stream, text in script.output)
    return "".join(f"{line}\n" for line in lines)[-4096:]
