"""What this host allows a container to have. Observed once per command, then handed to the pure parts."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from orchestrator.engines.native import host
from orchestrator.engines.native.runtime.cgroups import CgroupFacts, observe_cgroups
from orchestrator.record import Record

RLIMITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "as": "RLIMIT_AS",
        "core": "RLIMIT_CORE",
        "cpu": "RLIMIT_CPU",
        "data": "RLIMIT_DATA",
        "fsize": "RLIMIT_FSIZE",
        "locks": "RLIMIT_LOCKS",
        "memlock": "RLIMIT_MEMLOCK",
        "msgqueue": "RLIMIT_MSGQUEUE",
        "nice": "RLIMIT_NICE",
        "nofile": "RLIMIT_NOFILE",
        "nproc": "RLIMIT_NPROC",
        "rss": "RLIMIT_RSS",
        "rtprio": "RLIMIT_RTPRIO",
        "rttime": "RLIMIT_RTTIME",
        "sigpending": "RLIMIT_SIGPENDING",
        "stack": "RLIMIT_STACK",
    }
)
"""Compose's names of limits and the runtime's."""


class HostFacts(Record):
    """Limits of this host and of this process.

    `hard_limits` maps compose's rlimit names to the hard limits in force (-1 unlimited); they can be exceeded only with
    `can_raise_limits` (CAP_SYS_RESOURCE in the first user namespace). `oom_score_adj` is the lowest score a container
    may get. `apparmor` are the names of the loaded AppArmor profiles, None where the kernel does not use AppArmor.
    """

    cgroups: CgroupFacts
    capabilities: frozenset[str]
    hard_limits: Mapping[str, int]
    can_raise_limits: bool
    oom_score_adj: int = -1000
    rootless: bool = False
    apparmor: frozenset[str] | None = None
    processors: int = 1


def observe_host() -> HostFacts:
    """Ask the kernel."""
    held = host.read_capabilities()
    rootless = not _owns_first_user_namespace()
    can_raise = "CAP_SYS_RESOURCE" in held and not rootless
    hard = {}
    for name, constant in RLIMITS.items():
        number = getattr(resource, constant, None)
        if number is not None:
            hard[name] = resource.getrlimit(number)[1]
    return HostFacts(
        cgroups=observe_cgroups(),
        capabilities=held,
        hard_limits=MappingProxyType(hard),
        can_raise_limits=can_raise,
        oom_score_adj=-1000 if can_raise else _own_oom_score(),
        rootless=rootless,
        apparmor=_list_apparmor_profiles(),
        processors=os.cpu_count() or 1,
    )


def _list_apparmor_profiles() -> frozenset[str] | None:
    try:
        with open("/sys/module/apparmor/parameters/enabled") as file:
            if file.read(1) != "Y":
                return None
        with open("/sys/kernel/security/apparmor/profiles") as file:
            return frozenset(line.rpartition(" (")[0] for line in file)
    except OSError:
        return None


def _owns_first_user_namespace() -> bool:
    try:
        with open("/proc/self/uid_map") as file:
            return file.read().split() == ["0", "0", "4294967295"]
    except OSError:
        return os.geteuid() == 0


def _own_oom_score() -> int:
    try:
        with open("/proc/self/oom_score_adj") as file:
            return int(file.read())
    except OSError:
        return 0
