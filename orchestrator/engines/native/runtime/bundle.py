"""Pure: a service, its image and the resolved facts of one container -> the OCI runtime's ``config.json``.

Every default is Docker's. Each ``with_x`` adds one aspect to the configuration that it is given and returns nothing.
Follows the OCI Runtime Specification 1.0.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.native.runtime.cdi import Edits
from orchestrator.engines.native.runtime.devices import DeviceNode, parse_device_rule
from orchestrator.engines.native.runtime.resources import fit_oom_score, render_resources, render_rlimits
from orchestrator.engines.native.runtime.users import Identity
from orchestrator.errors import EngineError, Unsupported
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.images.image import ImageConfig
    from orchestrator.engines.native.runtime.facts import HostFacts
    from orchestrator.engines.native.runtime.seccomp import Filter
    from orchestrator.model import Service

_NOTHING: Mapping[str, Any] = MappingProxyType({})

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_SIZE: Final = 64 * 1024 * 1024
INIT_TARGET: Final = "/sbin/docker-init"

_DEFAULT_CAPABILITIES: Final = """
AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID
SYS_CHROOT
"""
DEFAULT_CAPABILITIES: Final = frozenset(f"CAP_{name}" for name in _DEFAULT_CAPABILITIES.split())

_MASKED_PATHS: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_NAMESPACE_TYPES: Final = ("mount", "network", "pid", "ipc", "uts", "cgroup")

_DEFAULT_DEVICE_RULES: Final = (
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *(
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        # null, zero, full, random, urandom, tty, console, ptmx
        for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2))
    ),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
)


class BundleSpec(Record):
    """Everything that a configuration is made from.

    `namespaces` maps ``network``, ``pid``, ``ipc``, ``uts``, ``cgroup`` to the path of a namespace to join or to ``""``
    for a new one; one that is left out is the host's. `mounts` are the rendered mounts of :mod:`.volumes`, in any
    order. `shm_path` is a host folder for ``/dev/shm``, where IPC is shared with another container. `init_path` is the
    init program on this host, when the container gets one.
    """

    service: Service
    image: ImageConfig
    container_id: str
    rootfs: str
    hostname: str
    facts: HostFacts
    cgroups_path: str
    identity: Identity = Identity()
    namespaces: Mapping[str, str] = _NOTHING
    mounts: tuple[Mapping[str, Any], ...] = ()
    seccomp: Filter | None = None
    devices: tuple[DeviceNode, ...] = ()
    host_devices: tuple[DeviceNode, ...] = ()
    edits: Edits = Edits()
    block_devices: Mapping[str, tuple[int, int]] = _NOTHING
    init_path: str | None = None
    shm_path: str | None = None


def render_bundle(spec: BundleSpec) -> dict[str, Any]:
    """The whole ``config.json`` as plain data.

    Raises Unsupported or EngineError only for what :func:`orchestrator.engines.native.checks.check_service` reports at
    its line before anything starts.
    """
    config: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "root": {"path": spec.rootfs, "readonly": spec.service.read_only},
        "process": {"terminal": spec.service.tty, "cwd": resolve_working_dir(spec.service, spec.image)},
        "linux": {"cgroupsPath": spec.cgroups_path},
    }
    with_command(spec, config)
    with_environment(spec, config)
    with_user(spec, config)
    with_capabilities(spec, config)
    with_security(spec, config)
    with_namespaces(spec, config)
    with_mounts(spec, config)
    with_devices(spec, config)
    with_limits(spec, config)
    with_sysctls(spec, config)
    with_annotations(spec, config)
    with_edits(spec, config)
    return config


def with_command(spec: BundleSpec, config: dict[str, Any]) -> None:
    """``process.args``; behind the init program if there is one."""
    arguments = list(resolve_command(spec.service, spec.image))
    if not arguments:
        raise EngineError(
            f"No command specified: service {spec.service.name!r} has none, and its image sets none",
            resource=spec.service.name,
            operation="create container",
            hint=f"set services.{spec.service.name}.command",
        )
    if spec.init_path is not None:
        init = [INIT_TARGET]
        # Not process 1 of its namespace, tini has to ask for the orphans.
        if spec.namespaces.get("pid") != "" and "catatonit" not in spec.init_path:
            init.append("-s")
        arguments = [*init, "--", *arguments]
    config["process"]["args"] = arguments


def resolve_command(service: Service, image: ImageConfig) -> tuple[str, ...]:
    """Entrypoint and command together, by Docker's rules: an entrypoint of the service drops the image's command; what
    is empty does not."""
    command = service.command or (() if service.entrypoint else image.cmd or ())
    entrypoint = service.entrypoint if service.entrypoint is not None else image.entrypoint or ()
    return (*entrypoint, *command)


def resolve_working_dir(service: Service, image: ImageConfig) -> str:
    """The process's directory, absolute."""
    path = service.working_dir or image.working_dir or "/"
    return path if path.startswith("/") else f"/{path}"


def with_environment(spec: BundleSpec, config: dict[str, Any]) -> None:
    """``process.env``."""
    merged = resolve_environment(spec.service, spec.image, spec.hostname, spec.identity)
    config["process"]["env"] = [f"{name}={value}" for name, value in merged.items()]


def resolve_environment(service: Service, image: ImageConfig, hostname: str, identity: Identity) -> dict[str, str]:
    """The container's variables: PATH, HOSTNAME and TERM, under the image's, under the service's; HOME where unset.

    A service's variable without a value takes the image's away.
    """
    merged = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if service.tty:
        merged["TERM"] = "xterm"
    for pair in image.env:
        name, _, value = pair.partition("=")
        merged[name] = value
    for name, given in service.environment.items():
        if given is None:
            merged.pop(name, None)
        else:
            merged[name] = str(given)
    merged.setdefault("HOME", identity.home)
    return merged


def with_user(spec: BundleSpec, config: dict[str, Any]) -> None:
    """``process.user``."""
    identity = spec.identity
    user: dict[str, Any] = {"uid": identity.uid, "gid": identity.gid}
    if identity.groups:
        user["additionalGids"] = list(identity.groups)
    config["process"]["user"] = user


def with_capabilities(spec: BundleSpec, config: dict[str, Any]) -> None:
    """``process.capabilities``; a user who is not root gets the bounding set only, as execve would leave it."""
    held = sorted(resolve_capabilities(spec.service, spec.facts.capabilities))
    config["process"]["capabilities"] = render_capabilities(held, spec.identity.uid)


def render_capabilities(held: Iterable[str], uid: int) -> dict[str, list[str]]:
    """The five sets of a process with the capabilities `held`."""
    names = list(held)
    active = names if uid == 0 else []
    return {"bounding": names, "effective": active, "permitted": active, "inheritable": [], "ambient": []}


def resolve_capabilities(service: Service, available: frozenset[str]) -> frozenset[str]:
    """Docker's default set with ``cap_add`` and ``cap_drop`` applied, within what this process itself may give."""
    if service.privileged:
        return available
    added = {normalize_capability(one) for one in service.cap_add}
    dropped = {normalize_capability(one) for one in service.cap_drop}
    if "CAP_ALL" in added:
        held = available - dropped if "CAP_ALL" not in dropped else frozenset(added)
    elif "CAP_ALL" in dropped:
        held = frozenset(added)
    else:
        held = (DEFAULT_CAPABILITIES | added) - dropped
    return held & available


def normalize_capability(name: str) -> str:
    """``net_admin`` -> ``CAP_NET_ADMIN``."""
    upper = name.upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"


class SecurityOptions(Record):
    """What ``security_opt`` says. `seccomp` is "" for the default, "unconfined", or the path of a profile.

    `apparmor` is the name of a profile, "" for none.
    """

    no_new_privileges: bool = False
    seccomp: str = ""
    apparmor: str = ""
    confined_paths: bool = True
    unknown: tuple[tuple[int, str], ...] = ()
    """Entries that cannot be honoured, with their index."""


def parse_security_options(service: Service) -> SecurityOptions:
    """Read ``security_opt``; both ``name=value`` and the older ``name:value``."""
    no_new_privileges, seccomp, apparmor, confined, unknown = False, "", "", True, []
    for index, option in enumerate(service.security_opt):
        name, separator, value = option.partition("=")
        if not separator:
            name, separator, value = option.partition(":")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            no_new_privileges = value != "false"
        elif name == "seccomp" and value:
            seccomp = "" if value == "builtin" else value
        elif name == "apparmor" and value:
            apparmor = "" if value == "unconfined" else value
        elif name == "systempaths" and value == "unconfined":
            confined = False
        elif (name, value) != ("label", "disable"):
            unknown.append((index, option))
    return SecurityOptions(
        no_new_privileges=no_new_privileges,
        seccomp=seccomp,
        apparmor=apparmor,
        confined_paths=confined,
        unknown=tuple(unknown),
    )


def with_security(spec: BundleSpec, config: dict[str, Any]) -> None:
    """No-new-privileges, the system call filter, masked and read-only paths."""
    options = parse_security_options(spec.service)
    if options.unknown:
        raise Unsupported(
            f"services.{spec.service.name}.security_opt: {options.unknown[0][1]} cannot be honoured",
            resource=spec.service.name,
            operation="create container",
        )
    linux = config["linux"]
    config["process"]["noNewPrivileges"] = options.no_new_privileges
    if options.apparmor:
        config["process"]["apparmorProfile"] = options.apparmor
    if spec.seccomp is not None:
        linux["seccomp"] = dict(spec.seccomp.profile)
        if spec.seccomp.bpf is not None:
            config.setdefault("annotations", {})["run.oci.seccomp_bpf_data"] = spec.seccomp.bpf
    if options.confined_paths and not spec.service.privileged:
        linux["maskedPaths"] = list(_MASKED_PATHS)
        linux["readonlyPaths"] = list(_READ_ONLY_PATHS)


def with_namespaces(spec: BundleSpec, config: dict[str, Any]) -> None:
    """``linux.namespaces``, and the names that belong to a namespace of its own."""
    wanted = {"mount": "", **spec.namespaces}
    config["linux"]["namespaces"] = [
        {"type": kind, "path": wanted[kind]} if wanted[kind] else {"type": kind}
        for kind in _NAMESPACE_TYPES
        if kind in wanted
    ]
    if wanted.get("uts") == "":
        config["hostname"] = spec.hostname
        if spec.service.domainname:
            # The runtimes of Debian 12 do not know the field "domainname" yet; the kernel has it as a sysctl.
            config["linux"].setdefault("sysctl", {})["kernel.domainname"] = spec.service.domainname


def plan_namespaces(service: Service, netns: str | None, peers: Mapping[str, int], *, unified: bool) -> dict[str, str]:
    """What :attr:`BundleSpec.namespaces` is for `service`.

    `netns` is the path of the network namespace, None for the host's; `peers` gives the pid behind every
    ``service:x`` and ``container:x`` of ``pid``, ``ipc`` and ``uts``; `unified` says that the host has control groups
    v2 (where Docker gives each container its own view). KeyError: a peer that does not run.
    """
    found: dict[str, str] = {}
    if netns is not None:
        found["network"] = netns
    for kind, mode in (("pid", service.pid), ("ipc", service.ipc), ("uts", service.uts)):
        if mode and mode.startswith(("service:", "container:")):
            found[kind] = f"/proc/{peers[mode]}/ns/{kind}"
        elif mode != "host":
            found[kind] = ""
    if service.cgroup == "private" or (unified and service.cgroup is None and not service.privileged):
        found["cgroup"] = ""
    return found


def with_mounts(spec: BundleSpec, config: dict[str, Any]) -> None:
    """Docker's own mounts, then the service's in the order of their depth; the service's wins on the same target."""
    given = sorted(spec.mounts, key=lambda one: one["destination"].count("/") if one["destination"] != "/" else 0)
    taken = {one["destination"] for one in given}
    mounts = [one for one in _render_default_mounts(spec) if one["destination"] not in taken]
    mounts += [dict(one) for one in given]
    if spec.init_path is not None:
        mounts.append(
            {
                "destination": INIT_TARGET,
                "type": "bind",
                "source": spec.init_path,
                "options": ["bind", "ro", "nosuid", "nodev"],
            }
        )
    config["mounts"] = mounts


def _render_default_mounts(spec: BundleSpec) -> list[dict[str, Any]]:
    access = "rw" if spec.service.privileged else "ro"
    ipc = spec.namespaces.get("ipc")

    def entry(destination: str, kind: str, *options: str, source: str = "") -> dict[str, Any]:
        return {"destination": destination, "type": kind, "source": source or kind, "options": list(options)}

    quiet = ("nosuid", "noexec", "nodev")
    shm: dict[str, Any]
    if ipc is None:
        shm = entry("/dev/shm", "bind", "rbind", "rw", source="/dev/shm")
    elif spec.shm_path is not None:
        shm = entry("/dev/shm", "bind", "rbind", "rw", *quiet, source=spec.shm_path)
    else:
        size = spec.service.shm_size or DEFAULT_SHM_SIZE
        shm = entry("/dev/shm", "tmpfs", *quiet, "mode=1777", f"size={size}", source="shm")
    if ipc is None and spec.facts.rootless:
        # Only the owner of an IPC namespace may mount its queues; whoever owns the host's has done so already.
        queue = entry("/dev/mqueue", "bind", "rbind", *quiet, source="/dev/mqueue")
    else:
        queue = entry("/dev/mqueue", "mqueue", *quiet)
    if spec.facts.rootless or "network" not in spec.namespaces:
        # A fresh sysfs shows the network namespace and belongs to whoever owns that; the host's can only be bound.
        system = entry("/sys", "bind", "rbind", *quiet, access, source="/sys") if spec.facts.rootless else None
    else:
        system = None
    mounts = [
        entry("/proc", "proc", *quiet),
        entry("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        entry("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        system or entry("/sys", "sysfs", *quiet, access),
        queue,
        shm,
    ]
    if system is None and spec.facts.cgroups.mode != "none":
        mounts.insert(4, entry("/sys/fs/cgroup", "cgroup", *quiet, access))
    return mounts


def with_devices(spec: BundleSpec, config: dict[str, Any]) -> None:
    """``linux.devices`` and the device rules."""
    linux = config["linux"]
    nodes = [*spec.devices, *spec.edits.nodes]
    if spec.service.privileged:
        rules: list[Mapping[str, Any]] = [{"allow": True, "access": "rwm"}]
        named = {one.path for one in nodes}
        nodes = [*(one for one in spec.host_devices if one.path not in named), *nodes]
    else:
        rules = [*_DEFAULT_DEVICE_RULES, *(one.render_rule() for one in nodes)]
        rules += [parse_device_rule(one) for one in spec.service.device_cgroup_rules]
    if nodes:
        linux["devices"] = [one.render_node() for one in nodes]
    if not spec.facts.rootless:
        linux.setdefault("resources", {})["devices"] = [dict(one) for one in rules]


def with_limits(spec: BundleSpec, config: dict[str, Any]) -> None:
    """Control group limits, rlimits and the OOM score."""
    resources, _warnings = render_resources(spec.service, spec.facts, spec.block_devices)
    config["linux"].setdefault("resources", {}).update(resources)
    config["process"]["rlimits"], _warnings = render_rlimits(spec.service, spec.facts)
    score, _warnings = fit_oom_score(spec.service, spec.facts)
    if score is not None:
        config["process"]["oomScoreAdj"] = score


def with_sysctls(spec: BundleSpec, config: dict[str, Any]) -> None:
    """``linux.sysctl``; a network of its own lets every user bind low ports and ping, as under Docker."""
    sysctls = config["linux"].setdefault("sysctl", {})
    if "network" in spec.namespaces and not (spec.service.network_mode or "").startswith(("service:", "container:")):
        sysctls["net.ipv4.ip_unprivileged_port_start"] = "0"
        if not spec.facts.rootless:
            sysctls["net.ipv4.ping_group_range"] = "0 2147483647"
    sysctls.update({name: str(value) for name, value in spec.service.sysctls.items()})
    if not sysctls:
        del config["linux"]["sysctl"]


def with_edits(spec: BundleSpec, config: dict[str, Any]) -> None:
    """What devices by name bring along besides their nodes: variables, mounts, hooks, groups."""
    edits = spec.edits
    named = {one.partition("=")[0] for one in edits.environment}
    process = config["process"]
    process["env"] = [*(one for one in process["env"] if one.partition("=")[0] not in named), *edits.environment]
    if edits.groups:
        held = process["user"].get("additionalGids", ())
        process["user"]["additionalGids"] = list(dict.fromkeys((*held, *edits.groups)))
    config["mounts"] += [dict(one) for one in edits.mounts]
    for name, hook in edits.hooks:
        config.setdefault("hooks", {}).setdefault(name, []).append(dict(hook))
    if edits.intel_rdt is not None:
        config["linux"]["intelRdt"] = dict(edits.intel_rdt)


def with_annotations(spec: BundleSpec, config: dict[str, Any]) -> None:
    """The service's annotations."""
    if spec.service.annotations:
        config.setdefault("annotations", {}).update(spec.service.annotations)
