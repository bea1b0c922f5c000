"""Limits of a service as the runtime wants them, bent to what this host can enforce; each bend is a warning. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.native.runtime.facts import RLIMITS
from orchestrator.errors import Diagnostic
from orchestrator.source import Path, SourceMap, render_path

if TYPE_CHECKING:
    from orchestrator.engines.native.runtime.facts import HostFacts
    from orchestrator.model import Service

_DEFAULT_CPU_PERIOD: Final = 100_000
_DEFAULT_NOFILE: Final = 1_048_576
_MINIMUM_MEMORY: Final = 6 * 1024 * 1024

_ATTRIBUTES: Final[Mapping[str, tuple[str, ...]]] = {
    # Where a value may have been written, in the order of looking.
    "memory": ("mem_limit", "deploy.resources.limits.memory"),
    "memory_reservation": ("mem_reservation", "deploy.resources.reservations.memory"),
    "swap": ("memswap_limit",),
    "swappiness": ("mem_swappiness",),
    "cpus": ("cpus", "deploy.resources.limits.cpus"),
    "cpu": ("cpu_quota", "cpu_shares", "cpu_period", "cpus", "deploy.resources.limits.cpus"),
    "shares": ("cpu_shares", "deploy.resources.reservations.cpus"),
    "realtime": ("cpu_rt_runtime", "cpu_rt_period"),
    "cpuset": ("cpuset",),
    "pids": ("pids_limit", "deploy.resources.limits.pids"),
    "blkio": ("blkio_config",),
    "oom_kill_disable": ("oom_kill_disable",),
}


def locate_attribute(service: Service, *names: str) -> Path:
    """The path of the first of `names` (dotted, below the service) that the service's configuration holds."""
    for name in names:
        node: Any = service.config
        for part in name.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is not None:
            return ("services", service.name, *name.split("."))
    return ("services", service.name, *names[0].split("."))


class _Notes:
    def __init__(self, service: Service, sources: SourceMap | None) -> None:
        self.service, self.sources, self.found = service, sources, list[Diagnostic]()

    def warn(self, code: str, message: str, path: Path, hint: str = "") -> None:
        location = self.sources.locate(path) if self.sources is not None else None
        self.found.append(Diagnostic(code, message, location, render_path(path), hint, "warning"))

    def lack(self, key: str, what: str, hint: str) -> None:
        path = locate_attribute(self.service, *_ATTRIBUTES[key])
        self.warn("limit-not-enforced", f"this host cannot limit {what}; the limit is not applied", path, hint)


def render_resources(
    service: Service,
    facts: HostFacts,
    block_devices: Mapping[str, tuple[int, int]] | None = None,
    sources: SourceMap | None = None,
) -> tuple[dict[str, Any], list[Diagnostic]]:
    """``linux.resources`` without its devices, and a warning for every limit that this host cannot enforce."""
    notes = _Notes(service, sources)
    have = facts.cgroups.controllers
    resources: dict[str, Any] = {}
    parts = (
        ("memory", "memory", _render_memory(service, facts, notes)),
        ("cpu", "cpu", _render_cpu(service, facts, notes)),
        ("pids", "pids", {"limit": service.resources.pids} if service.resources.pids is not None else {}),
        ("blockIO", "io", _render_block_io(service, block_devices or {})),
    )
    for key, controller, part in parts:
        if part and controller not in have:
            notes.lack({"blockIO": "blkio"}.get(key, key), key, f"the {controller} control group controller is missing")
        elif part:
            resources[key] = part
    return resources, notes.found


def _render_memory(service: Service, facts: HostFacts, notes: _Notes) -> dict[str, Any]:
    wanted = service.resources
    memory: dict[str, Any] = {}
    if wanted.memory:
        memory["limit"] = max(wanted.memory, _MINIMUM_MEMORY)
        if wanted.memory < _MINIMUM_MEMORY:
            path = locate_attribute(service, *_ATTRIBUTES["memory"])
            notes.warn("limit-raised", f"{wanted.memory} bytes are too few; {_MINIMUM_MEMORY} are used", path)
    if wanted.memory_reservation:
        memory["reservation"] = wanted.memory_reservation
    # Docker's default: as much swap again as memory. -1 is unlimited swap.
    swap = wanted.memswap_limit or (2 * memory["limit"] if "limit" in memory else None)
    if swap is not None:
        if facts.cgroups.swap:
            memory["swap"] = swap
        elif wanted.memswap_limit:
            notes.lack("swap", "swap", "boot with swapaccount=1 to let the kernel count swap")
    if wanted.mem_swappiness is not None:
        if facts.cgroups.mode == "v2":
            notes.lack("swappiness", "swappiness for one container", "control groups v2 have no such setting")
        else:
            memory["swappiness"] = wanted.mem_swappiness
    if wanted.oom_kill_disable:
        if facts.cgroups.mode == "v2":
            notes.lack("oom_kill_disable", "the OOM killer for one container", "control groups v2 have no such setting")
        else:
            memory["disableOOMKiller"] = True
    return memory


def _render_cpu(service: Service, facts: HostFacts, notes: _Notes) -> dict[str, Any]:
    wanted = service.resources
    cpu: dict[str, Any] = {}
    if wanted.cpus:
        cpu["period"], cpu["quota"] = _DEFAULT_CPU_PERIOD, max(1000, round(wanted.cpus * _DEFAULT_CPU_PERIOD))
        if wanted.cpus > facts.processors:
            path = locate_attribute(service, *_ATTRIBUTES["cpus"])
            notes.warn("limit-above-host", f"{wanted.cpus:g} cpus are more than this host's {facts.processors}", path)
    if wanted.cpu_period:
        cpu["period"] = wanted.cpu_period
    if wanted.cpu_quota:
        cpu["quota"] = wanted.cpu_quota
    if wanted.cpu_shares:
        cpu["shares"] = wanted.cpu_shares
    elif wanted.cpus_reservation:
        # A reservation is a share under contention: 1024 is one processor's worth.
        cpu["shares"] = max(2, round(wanted.cpus_reservation * 1024))
    if wanted.cpu_rt_runtime or wanted.cpu_rt_period:
        if facts.cgroups.mode == "v2":
            notes.lack("realtime", "real-time CPU time", "control groups v2 have no such setting")
        else:
            cpu.update(
                {
                    key: value
                    for key, value in (
                        ("realtimeRuntime", wanted.cpu_rt_runtime),
                        ("realtimePeriod", wanted.cpu_rt_period),
                    )
                    if value
                }
            )
    if wanted.cpuset:
        if "cpuset" in facts.cgroups.controllers:
            cpu["cpus"] = wanted.cpuset
        else:
            notes.lack("cpuset", "the set of processors", "the cpuset control group controller is missing")
    return cpu


_BLKIO: Final = (
    ("device_read_bps", "throttleReadBpsDevice"),
    ("device_write_bps", "throttleWriteBpsDevice"),
    ("device_read_iops", "throttleReadIOPSDevice"),
    ("device_write_iops", "throttleWriteIOPSDevice"),
)


def _render_block_io(service: Service, numbers: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    wanted = service.resources.blkio
    block: dict[str, Any] = {}
    if wanted.get("weight"):
        block["weight"] = int(wanted["weight"])

    def entries(key: str, name: str) -> list[dict[str, int]]:
        found = []
        for entry in wanted.get(key) or ():
            major, minor = numbers[entry["path"]]
            found.append({"major": major, "minor": minor, name: int(entry[name])})
        return found

    if wanted.get("weight_device"):
        block["weightDevice"] = entries("weight_device", "weight")
    for key, name in _BLKIO:
        if wanted.get(key):
            block[name] = entries(key, "rate")
    return block


def render_rlimits(
    service: Service, facts: HostFacts, sources: SourceMap | None = None
) -> tuple[list[dict[str, Any]], list[Diagnostic]]:
    """``process.rlimits``; what is above a hard limit that this process cannot raise is lowered, with a warning.

    Without an ``ulimits.nofile`` a container gets as many files as allowed, up to 1,048,576, as under Docker.
    """
    notes = _Notes(service, sources)
    limits: dict[str, tuple[int, int]] = {}
    ceiling = facts.hard_limits.get("nofile", -1)
    usual = _DEFAULT_NOFILE if ceiling == -1 or facts.can_raise_limits else min(_DEFAULT_NOFILE, ceiling)
    limits["nofile"] = (usual, usual)
    for name, limit in service.ulimits.items():
        if name not in RLIMITS:
            continue  # check_service refuses it at its line
        soft, hard = limit.soft, limit.hard
        ceiling = facts.hard_limits.get(name, -1)
        if not facts.can_raise_limits and ceiling != -1 and (hard == -1 or hard > ceiling):
            path = ("services", service.name, "ulimits", name)
            notes.warn(
                "limit-lowered",
                f"{'unlimited' if hard == -1 else hard} is above this process's hard limit; {ceiling} is used",
                path,
                "raise the limit of the session that runs this command, or run it with CAP_SYS_RESOURCE",
            )
            hard = ceiling
            soft = ceiling if soft == -1 or soft > ceiling else soft
        limits[name] = (soft, hard)
    rendered = [
        {"type": RLIMITS[name], "soft": _unsigned(soft), "hard": _unsigned(hard)}
        for name, (soft, hard) in sorted(limits.items())
    ]
    return rendered, notes.found


def _unsigned(value: int) -> int:
    return (1 << 64) - 1 if value == -1 else value


def fit_oom_score(
    service: Service, facts: HostFacts, sources: SourceMap | None = None
) -> tuple[int | None, list[Diagnostic]]:
    """``process.oomScoreAdj``, raised to the lowest that this process may set, with a warning."""
    wanted = service.resources.oom_score_adj
    if wanted is None or wanted >= facts.oom_score_adj:
        return wanted, []
    notes = _Notes(service, sources)
    notes.warn(
        "limit-raised",
        f"{wanted} is below what this process may set; {facts.oom_score_adj} is used",
        ("services", service.name, "oom_score_adj"),
        "only a process with CAP_SYS_RESOURCE may protect another from the OOM killer",
    )
    return facts.oom_score_adj, notes.found


def merge_warnings(*found: Sequence[Diagnostic]) -> list[Diagnostic]:
    """All of them, each once."""
    return list(dict.fromkeys(one for part in found for one in part))
