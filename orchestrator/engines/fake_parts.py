"""The fake engine's container, mounts, addresses and watch."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, MutableMapping
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import islice
from typing import TYPE_CHECKING, Any

from orchestrator.engines.base import Change, LogLine
from orchestrator.errors import Conflict
from orchestrator.state import Binding, Container, Endpoint, ImageFacts, ObservedNetwork

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.engines.fake_shell import Script
    from orchestrator.model import NetworkAttachment, Service, Stack
    from orchestrator.plan import CreateContainer

FIRST_RANDOM_PORT = 32768


class FakeContainer:
    """One container: its observed state, and what runs in it."""

    def __init__(
        self,
        stack: Stack,
        request: CreateContainer,
        container_id: str,
        image: ImageFacts,
        volumes: dict[str, str],
        now: float,
    ) -> None:
        service = request.service
        self.stack = stack
        self.service: Service = service
        self.argv = (*(service.entrypoint or ()), *(service.command or ()))
        self.script: Script | None = None
        self.timer: threading.Timer | None = None
        self.log: list[LogLine] = []
        self.files: dict[str, str] = {}
        self.state = Container(
            id=container_id,
            name=request.container_name,
            project=stack.name,
            service=service.name,
            number=request.number,
            image=image.reference,
            image_id=image.id,
            status="created",
            config=service.config,
            config_hash=request.config_hash,
            oneoff=request.oneoff,
            created_at=now,
            command=self.argv,
            labels=service.labels,
            volumes=volumes,
        )

    def change(self, **values: Any) -> None:
        """Change the observed state."""
        self.state = self.state.replace(**values)

    def begin(self, now: float, endpoints: tuple[Endpoint, ...]) -> None:
        """It runs now."""
        self.change(
            status="running",
            started_at=now,
            finished_at=0.0,
            exit_code=None,
            oom_killed=False,
            error="",
            hold=False,
            health=None,
            restart_at=0.0,
            pid=int(self.state.id[:12], 16) + 1000,
            endpoints=endpoints,
        )

    def end(self, now: float, code: int, *, oom_killed: bool) -> None:
        """It has ended."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None
        self.change(
            status="exited",
            exit_code=code,
            finished_at=now,
            pid=0,
            oom_killed=oom_killed,
            bindings=(),
            health=None,
        )

    def take_output(self, now: float) -> None:
        """Move what the script printed into the log."""
        assert self.script is not None
        for stream, text in self.script.output:
            self.log.append(
                LogLine(
                    container=self.state.name,
                    service=self.state.service,
                    stream="stderr" if stream == "stderr" else "stdout",
                    time=render_time(now),
                    text=text,
                )
            )
        self.script.output.clear()


class Watch:
    """Hands changes to a callback, one after the other, on a thread of its own."""

    def __init__(self, project: str, notify: Callable[[Change], None]) -> None:
        self.project = project
        self._notify = notify
        self._changes: queue.SimpleQueue[Change | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"watch {project}", daemon=True)
        self._thread.start()

    def tell(self, change: Change) -> None:
        """Pass a change on, soon."""
        self._changes.put(change)

    def end(self) -> None:
        """Stop; returns when the callback is not called any more."""
        self._changes.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while (change := self._changes.get()) is not None:
            self._notify(change)


def mount_volumes(
    stack: Stack, service: Service, image: ImageFacts, old: FakeContainer | None, ids: Iterator[str]
) -> dict[str, str]:
    """Volume names by target: named ones, inherited anonymous ones, new anonymous ones of the file and of the image."""
    found: dict[str, str] = {}
    anonymous = {one.target for one in service.volumes if one.type == "volume" and one.source is None}
    for one in service.volumes:
        if one.type == "volume" and one.source is not None:
            found[one.target] = stack.volumes[one.source].name
    taken = {one.target for one in service.volumes}
    for target in sorted(anonymous | (set(image.volumes) - taken)):
        inherited = old.state.volumes.get(target, "") if old is not None else ""
        found[target] = inherited if len(inherited) == 64 else next(ids)
    return found


def find_files(one: FakeContainer, volumes: MutableMapping[str, dict[str, str]]) -> MutableMapping[str, str]:
    """The files that a container sees: its own, and those of its volumes below their targets."""
    return _Files(one.files, {target: volumes[name] for target, name in one.state.volumes.items()})


class _Files(MutableMapping[str, str]):
    """Own files with volumes mounted over them."""

    def __init__(self, own: dict[str, str], mounts: dict[str, dict[str, str]]) -> None:
        self._own = own
        self._mounts = mounts

    def _place(self, path: str) -> tuple[dict[str, str], str]:
        for target, files in self._mounts.items():
            if path.startswith(f"{target.rstrip('/')}/"):
                return files, path[len(target.rstrip("/")) :]
        return self._own, path

    def __getitem__(self, path: str) -> str:
        files, inner = self._place(path)
        return files[inner]

    def __setitem__(self, path: str, text: str) -> None:
        files, inner = self._place(path)
        files[inner] = text

    def __delitem__(self, path: str) -> None:
        files, inner = self._place(path)
        del files[inner]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        for target, files in self._mounts.items():
            yield from (f"{target.rstrip('/')}{inner}" for inner in files)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def find_address(
    network: ObservedNetwork, attachment: NetworkAttachment, running: Iterable[Container], container: Container
) -> Endpoint:
    """A place on a network: the address that the file asks for (Conflict if it is taken), or the lowest free one."""
    holders = {
        endpoint.ipv4: one.name for one in running for endpoint in one.endpoints if endpoint.network == network.name
    }
    wanted = attachment.ipv4_address
    if wanted in holders and wanted is not None:
        raise Conflict(
            f"address {wanted} on network {network.name} is taken by {holders[wanted]}",
            resource=container.name,
            operation="start container",
        )
    hosts = (str(host) for host in islice(ip_network(network.subnets[0]).hosts(), 1, None))
    chosen = wanted or next((host for host in hosts if host not in holders), None)
    if chosen is None:
        raise Conflict(
            f"network {network.name} has no free address", resource=network.name, operation="start container"
        )
    return Endpoint(
        network=network.name,
        ipv4=chosen,
        ipv6=attachment.ipv6_address,
        aliases=(container.service, *attachment.aliases),
        interface="eth0",
    )


def find_ports(one: FakeContainer, running: Iterable[Container]) -> tuple[Binding, ...]:
    """The ports to publish: as written (Conflict if taken), else a free one of the range, else any free one."""
    taken = {(binding.protocol, binding.host_port): other.name for other in running for binding in other.bindings}
    found = []
    for port in one.service.ports:
        first, _, last = (port.published or f"{FIRST_RANDOM_PORT}-60999").partition("-")
        choices = range(int(first), int(last or first) + 1)
        chosen = next((number for number in choices if (port.protocol, number) not in taken), None)
        if chosen is None:
            raise Conflict(
                f"port {first}/{port.protocol} is taken by {taken[(port.protocol, int(first))]}",
                resource=one.state.name,
                operation="start container",
            )
        taken[(port.protocol, chosen)] = one.state.name
        address = port.host_ip or "0.0.0.0"
        found.append(Binding(host_ip=address, host_port=chosen, container_port=port.target, protocol=port.protocol))
    return tuple(found)


def follow_logs(
    collect: Callable[[], tuple[list[FakeContainer], bool]],
    rest: Callable[[], None],
    *,
    tail: int | None,
    since: float | None,
    until: float | None,
    ended: Callable[[], bool] | None,
) -> Iterator[LogLine]:
    """Yield the lines of the containers that `collect` finds, until `ended` says so or none of them lives."""
    low = render_time(since) if since is not None else ""
    high = render_time(until) if until is not None else "~"
    told: dict[str, int] = {}
    while True:
        containers, alive = collect()
        fresh: list[LogLine] = []
        for one in containers:
            begin = told.get(one.state.id, max(0, len(one.log) - tail) if tail is not None else 0)
            fresh += one.log[begin:]
            told[one.state.id] = len(one.log)
        yield from (line for line in sorted(fresh, key=lambda line: line.time) if low <= line.time <= high)
        if (ended is not None and ended()) or not (alive or fresh):
            return
        if not fresh:
            rest()


def render_time(moment: float) -> str:
    """RFC 3339 in UTC, with nine digits of a second."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
