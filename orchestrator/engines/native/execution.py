"""Looking into a running container: commands in it, and its output."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from orchestrator.engines.base import ExecRequest, ExecResult, LogLine
from orchestrator.engines.native.container import is_alive, load_spec, read_boot_id
from orchestrator.engines.native.runtime import exec as runtime_exec
from orchestrator.engines.native.runtime.cgroups import observe_cgroups
from orchestrator.engines.native.runtime.logs import LogSource, read_logs
from orchestrator.engines.native.runtime.monitor import observe_process
from orchestrator.engines.native.runtime.oci_runtime import load_owner
from orchestrator.engines.native.runtime.process import open_process
from orchestrator.errors import NotFound

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.store import Store
    from orchestrator.state import Container


def exec_attached(layout: Layout, store: Store, container: Container, request: ExecRequest) -> int:
    """Run a command with this process's stdio; its exit code."""
    return runtime_exec.exec_attached(_find_target(layout, store, container), request)


def exec_captured(
    layout: Layout, store: Store, container: Container, request: ExecRequest, *, timeout: float
) -> ExecResult:
    """Run a command and keep the end of its output."""
    return runtime_exec.exec_captured(_find_target(layout, store, container), request, timeout=timeout)


def _find_target(layout: Layout, store: Store, container: Container) -> runtime_exec.Target:
    row = store.container(container.id)
    if row is None or not is_alive(row, read_boot_id()):
        raise NotFound(
            f"container {container.name} is not running",
            resource=container.name,
            operation="exec",
            hint=f"start it with: stack start {container.service}",
        )
    runtime = load_owner(layout, observe_cgroups(), container.id, load_spec(row).service.runtime)
    return runtime_exec.Target(layout, runtime, container.id, container.name)


def read_container_logs(
    layout: Layout,
    containers: Sequence[Container],
    *,
    tail: int | None,
    since: float | None,
    until: float | None,
    follow: bool,
    stopped: Callable[[], bool] | None,
) -> Iterator[LogLine]:
    """Lines of the containers' log files in the order of time; following ends when all of them have ended."""

    sources = [
        LogSource(path=str(layout.container_log(one.id)), container=one.name, service=one.service) for one in containers
    ]
    writers = _open_writers(layout, containers) if follow else []
    try:
        # What nobody writes to any longer needs no following.
        follow = bool(writers)
        yield from read_logs(
            sources, tail=tail, since=since, until=until, follow=follow, stopped=stopped, writers=writers
        )
    finally:
        for fd in writers:
            os.close(fd)


def _open_writers(layout: Layout, containers: Sequence[Container]) -> list[int]:
    """Pidfds of the processes that write the containers' logs: their monitors, which end after the last line."""
    found = []
    for one in containers:
        state = observe_process(layout, one.id)
        if state is None:
            continue
        fd = open_process(state.monitor_pid, state.monitor_start_time) or open_process(state.pid, state.start_time)
        if fd is not None:
            found.append(fd)
    return found
