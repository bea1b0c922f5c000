"""Control groups: what this host can limit, where a container's group is, what it uses, removing what is left over.

The cgroupfs layout: a container's group is ``/stack[-TAG]/ID`` in every hierarchy. The runtime makes it and writes
the limits.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Literal

from orchestrator.record import Record

_LONGEST_PAUSE: Final = 0.2
_HASTENED_FOR: Final = 0.015
"""Seconds that the kernel stays ready, or is getting ready, for processes that are moved."""

_hastened = 0.0
_hierarchies: tuple[int, tuple[str, ...]] | None = None
_ROOT: Final = "/sys/fs/cgroup"
_V1_CONTROLLERS: Final = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "pids")

CgroupMode = Literal["v2", "hybrid", "v1", "none"]


class CgroupFacts(Record):
    """What control groups this host has.

    `controllers` can be used for containers (v2 names ``io`` and ``cpu``; v1 names ``blkio`` and ``cpu``, both under
    ``io`` and ``cpu`` here). `swap` says that memory plus swap can be limited. `stray` says that a hybrid host keeps
    controllers in its v2 part, which crun refuses.
    """

    mode: CgroupMode
    controllers: frozenset[str]
    swap: bool = False
    stray: bool = False


def observe_cgroups() -> CgroupFacts:
    """Look at ``/sys/fs/cgroup``. Cheap enough to do in every command."""
    controllers = _read(f"{_ROOT}/cgroup.controllers")
    if controllers is not None:
        found = frozenset(controllers.split())
        # The root group has no memory.swap.max; whether the kernel counts swap shows in any child.
        return CgroupFacts(mode="v2", controllers=found, swap="memory" in found and os.path.exists("/proc/swaps"))
    names = []
    for name in _V1_CONTROLLERS:
        if os.path.exists(f"{_ROOT}/{name}/cgroup.procs"):
            names.append("io" if name == "blkio" else name)
    stray = _read(f"{_ROOT}/unified/cgroup.controllers")
    swap = os.path.exists(f"{_ROOT}/memory/memory.memsw.limit_in_bytes")
    if not names:
        return CgroupFacts(mode="none", controllers=frozenset())
    return CgroupFacts(
        mode="v1" if stray is None else "hybrid",
        controllers=frozenset(names),
        swap=swap,
        stray=bool(stray and stray.strip()),
    )


def hasten_attaching() -> None:
    """Have the kernel get ready for a process that is about to be moved into a group; returns at once.

    The first such move after a while waits 10 ms and more for all processors; those of the next milliseconds do not.
    A move of this process to where it is makes that wait take place while the runtime is still being started.
    """
    from _thread import start_new_thread

    global _hastened
    now = time.monotonic()
    if now - _hastened > _HASTENED_FOR:
        _hastened = now
        start_new_thread(_move_nowhere, ())


def _move_nowhere() -> None:
    line = (_read("/proc/self/cgroup") or "").partition("\n")[0]
    number, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    folder = _ROOT if number == "0" else f"{_ROOT}/{controllers.removeprefix('name=')}"
    try:
        fd = os.open(f"{folder}{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, str(os.getpid()).encode())
    except OSError:
        return
    finally:
        os.close(fd)


def render_cgroups_path(tag: str, container_id: str, parent: str | None = None) -> str:
    """The OCI ``cgroupsPath`` of a container; `tag` is the layout's, `parent` the service's ``cgroup_parent``."""
    above = parent.strip("/") if parent else (f"stack-{tag}" if tag else "stack")
    return f"/{above}/{container_id}"


def list_cgroup_folders(path: str) -> list[str]:
    """The existing folders of the group `path`, one on a v2 host, one for each hierarchy on a v1 host."""
    return [one for one in _candidates(path) if os.path.isdir(one)]


def _candidates(path: str) -> Iterator[str]:
    if os.path.exists(f"{_ROOT}/cgroup.controllers"):
        yield _ROOT + path
        return
    for hierarchy in _find_hierarchies():
        yield hierarchy + path


def _find_hierarchies() -> tuple[str, ...]:
    """The mount points of a v1 host. Looked for again when the folder that they are in has changed."""
    global _hierarchies
    try:
        changed = os.stat(_ROOT).st_mtime_ns
        if _hierarchies is None or _hierarchies[0] != changed:
            # cpu -> cpu,cpuacct and the like are links to the same hierarchy.
            found = (one.path for one in os.scandir(_ROOT) if one.is_dir(follow_symlinks=False))
            _hierarchies = (changed, tuple(found))
    except OSError:
        return ()
    return _hierarchies[1]


def remove_cgroup(path: str) -> bool:
    """Remove the group `path` and the groups below it, in every hierarchy. False when a process is still in one."""
    if not path.startswith("/") or not path.strip("/"):
        raise ValueError(f"{path!r} is not a group of ours")
    clean = True
    for folder in _candidates(path):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            if _has_groups(folder):
                for current, names, _files in os.walk(folder, topdown=False):
                    for name in names:
                        clean &= _remove_folder(f"{current}/{name}")
            clean &= _remove_folder(folder)
    return clean


def _has_groups(folder: str) -> bool:
    """Whether there are groups below the group `folder`: each is one more link to it."""
    try:
        return os.stat(folder).st_nlink != 2
    except FileNotFoundError:
        return False


def remove_empty_parent(tag: str) -> None:
    """Remove the engine's own parent group if it is empty."""
    above = render_cgroups_path(tag, "").rstrip("/")
    for folder in list_cgroup_folders(above):
        _remove_folder(folder)


def _remove_folder(folder: str) -> bool:
    pause = 0.0005
    while True:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return True
        except OSError as error:
            # A process leaves its group a moment after it is seen to have ended; v1 has no event for that.
            if error.errno != errno.EBUSY or pause > _LONGEST_PAUSE or not _is_abandoned(folder):
                return False
            time.sleep(pause)
            pause *= 2
            continue
        return True


def _is_abandoned(folder: str) -> bool:
    """Whether neither a process nor another group is in the group."""
    return (_read(f"{folder}/cgroup.procs") or "").strip() == "" and not any(one.is_dir() for one in os.scandir(folder))


def list_processes(path: str) -> list[int]:
    """The pids of every process in the group `path` and below."""
    pids: set[int] = set()
    for folder in _candidates(path):
        groups = (current for current, _names, _files in os.walk(folder)) if _has_groups(folder) else (folder,)
        for current in groups:
            pids.update(int(one) for one in (_read(f"{current}/cgroup.procs") or "").split())
    return sorted(pids)


class Usage(Record):
    """What a container uses now. Memory in bytes without the reclaimable file cache, CPU time in seconds, I/O in bytes.

    A limit of None is no limit; a figure of None is one that the host does not count.
    """

    memory: int | None = None
    memory_limit: int | None = None
    cpu_seconds: float | None = None
    pids: int | None = None
    pids_limit: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None


def read_usage(path: str) -> Usage:
    """Read the counters of the group `path`; all None when it is gone."""
    if os.path.exists(f"{_ROOT}/cgroup.controllers"):
        return _read_usage_v2(_ROOT + path)
    return _read_usage_v1(path)


def _read_usage_v2(folder: str) -> Usage:
    memory, stat = _number(f"{folder}/memory.current"), _table(f"{folder}/memory.stat")
    usage = _table(f"{folder}/cpu.stat").get("usage_usec")
    moved = [
        dict(part.split("=") for part in line.split()[1:]) for line in (_read(f"{folder}/io.stat") or "").splitlines()
    ]
    counted = bool(moved) or os.path.exists(f"{folder}/io.stat")
    return Usage(
        memory=None if memory is None else max(0, memory - stat.get("inactive_file", 0)),
        memory_limit=_number(f"{folder}/memory.max"),
        cpu_seconds=None if usage is None else usage / 1e6,
        pids=_number(f"{folder}/pids.current"),
        pids_limit=_number(f"{folder}/pids.max"),
        read_bytes=sum(int(one.get("rbytes", 0)) for one in moved) if counted else None,
        written_bytes=sum(int(one.get("wbytes", 0)) for one in moved) if counted else None,
    )


_UNLIMITED_V1: Final = 1 << 60


def _read_usage_v1(path: str) -> Usage:
    memory = _number(f"{_ROOT}/memory{path}/memory.usage_in_bytes")
    cache = _table(f"{_ROOT}/memory{path}/memory.stat").get("total_inactive_file", 0)
    limit = _number(f"{_ROOT}/memory{path}/memory.limit_in_bytes")
    usage = _number(f"{_ROOT}/cpuacct{path}/cpuacct.usage")
    read = written = None
    text = _read(f"{_ROOT}/blkio{path}/blkio.throttle.io_service_bytes")
    if text is not None:
        rows = [line.split() for line in text.splitlines()]
        read = sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == "Read")
        written = sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == "Write")
    return Usage(
        memory=None if memory is None else max(0, memory - cache),
        memory_limit=None if limit is None or limit >= _UNLIMITED_V1 else limit,
        cpu_seconds=None if usage is None else usage / 1e9,
        pids=_number(f"{_ROOT}/pids{path}/pids.current"),
        pids_limit=_number(f"{_ROOT}/pids{path}/pids.max"),
        read_bytes=read,
        written_bytes=written,
    )


def _read(path: str) -> str | None:
    # Without a file object: groups are read by the dozen.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    parts = []
    try:
        while part := os.read(fd, 65536):
            parts.append(part)
    except OSError:
        return None
    finally:
        os.close(fd)
    return b"".join(parts).decode()


def _number(path: str) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if text.isdigit() else None


def _table(path: str) -> Mapping[str, int]:
    rows = (line.split() for line in (_read(path) or "").splitlines())
    return MappingProxyType({row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].lstrip("-").isdigit()})


def freeze_cgroup(path: str, *, frozen: bool) -> bool:
    """Freeze or thaw every process of the group `path`, and wait for it. False when there is no such group."""
    if os.path.exists(f"{_ROOT}/cgroup.controllers"):
        return _freeze_v2(_ROOT + path, frozen)
    state = f"{_ROOT}/freezer{path}/freezer.state"
    wanted = "FROZEN" if frozen else "THAWED"
    for _attempt in range(1000):
        try:
            with open(state, "w") as file:
                file.write(wanted)
        except OSError:
            return False
        if (_read(state) or "").strip() == wanted:
            return True
        # A process that was forking at that moment keeps v1 in FREEZING until it is written again.
        time.sleep(0.001)
    return False


def _freeze_v2(folder: str, frozen: bool) -> bool:
    from select import POLLPRI, poll

    try:
        with open(f"{folder}/cgroup.freeze", "w") as file:
            file.write("1" if frozen else "0")
        with open(f"{folder}/cgroup.events") as events:
            waiter = poll()
            waiter.register(events, POLLPRI)
            for _attempt in range(100):
                events.seek(0)
                if ("frozen 1" in events.read()) == frozen:
                    return True
                waiter.poll(100)
    except OSError:
        return False
    return False


def is_frozen(path: str) -> bool:
    """Whether the processes of the group `path` are frozen (paused)."""
    if os.path.exists(f"{_ROOT}/cgroup.controllers"):
        return "frozen 1" in (_read(f"{_ROOT}{path}/cgroup.events") or "")
    return (_read(f"{_ROOT}/freezer{path}/freezer.state") or "").strip() in ("FROZEN", "FREEZING")
