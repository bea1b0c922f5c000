"""What is known of one row, for reading: why it is as it is, and what it was made from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.actions.console.rows import Row, describe_container_state, describe_short_ports
from orchestrator.actions.explain import explain_service
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.actions.project import Project
    from orchestrator.engines.base import Engine
    from orchestrator.state import Container, ObservedState

_SECRET = ("PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE", "API_KEY", "APIKEY")
"""A variable with such a word in its name is not shown to everybody who looks over a shoulder."""

HIDDEN = "••••••"

_WANTED = {
    "service_started": "runs",
    "service_healthy": "is healthy",
    "service_completed_successfully": "has completed",
}


class Need(Record):
    """Something that a service depends on: whether it is as it has to be, and how it is."""

    service: str
    condition: str
    holds: bool
    state: str
    required: bool = True


class ProbeRun(Record):
    """One health check: which container, when it ended (epoch seconds), how, and what it said."""

    container: str
    time: float
    success: bool
    output: str


class Reasons(Record):
    """Why a service is as it is: sentences, what it depends on, what its last health checks said."""

    service: str
    sentences: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    needed_by: tuple[str, ...] = ()
    check: str = ""
    probes: tuple[ProbeRun, ...] = ()
    supervised: bool = False


def find_reasons(
    engine: Engine, project: Project, row: Row, observed: ObservedState, status: Mapping[str, Any] | None
) -> Reasons:
    """Put together why the service of `row` is as it is. `status` is the supervisor's, None where none runs."""
    found = explain_service(engine, project.name, row.service, status, time.time())
    service = project.stack.services.get(row.service) if project.stack is not None else None
    names = {one.name for one in row.containers}
    probes = [
        ProbeRun(container=name, time=run["end"], success=run["success"], output=str(run["output"]).strip())
        for name, history in ((status or {}).get("health") or {}).items()
        if name in names
        for run in history["log"]
    ]
    test = service.healthcheck.test if service is not None and service.healthcheck is not None else ()
    return Reasons(
        service=row.service,
        sentences=found.sentences,
        needs=list_needs(project, row.service, observed),
        needed_by=list_dependents(project, row.service),
        check=" ".join((test or ())[1:]),
        probes=tuple(sorted(probes, key=lambda one: one.time, reverse=True)),
        supervised=status is not None,
    )


def list_needs(project: Project, service: str, observed: ObservedState) -> tuple[Need, ...]:
    """What `service` depends on, by name. Pure."""
    found = project.stack.services.get(service) if project.stack is not None else None
    needs = []
    for name, dependency in sorted((found.depends_on if found is not None else {}).items()):
        replicas = observed.of_service(name)
        states = [describe_container_state(one)[0] for one in replicas]
        needs.append(
            Need(
                service=name,
                condition=_WANTED.get(dependency.condition, dependency.condition),
                holds=bool(replicas) and all(_holds(one, dependency.condition) for one in replicas),
                state=", ".join(dict.fromkeys(states)) or "not created",
                required=dependency.required,
            )
        )
    return tuple(needs)


def list_dependents(project: Project, service: str) -> tuple[str, ...]:
    """The services that depend on `service`. Pure."""
    services = project.stack.services if project.stack is not None else {}
    return tuple(sorted(name for name, one in services.items() if service in one.depends_on))


def _holds(one: Container, condition: str) -> bool:
    if condition == "service_healthy":
        return one.alive and one.health == "healthy"
    if condition == "service_completed_successfully":
        return one.status == "exited" and one.exit_code == 0
    return one.started_at > 0


def describe_facts(row: Row) -> tuple[tuple[str, str], ...]:
    """Return what is known of each container of a row as (name, value) pairs; a pair without a value is a heading."""
    facts: list[tuple[str, str]] = []
    for one in row.containers:
        facts.append((one.name, ""))
        facts += [(name, value) for name, value in _describe_container(one) if value]
    return tuple(facts)


def _describe_container(one: Container) -> list[tuple[str, str]]:
    state = describe_container_state(one)[0]
    if one.error:
        state += f": {one.error}"
    if one.oom_killed:
        state += ", out of memory"
    return [
        ("state", state),
        ("id", one.id[:12]),
        ("image", one.image),
        ("image id", one.image_id.removeprefix("sha256:")[:12]),
        ("command", " ".join(one.command)),
        ("pid", str(one.pid) if one.alive and one.pid else ""),
        ("created", _render_moment(one.created_at)),
        ("started", _render_moment(one.started_at)),
        ("ended", _render_moment(one.finished_at) if not one.alive else ""),
        ("restarts", str(one.restart_count) if one.restart_count else ""),
        ("ports", describe_short_ports((one,))),
        *((f"network {end.network}", " ".join(x for x in (end.ipv4, end.ipv6) if x)) for end in one.endpoints),
        *((f"volume {target}", name[:12] if len(name) == 64 else name) for target, name in one.volumes.items()),
    ]


def _render_moment(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) if moment else ""


def render_configuration(project: Project, row: Row) -> str:
    """The service as its containers were made from it, else as the file has it, as YAML; secrets hidden."""
    from orchestrator.spec.render import render_yaml

    config: Mapping[str, Any] = row.containers[0].config if row.containers else {}
    if not config and project.stack is not None and row.service in project.stack.services:
        config = project.stack.services[row.service].config
    if not config:
        return ""
    environment = config.get("environment")
    if isinstance(environment, Mapping):
        shown = {name: HIDDEN if value and is_secret(name) else value for name, value in environment.items()}
        config = {**config, "environment": shown}
    return render_yaml({name: value for name, value in config.items() if value is not None}, escape=False)


def is_secret(variable: str) -> bool:
    """True for a variable whose name says that its value is nobody's business."""
    name = variable.upper()
    return any(word in name for word in _SECRET)
