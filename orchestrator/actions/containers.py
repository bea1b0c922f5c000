"""Choosing containers of a project by service, status, replica."""

from __future__ import annotations

import time

from orchestrator.state import STATUSES, Container, ObservedState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.actions.project import Project
    from orchestrator.engines.base import Engine

RESTART_GRACE = 5.0
"""Seconds that a start may take which a restart policy has announced."""


def known_services(project: Project, observed: ObservedState) -> tuple[str, ...]:
    """Names of the services that the file has, and of those that have containers."""
    return tuple(sorted({*(one.service for one in observed.containers), *(project.services or ()), *project.disabled}))


def choose_containers(
    project: Project,
    observed: ObservedState,
    services: Sequence[str] = (),
    *,
    every: bool = True,
    statuses: Iterable[str] = (),
    oneoff: bool = False,
    orphans: bool = True,
) -> tuple[Container, ...]:
    """Return containers in order of service and number. Raises NoSuchService, UsageError for an unknown status.

    `every` False leaves out what does not run; `statuses` keeps only those, whether they run or not.
    """
    chosen = set(known_services(project, observed))
    if services:
        from orchestrator.actions.names import select_services

        chosen = set(select_services(services, chosen))
    wanted = set(statuses)
    for status in sorted(wanted - set(STATUSES)):
        from orchestrator.actions.names import suggest_names
        from orchestrator.errors import UsageError

        raise UsageError(f"there is no status {status}", hint=suggest_names(status, STATUSES))
    found = [
        one
        for one in observed.containers
        if one.service in chosen
        and (oneoff or not one.oneoff)
        and (one.status in wanted if wanted else every or one.alive)
        and (orphans or project.services is None or one.service in project.services)
    ]
    return tuple(sorted(found, key=lambda one: (one.service, one.oneoff, one.number, one.created_at)))


def mark_restarting(observed: ObservedState, now: float) -> ObservedState:
    """Call containers that wait for their restart policy "restarting", as ``ps`` shows them.

    `now` is epoch seconds. One that is overdue has nobody who would start it: its supervisor is gone.
    """
    return observed.replace(
        containers=tuple(
            one.replace(status="restarting") if _waits_for_restart(one, now) else one for one in observed.containers
        )
    )


def _waits_for_restart(one: Container, now: float) -> bool:
    return one.status == "exited" and not one.hold and one.restart_at + RESTART_GRACE > now


def find_replica(engine: Engine, project: Project, service: str, index: int | None) -> Container:
    """Return a running replica of `service`: number `index`, or the first; without any, a one-off container of it.

    Raises NoSuchService, NotFound.
    """
    observed = mark_restarting(engine.observe(project.name), time.time())
    from orchestrator.errors import NotFound

    replicas = choose_containers(project, observed, [service])
    if index is not None:
        replicas = tuple(one for one in replicas if one.number == index)
    running = [one for one in replicas if one.status in ("running", "paused")]
    if running:
        return running[0]
    oneoffs = [one for one in observed.containers if one.oneoff and one.service == service and one.status == "running"]
    if oneoffs and index is None:
        return max(oneoffs, key=lambda one: one.created_at)
    which = f'service "{service}" is not running' + (f" container #{index}" if index is not None else "")
    if replicas:
        last = replicas[0]
        state = f"it has exited with code {last.exit_code}" if last.status == "exited" else f"it is {last.status}"
        raise NotFound(f"{which}: {state}", resource=service, hint=f"`stack start {service}` starts it")
    raise NotFound(
        f"{which}: it has no container", resource=service, hint=f"`stack up -d {service}` creates and starts it"
    )


def count_replicas(observed: ObservedState, services: Iterable[str]) -> dict[str, int]:
    """Number of containers by service, for those that have any."""
    counts = {name: len(observed.of_service(name)) for name in services}
    return {name: count for name, count in counts.items() if count}


def short_name(container: Container) -> str:
    """The name without its project: ``web-1``."""
    # With --compatibility the parts of a name are joined by underscores.
    whole = container.name
    return whole.removeprefix(f"{container.project}-").removeprefix(f"{container.project}_") or whole
