"""``stack doctor`` for the native engine: what this machine has and lacks, and how to get it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from orchestrator.engines.base import Finding
from orchestrator.engines.native.layout import Layout

_INSTALL = "apt-get install"


def diagnose_host(layout: Layout) -> tuple[Finding, ...]:
    """Look at everything that the engine stands on."""
    return tuple(_diagnose(layout))


def _diagnose(layout: Layout) -> Iterator[Finding]:
    release = os.uname().release
    yield Finding(name="kernel", state="ok", detail=f"Linux {release} ({os.uname().machine})")
    yield _diagnose_privilege()
    yield _diagnose_runtime(layout)
    yield _diagnose_program("conmon", "holds a container's output and collects its exit code", "conmon")
    yield _diagnose_program("tar", "unpacks image layers", "tar")
    yield _diagnose_library("nftables", "published ports and network isolation", "libnftables.so.1", "libnftables1")
    yield _diagnose_library("seccomp", "the default system call filter", "libseccomp.so.2", "libseccomp2")
    yield from _diagnose_firewall(layout)
    yield _diagnose_overlay(layout)
    yield _diagnose_cgroups()
    yield _diagnose_init()
    yield _diagnose_ipv6()
    yield from _diagnose_rlimits()
    yield _diagnose_disk(layout)


def _diagnose_privilege() -> Finding:
    if os.geteuid() == 0:
        return Finding(name="privilege", state="ok", detail="root")
    return Finding(
        name="privilege",
        state="missing",
        detail=f"uid {os.geteuid()}: running without root is not supported yet",
        hint="run stack with sudo",
    )


def _diagnose_runtime(layout: Layout) -> Finding:
    from orchestrator.engines.native.runtime.cgroups import observe_cgroups
    from orchestrator.engines.native.runtime.oci_runtime import load_runtime
    from orchestrator.engines.native.spawn import find_program
    from orchestrator.errors import StackError

    if os.geteuid() != 0:
        found = [one for one in (find_program("crun"), find_program("runc")) if one]
        if found:
            return Finding(name="runtime", state="ok", detail=f"{' and '.join(found)}; whether it works, root can tell")
        return Finding(
            name="runtime", state="missing", detail="neither crun nor runc is installed", hint=f"{_INSTALL} crun"
        )
    try:
        runtime = load_runtime(layout, observe_cgroups())
    except StackError as error:
        return Finding(name="runtime", state="missing", detail=error.message, hint=error.hint)
    except OSError as error:
        # It is tried by running a container; what keeps that from being done is told of the disk below.
        return Finding(name="runtime", state="warning", detail=f"it cannot be tried: {error.strerror or error}")
    return Finding(name="runtime", state="ok", detail=f"{runtime.name} at {runtime.path}")


def _diagnose_program(name: str, purpose: str, package: str) -> Finding:
    from orchestrator.engines.native.spawn import find_program

    found = find_program(name)
    if found is not None:
        return Finding(name=name, state="ok", detail=found)
    return Finding(name=name, state="missing", detail=f"not installed: {purpose}", hint=f"{_INSTALL} {package}")


def _diagnose_library(name: str, purpose: str, library: str, package: str) -> Finding:
    import ctypes

    try:
        ctypes.CDLL(library)
    except OSError:
        return Finding(
            name=name, state="missing", detail=f"{library} not found: {purpose}", hint=f"{_INSTALL} {package}"
        )
    return Finding(name=name, state="ok", detail=f"{library}: {purpose}")


def _diagnose_firewall(layout: Layout) -> Iterator[Finding]:
    """Whether the kernel takes our rules, and whether another firewall drops what our containers send."""
    from orchestrator.engines.native.network.docker_coexistence import find_drops, find_foreign_drops
    from orchestrator.engines.native.network.links import name_prefix
    from orchestrator.engines.native.network.nftables import list_tables
    from orchestrator.errors import StackError

    if os.geteuid() != 0:
        return
    try:
        running = bool(list_tables("stack"))
        drops = find_drops(name_prefix(layout.tag))
        foreign = find_foreign_drops(name_prefix(layout.tag))
    except StackError as error:
        hint = "`modprobe nf_tables`; the kernel needs nftables"
        yield Finding(name="firewall", state="missing", detail=error.message, hint=error.hint or hint)
        return
    for place in foreign:
        links = f'"{name_prefix(layout.tag)}*"'
        yield Finding(
            name="firewall",
            state="warning",
            detail=f"the nftables chain {place} drops what is forwarded: nothing gets out of containers, nor in",
            hint=f"`nft 'insert rule {place} iifname {links} accept; insert rule {place} oifname {links} accept'`",
        )
    for place, accepted in drops:
        if accepted or not running:
            detail = f"{place} drops what is forwarded; " + (
                "we are let through" if accepted else "`up` adds our rules"
            )
            yield Finding(name="firewall", state="ok", detail=detail)
        else:
            yield Finding(
                name="firewall",
                state="warning",
                detail=f"{place} drops what our networks forward: containers do not get out",
                hint="`stack up -d` in a project that runs adds the rules that let them through",
            )


def _diagnose_overlay(layout: Layout) -> Finding:
    found = _find_overlay()
    if found.state != "ok" or os.geteuid() != 0:
        return found
    problem = _try_overlay(layout)
    if not problem:
        return found
    return Finding(
        name="overlay",
        state="missing",
        detail=f"no overlay can be mounted below {layout.state}: {problem}",
        hint="move it to a local file system (ext4, xfs, btrfs) with STACK_STATE_DIR",
    )


def _try_overlay(layout: Layout) -> str:
    """Mount a small overlay where containers have theirs; what went wrong, empty if nothing did."""
    import tempfile

    from orchestrator.engines.native import host

    try:
        place = _find_existing(layout)
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=place) as folder:
            for name in ("lower", "upper", "work", "merged"):
                os.mkdir(f"{folder}/{name}")
            layers, target = [f"{folder}/lower"], f"{folder}/merged"
            host.mount_overlay(layers, target, upper=f"{folder}/upper", work=f"{folder}/work")
            try:
                with open(f"{target}/file", "wb"):
                    pass
            finally:
                host.unmount(target)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _find_overlay() -> Finding:
    purpose = "layers are shared by all containers"
    with open("/proc/filesystems", encoding="ascii") as file:
        if "\toverlay\n" in file.read():
            return Finding(name="overlay", state="ok", detail=f"overlayfs: {purpose}")
    # The kernel loads it with the first mount of that kind, so on a fresh boot it is not there and not missing either.
    modules = f"/lib/modules/{os.uname().release}"
    try:
        with open(f"{modules}/modules.dep", encoding="utf-8") as file:
            loadable = "/overlay.ko" in file.read()
    except OSError:
        loadable = False
    if loadable:
        return Finding(name="overlay", state="ok", detail=f"overlayfs, loaded when first used: {purpose}")
    hint = f"load it with `modprobe overlay`; if {modules} is not there, reboot into the kernel that is installed"
    return Finding(name="overlay", state="missing", detail="the kernel has no overlayfs", hint=hint)


def _diagnose_cgroups() -> Finding:
    from orchestrator.engines.native.runtime.cgroups import observe_cgroups

    facts = observe_cgroups()
    controllers = ", ".join(sorted(facts.controllers))
    lacking = sorted({"cpu", "memory", "pids"} - set(facts.controllers))
    detail = f"{facts.mode}: {controllers}"
    if lacking:
        return Finding(
            name="cgroups",
            state="warning",
            detail=detail,
            hint=f"limits that need {', '.join(lacking)} are not enforced on this machine",
        )
    return Finding(name="cgroups", state="ok", detail=detail)


def _diagnose_init() -> Finding:
    from orchestrator.engines.native.runtime.init_program import find_init

    found = find_init()
    if found:
        return Finding(name="init", state="ok", detail=f"{found}: for services with init: true")
    return Finding(
        name="init",
        state="warning",
        detail="no init program: services with init: true cannot start",
        hint=f"{_INSTALL} catatonit (or tini)",
    )


def _diagnose_ipv6() -> Finding:
    if os.path.exists("/proc/net/if_inet6"):
        return Finding(name="ipv6", state="ok", detail="the kernel has IPv6")
    return Finding(name="ipv6", state="warning", detail="no IPv6: networks with enable_ipv6 cannot be created")


def _diagnose_rlimits() -> Iterator[Finding]:
    with open("/proc/self/status", encoding="ascii") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    if os.geteuid() == 0 and not effective >> 24 & 1:
        yield Finding(
            name="rlimits",
            state="warning",
            detail="CAP_SYS_RESOURCE is missing: ulimits above the hard limit are lowered to it",
        )


def _diagnose_disk(layout: Layout) -> Finding:
    place = _find_existing(layout)
    usage = shutil.disk_usage(place)
    detail = f"{layout.state}: {usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB"
    if usage.free < 1_000_000_000:
        hint = "`stack image prune` frees some; STACK_STATE_DIR moves everything to another disk"
        return Finding(name="disk", state="warning", detail=detail, hint=hint)
    status = os.statvfs(place)
    if status.f_files and status.f_favail < 10_000:
        detail = f"{layout.state}: {status.f_favail} of {status.f_files} inodes are free"
        return Finding(name="disk", state="warning", detail=detail, hint="`stack image prune` frees some")
    return Finding(name="disk", state="ok", detail=detail)


def _find_existing(layout: Layout) -> Path:
    """The state directory, or what of the way to it is there."""
    place = layout.state
    while not place.exists():
        place = place.parent
    return place
