"""Observed state: what runs. Frozen; times are seconds since the epoch, sizes bytes."""

from __future__ import annotations

from types import MappingProxyType

from orchestrator.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Literal

    from orchestrator.model import Probe

    ContainerStatus = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]
    """The states of the Docker Engine API, which ``ps`` prints and scripts know."""

    HealthStatus = Literal["starting", "healthy", "unhealthy"]
else:
    # Importing typing takes as long as reading all containers of a project.
    ContainerStatus = HealthStatus = str

_NOTHING: Mapping[str, Any] = MappingProxyType({})

STATUSES: tuple[ContainerStatus, ...] = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


class Endpoint(Record):
    """A container's place on one network (`network` is the engine's name of it)."""

    network: str
    ipv4: str | None = None
    ipv6: str | None = None
    mac: str | None = None
    aliases: tuple[str, ...] = ()
    interface: str = ""


class Binding(Record):
    """A published port as it really is; `host_port` is 0 while the container does not run and the engine picks it."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str = "tcp"


class Container(Record):
    """One container of a project.

    `config` is the canonical service subtree that it was made from, `config_hash` its digest (see
    :mod:`orchestrator.digest`); `image_id` the digest of the image it holds. `hold` says that a user stopped it, so
    that no restart policy brings it back; `auto_remove` that it is to go when it has ended.
    """

    id: str
    name: str
    project: str
    service: str
    number: int
    image: str
    image_id: str
    status: ContainerStatus
    config: Mapping[str, Any] = _NOTHING
    config_hash: str = ""
    oneoff: bool = False
    hold: bool = False
    auto_remove: bool = False
    pid: int = 0
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    restart_count: int = 0
    hooks_due: int = 0
    """How many of its ``post_start`` hooks, the last ones, were still to be run when that was last written down."""
    restart_at: float = 0.0
    """When its restart policy is to start a container that has ended; 0 when it is not."""
    health: HealthStatus | None = None
    command: tuple[str, ...] = ()
    labels: Mapping[str, str] = _NOTHING
    endpoints: tuple[Endpoint, ...] = ()
    bindings: tuple[Binding, ...] = ()
    mounted_images: Mapping[str, str] = _NOTHING
    """The identifiers that the images it mounts had when it was made, by reference."""
    volumes: Mapping[str, str] = _NOTHING
    """Volume name by mount target; an anonymous volume's name is 64 hex digits."""
    stale_volumes: tuple[str, ...] = ()
    """Names of volumes that were deleted under it while it runs: what it has mounted is not what is there."""
    abandoned: bool = False
    """It was made by a process that has ended, and was never started."""

    @property
    def alive(self) -> bool:
        """True while the container has processes."""
        return self.status in ("running", "paused", "restarting")

    @property
    def replica(self) -> tuple[str, int]:
        """The service and the number that it is a replica of."""
        return (self.service, self.number)


class ImageFacts(Record):
    """What reconciliation and translation need to know of an image that is present.

    `pulled_at` is when the reference was last fetched, or found unchanged, at its registry, `built_at` when it was last
    built, or found to be up to date, `tagged_at` when it came to mean this image, by whatever way (epoch seconds; 0:
    never, or unknown). `healthcheck` is the image's own, None without one.
    """

    id: str
    reference: str
    has_healthcheck: bool = False
    volumes: tuple[str, ...] = ()
    created: str = ""
    size: int = 0
    pulled_at: float = 0.0
    built_at: float = 0.0
    tagged_at: float = 0.0
    healthcheck: Probe | None = None


class ObservedNetwork(Record):
    """A network on the engine. `project` is empty for one that no project owns; `config` is what it was made from."""

    name: str
    key: str = ""
    project: str = ""
    driver: str = "bridge"
    config: Mapping[str, Any] = _NOTHING
    subnets: tuple[str, ...] = ()
    internal: bool = False


class ObservedVolume(Record):
    """A volume on the engine. `key` is empty for an anonymous one; `mountpoint` is where this machine has it.

    `lost` says that it is not there any more, although nobody asked for its removal.
    """

    name: str
    key: str = ""
    project: str = ""
    driver: str = "local"
    config: Mapping[str, Any] = _NOTHING
    mountpoint: str = ""
    lost: bool = False


class ObservedState(Record):
    """Everything of one project, and what the project refers to from outside it.

    `images` maps every image reference that was asked for to its facts, or to None where it is not present. `networks`
    and `volumes` are by engine name and include external ones that exist.
    """

    project: str
    containers: tuple[Container, ...] = ()
    networks: Mapping[str, ObservedNetwork] = _NOTHING
    volumes: Mapping[str, ObservedVolume] = _NOTHING
    images: Mapping[str, ImageFacts | None] = _NOTHING
    provided: Mapping[str, Mapping[str, float]] = _NOTHING
    """When (epoch seconds) the provider of which service last did what: by action (up, stop, down) and service."""

    def of_service(self, service: str) -> tuple[Container, ...]:
        """The service's replicas in order of their number; one-off containers are left out."""
        found = [one for one in self.containers if one.service == service and not one.oneoff]
        return tuple(sorted(found, key=lambda one: (one.number, one.created_at, one.id)))
