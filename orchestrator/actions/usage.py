"""What containers use and what runs in them: ``stats`` and ``top``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from orchestrator.actions.containers import choose_containers
from orchestrator.actions.project import Project
from orchestrator.engines.base import ContainerUsage, Engine, ProcessFacts
from orchestrator.errors import EngineError
from orchestrator.record import Record
from orchestrator.state import Container


class UsageRow(Record):
    """One container's use: `cpu` and `memory_share` in per cent (a whole processor is 100), the rest as counted."""

    container: Container
    cpu: float
    memory_share: float
    usage: ContainerUsage


def measure_usage(
    engine: Engine,
    project: Project,
    services: Sequence[str],
    wait: Callable[[], None],
    *,
    every: bool = False,
) -> Iterator[tuple[UsageRow, ...]]:
    """Yield the use of the chosen containers again and again; `wait` is called between two looks.

    A share of a processor is measured between two looks, so the first rows come after the first wait. With `every`
    containers that do not run are there, too. Raises NoSuchService.
    """
    before: dict[str, ContainerUsage] = {}
    while True:
        found = choose_containers(project, engine.observe(project.name), services, every=every, oneoff=True)
        now = {one.id: engine.read_usage(one) for one in found}
        if before or not found:
            yield tuple(compute_row(one, before.get(one.id), now[one.id]) for one in found)
        before = now
        wait()


def compute_row(container: Container, before: ContainerUsage | None, now: ContainerUsage) -> UsageRow:
    """The rates between two looks. Pure."""
    cpu = 0.0
    if before is not None and now.time > before.time:
        # A container that was started again in between counts from nothing.
        cpu = max(0.0, now.cpu_seconds - before.cpu_seconds) / (now.time - before.time) * 100
    share = now.memory / now.memory_limit * 100 if now.memory_limit else 0.0
    return UsageRow(container=container, cpu=cpu, memory_share=share, usage=now)


def list_processes(
    engine: Engine, project: Project, services: Sequence[str]
) -> tuple[tuple[Container, tuple[ProcessFacts, ...]], ...]:
    """The processes of each running container. Raises NoSuchService."""
    found = choose_containers(project, engine.observe(project.name), services, every=False, oneoff=True)
    rows = []
    for one in found:
        try:
            rows.append((one, tuple(engine.list_processes(one))))
        except EngineError:
            # It has ended since it was looked up.
            continue
    return tuple(rows)
