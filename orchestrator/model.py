"""Desired state: what a stack file says, bound to frozen types.

Field names follow the Compose Specification. Sizes are bytes, durations are seconds (float), memory limits are bytes,
``cpus`` is a number of processors. ``None`` means "not set"; an empty tuple means "set to nothing" only where the
specification tells the two apart (``command``, ``entrypoint``).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from orchestrator.record import Record
from orchestrator.source import SourceMap

_NOTHING: Mapping[str, Any] = MappingProxyType({})

Condition = Literal["service_started", "service_healthy", "service_completed_successfully"]


class Dependency(Record):
    """One entry of ``depends_on``: what has to be true of `service` before the dependent starts."""

    service: str
    condition: Condition = "service_started"
    required: bool = True
    restart: bool = False


class Port(Record):
    """A published port. `published` is a decimal port, a range ``"8000-8010"``, or None for a port the engine picks."""

    target: int
    published: str | None = None
    host_ip: str | None = None
    protocol: str = "tcp"
    mode: str = "ingress"
    name: str | None = None
    app_protocol: str | None = None


class VolumeMount(Record):
    """One entry of ``services.*.volumes``.

    `type` is volume, bind, tmpfs, image, cluster or npipe. `source` is a volume's key in the file (None: anonymous), an
    absolute host path, or an image reference. `options` holds what stands under ``bind``, ``volume``, ``tmpfs`` or
    ``image`` (create_host_path, propagation, selinux, recursive, nocopy, subpath, labels, size, mode).
    """

    type: str
    target: str
    source: str | None = None
    read_only: bool = False
    consistency: str | None = None
    options: Mapping[str, Any] = _NOTHING


class NetworkAttachment(Record):
    """One entry of ``services.*.networks``; `network` is the key of the network in the file."""

    network: str
    aliases: tuple[str, ...] = ()
    ipv4_address: str | None = None
    ipv6_address: str | None = None
    link_local_ips: tuple[str, ...] = ()
    mac_address: str | None = None
    interface_name: str | None = None
    priority: int = 0
    gw_priority: int = 0
    driver_opts: Mapping[str, str] = _NOTHING


class FileMount(Record):
    """A secret or config in a container: `source` is its key in the file, `target` an absolute path or a bare name."""

    source: str
    target: str | None = None
    uid: str | None = None
    gid: str | None = None
    mode: int | None = None


class Probe(Record):
    """A health check. `test` is ``("NONE",)``, ``("CMD", ...)`` or ``("CMD-SHELL", text)``; None takes the image's.

    Unset timings take the specification's defaults in :mod:`orchestrator.health`.
    """

    test: tuple[str, ...] | None = None
    interval: float | None = None
    timeout: float | None = None
    retries: int | None = None
    start_period: float | None = None
    start_interval: float | None = None
    disable: bool = False


class Ulimit(Record):
    """Soft and hard limit; -1 is unlimited."""

    soft: int
    hard: int


class Logging(Record):
    """``logging``: driver name and options (``max-size``, ``max-file``, ``tag`` ...)."""

    driver: str | None = None
    options: Mapping[str, str] = _NOTHING


class RestartPolicy(Record):
    """``restart`` and ``deploy.restart_policy`` as one: `condition` no, always, on-failure or unless-stopped.

    `max_attempts` None is without end; `delay` and `window` are seconds.
    """

    condition: Literal["no", "always", "on-failure", "unless-stopped"] = "no"
    max_attempts: int | None = None
    delay: float | None = None
    window: float | None = None


class Resources(Record):
    """Limits and reservations, from ``deploy.resources`` and from the service's own attributes."""

    cpus: float | None = None
    memory: int | None = None
    pids: int | None = None
    memory_reservation: int | None = None
    cpus_reservation: float | None = None
    memswap_limit: int | None = None
    mem_swappiness: int | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_rt_period: int | None = None
    cpu_rt_runtime: int | None = None
    cpuset: str | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int | None = None
    blkio: Mapping[str, Any] = _NOTHING


class Device(Record):
    """A host device in a container; `permissions` is a subset of ``rwm``."""

    source: str
    target: str
    permissions: str = "rwm"


class Hook(Record):
    """A lifecycle hook: a command that runs in (post_start, pre_stop) the container."""

    command: tuple[str, ...]
    user: str | None = None
    privileged: bool = False
    working_dir: str | None = None
    environment: Mapping[str, str | None] = _NOTHING


class Build(Record):
    """``build``: how an image is made. `config` is the canonical subtree, for attributes without a field here."""

    context: str | None = None
    dockerfile: str | None = None
    dockerfile_inline: str | None = None
    target: str | None = None
    args: Mapping[str, str | None] = _NOTHING
    tags: tuple[str, ...] = ()
    config: Mapping[str, Any] = _NOTHING


class Service(Record):
    """One service, all defaults applied, short syntaxes expanded, paths absolute.

    `config` is the service's canonical subtree, exactly as ``stack config`` prints it: what the configuration digest,
    field-level differences and attributes without a field of their own are read from. `restart_unhealthy` is
    ``x-stack.restart_unhealthy``: the restart policy also answers a container that became unhealthy.
    """

    name: str
    config: Mapping[str, Any] = _NOTHING
    image: str | None = None
    build: Build | None = None
    pull_policy: str | None = None
    platform: str | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str | None] = _NOTHING
    working_dir: str | None = None
    user: str | None = None
    group_add: tuple[str, ...] = ()
    hostname: str | None = None
    domainname: str | None = None
    container_name: str | None = None
    labels: Mapping[str, str] = _NOTHING
    annotations: Mapping[str, str] = _NOTHING
    depends_on: Mapping[str, Dependency] = _NOTHING
    profiles: tuple[str, ...] = ()
    scale: int = 1
    ports: tuple[Port, ...] = ()
    expose: tuple[str, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    volumes_from: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    secrets: tuple[FileMount, ...] = ()
    configs: tuple[FileMount, ...] = ()
    networks: Mapping[str, NetworkAttachment] = _NOTHING
    network_mode: str | None = None
    links: tuple[str, ...] = ()
    external_links: tuple[str, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    mac_address: str | None = None
    healthcheck: Probe | None = None
    restart: RestartPolicy = RestartPolicy()
    restart_unhealthy: bool = False
    stop_signal: str | None = None
    stop_grace_period: float = 10.0
    init: bool | None = None
    tty: bool = False
    stdin_open: bool = False
    attach: bool = True
    privileged: bool = False
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = _NOTHING
    ulimits: Mapping[str, Ulimit] = _NOTHING
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    resources: Resources = Resources()
    shm_size: int | None = None
    pid: str | None = None
    ipc: str | None = None
    uts: str | None = None
    userns_mode: str | None = None
    cgroup: str | None = None
    cgroup_parent: str | None = None
    runtime: str | None = None
    logging: Logging = Logging()
    post_start: tuple[Hook, ...] = ()
    pre_stop: tuple[Hook, ...] = ()


class IpamPool(Record):
    """One entry of ``ipam.config``, in CIDR and address notation."""

    subnet: str | None = None
    gateway: str | None = None
    ip_range: str | None = None
    aux_addresses: Mapping[str, str] = _NOTHING


class Network(Record):
    """A network: `key` in the file, `name` on the engine (``project_key`` unless set or external)."""

    key: str
    name: str
    driver: str | None = None
    driver_opts: Mapping[str, str] = _NOTHING
    external: bool = False
    internal: bool = False
    attachable: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    ipam_driver: str | None = None
    ipam: tuple[IpamPool, ...] = ()
    labels: Mapping[str, str] = _NOTHING
    config: Mapping[str, Any] = _NOTHING


class Volume(Record):
    """A named volume: `key` in the file, `name` on the engine."""

    key: str
    name: str
    driver: str | None = None
    driver_opts: Mapping[str, str] = _NOTHING
    external: bool = False
    labels: Mapping[str, str] = _NOTHING
    config: Mapping[str, Any] = _NOTHING


class FileSource(Record):
    """A secret or config of the stack: exactly one of `file` (absolute path), `environment`, `content`, or external.

    `value` is what the loader read for `environment` (secrets never show it in ``stack config``).
    """

    key: str
    name: str
    file: str | None = None
    environment: str | None = None
    content: str | None = None
    external: bool = False
    value: str | None = None
    config: Mapping[str, Any] = _NOTHING


class Stack(Record):
    """The whole desired state of one project.

    `services` holds the active ones (profiles applied), by name; `disabled` the names that a profile keeps off, and
    `dormant` those of them whose images active ones are built from (``additional_contexts``): their builds alone.
    `directory` is the project directory (absolute), `files` the stack files that were read. `tree` is the canonical
    model as plain data, from which ``spec.bind`` can make this object again.
    """

    name: str
    services: Mapping[str, Service] = _NOTHING
    networks: Mapping[str, Network] = _NOTHING
    volumes: Mapping[str, Volume] = _NOTHING
    secrets: Mapping[str, FileSource] = _NOTHING
    configs: Mapping[str, FileSource] = _NOTHING
    disabled: tuple[str, ...] = ()
    dormant: Mapping[str, Service] = _NOTHING
    directory: str = ""
    files: tuple[str, ...] = ()
    tree: Mapping[str, Any] = _NOTHING
    sources: SourceMap = SourceMap()
    separator: str = "-"
    """What stands between the parts of container and image names; ``_`` with ``--compatibility``."""
    environment: Mapping[str, str] = _NOTHING
    """The project's variables, for the programs that stand for services (``provider``); empty without any."""


def list_buildable(stack: Stack) -> Mapping[str, Service]:
    """The services whose builds something can be built from: the active ones, and the dormant ones."""
    return {**stack.services, **stack.dormant} if stack.dormant else stack.services


def image_reference(stack: Stack, service: Service) -> str:
    """The image a service runs: its own, or the name that its build is stored under."""
    return service.image or f"{stack.name}{stack.separator}{service.name}"
