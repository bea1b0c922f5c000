"""Looking into a running container: commands in it, and its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from orchestrator.engines.base import ExecRequest, ExecResult, LogLine
from orchestrator.engines.native import exec as runtime_exec
from orchestrator.engines.native.cgroups import observe_cgroups
from orchestrator.engines.native.container import is_alive, load_spec, read_boot_id
from orchestrator.engines.native.logs import LogSource, read_logs
from orchestrator.engines.native.runtime import load_runtime
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
    runtime = load_runtime(layout, observe_cgroups(), load_spec(row).service.runtime)
    return runtime_exec.Target(layout, runtime, container.id, container.name)


def read_container_logs(
    layout: Layout,
    store: Store,
    containers: Sequence[Container],
    *,
    tail: int | None,
    since: float | None,
    until: float | None,
    follow: bool,
    stopped: Callable[[], bool] | None,
) -> Iterator[LogLine]:
    """Lines of the containers' log files in the order of time; following ends when all of them have ended."""

    def ended() -> bool:
        if stopped is not None and stopped():
            return True
        boot_id = read_boot_id()
        rows = [store.container(one.id) for one in containers]
        return not any(row is not None and is_alive(row, boot_id) for row in rows)

    sources = [
        LogSource(
            path=str(layout.container_log(one.id)),
            container=one.name,
            service=one.service,
        )
        for one in containers
    ]
    return read_logs(sources, tail=tail, since=since, until=until, follow=follow, stopped=ended if follow else None)
