"""What has happened to the containers of services, and what happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from orchestrator.actions.containers import known_services
from orchestrator.actions.names import select_services
from orchestrator.actions.project import Project
from orchestrator.engines.base import ContainerEvent, Engine


def follow_events(
    engine: Engine,
    project: Project,
    services: Sequence[str],
    *,
    since: float | None = None,
    until: float | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Iterator[ContainerEvent]:
    """Yield events of `services` (all without any) from `since` (epoch seconds; None: now) to `until` (None: for ever).

    Raises NoSuchService for a name that neither the file nor any container has.
    """
    chosen = set(select_services(services, known_services(project, engine.observe(project.name)))) if services else None
    for event in engine.read_events(project.name, since=since, until=until, stopped=stopped):
        if chosen is None or event.service in chosen:
            yield event
