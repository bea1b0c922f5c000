"""A container's processes and what they use: control groups, ``/proc``, the links of its network namespace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from orchestrator.engines.base import ContainerUsage, ProcessFacts
from orchestrator.engines.native.container import is_alive, load_spec, read_boot_id
from orchestrator.engines.native.runtime.cgroups import list_processes, read_usage, render_cgroups_path
from orchestrator.errors import Conflict

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.store import Store
    from orchestrator.state import Container

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def observe_usage(layout: Layout, store: Store, container: Container) -> ContainerUsage:
    """What the container uses now; all zero for one that does not run."""
    import time

    row = store.container(container.id)
    if row is None or not is_alive(row, read_boot_id()):
        return ContainerUsage(time=time.monotonic())
    spec = load_spec(row)
    found = read_usage(render_cgroups_path(layout.tag, container.id, spec.service.cgroup_parent))
    received, sent = (0, 0) if spec.service.network_mode == "host" else _read_traffic(int(row["pid"]))
    return ContainerUsage(
        time=time.monotonic(),
        cpu_seconds=found.cpu_seconds or 0.0,
        memory=found.memory or 0,
        memory_limit=min(found.memory_limit or 1 << 62, _read_total_memory()),
        received=received,
        sent=sent,
        read=found.read_bytes or 0,
        written=found.written_bytes or 0,
        pids=found.pids or 0,
    )


def _read_total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read_traffic(pid: int) -> tuple[int, int]:
    """Bytes received and sent by the network namespace of a process, its loopback left out."""
    try:
        with open(f"/proc/{pid}/net/dev") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return 0, 0
    received = sent = 0
    for line in lines:
        name, _, counters = line.partition(":")
        fields = counters.split()
        if name.strip() != "lo" and len(fields) >= 9:
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent


def observe_processes(layout: Layout, store: Store, container: Container) -> tuple[ProcessFacts, ...]:
    """Every process of a running container, by pid as this machine numbers them. Conflict when it does not run."""
    row = store.container(container.id)
    if row is None or not is_alive(row, read_boot_id()):
        raise Conflict(f"{container.name} is not running", resource=container.name, operation="list its processes")
    path = render_cgroups_path(layout.tag, container.id, load_spec(row).service.cgroup_parent)
    booted = _read_boot_time()
    found = (_describe_process(pid, booted) for pid in list_processes(path))
    return tuple(one for one in found if one is not None)


def _read_boot_time() -> int:
    with open("/proc/stat") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("btime"))


def _describe_process(pid: int, booted: int) -> ProcessFacts | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().rstrip(b"\0").split(b"\0")
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
    head, _, tail = text.rpartition(b")")
    fields = tail.split()
    name = head.partition(b"(")[2].decode(errors="replace")
    command = b" ".join(words).decode(errors="replace") or f"[{name}]"
    return ProcessFacts(
        pid=pid,
        parent=int(fields[1]),
        uid=uid,
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS,
        started_at=booted + int(fields[19]) / _TICKS,
        terminal=_name_terminal(int(fields[4])),
        command=command,
    )


def _name_terminal(device: int) -> str:
    """``pts/3`` for a terminal's device number (proc(5), field 7), ``?`` for none."""
    major, minor = device >> 8 & 0xFFF, (device & 0xFF) | (device >> 12 & 0xFFF00)
    if 136 <= major <= 143:
        return f"pts/{minor + (major - 136) * 256}"
    return f"tty{minor}" if major == 4 else "?"
