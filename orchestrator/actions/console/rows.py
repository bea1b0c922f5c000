"""The rows of a project's list: a service each, its replicas below it where it has several. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from orchestrator.actions.containers import short_name
from orchestrator.actions.project import Project
from orchestrator.record import Record
from orchestrator.state import Container, ObservedState

Kind = Literal["service", "replica", "oneoff"]

Tone = Literal["good", "busy", "bad", "warn", "off"]
"""How a state is to be taken: as wanted, on its way, wrong, to be looked at, not there."""

_BUSY = ("restarting", "removing", "created")


class Row(Record):
    """One line of the list. `key` stays the same while the line is about the same thing.

    `containers` are those that it stands for: none for a service that has not been created. `orphan`: the stack file
    has no such service; `disabled`: its profile is off.
    """

    key: str
    kind: Kind
    service: str
    label: str
    containers: tuple[Container, ...] = ()
    orphan: bool = False
    disabled: bool = False

    @property
    def alive(self) -> bool:
        """True if any of its containers has processes."""
        return any(one.alive for one in self.containers)

    @property
    def paused(self) -> bool:
        """True if any of its containers is frozen."""
        return any(one.status == "paused" for one in self.containers)

    @property
    def restarts(self) -> int:
        """How often restart policies have started its containers again."""
        return sum(one.restart_count for one in self.containers)

    @property
    def started_at(self) -> float:
        """When the oldest running one was started (epoch seconds); 0 without any."""
        return min((one.started_at for one in self.containers if one.alive), default=0.0)


def arrange_rows(project: Project, observed: ObservedState) -> tuple[Row, ...]:
    """Return the rows by name: what the file has, then orphans, one-off containers, and what profiles keep off."""
    known = project.services
    by_service: dict[str, list[Container]] = {name: [] for name in known or ()}
    for one in observed.containers:
        if not one.oneoff:
            by_service.setdefault(one.service, []).append(one)
    rows: list[Row] = []
    orphans: list[Row] = []
    for name in sorted(by_service):
        orphan = known is not None and name not in known and name not in project.disabled
        replicas = sorted(by_service[name], key=lambda one: (one.number, one.created_at, one.id))
        (orphans if orphan else rows).extend(_arrange_service(name, tuple(replicas), orphan=orphan))
    rows += orphans
    oneoffs = [one for one in observed.containers if one.oneoff and one.alive]
    rows += [
        Row(key=one.id, kind="oneoff", service=one.service, label=short_name(one), containers=(one,))
        for one in sorted(oneoffs, key=lambda one: (one.service, one.created_at, one.id))
    ]
    rows += [
        Row(key=f"{name}/", kind="service", service=name, label=name, disabled=True)
        for name in sorted(set(project.disabled) - by_service.keys())
    ]
    return tuple(rows)


def _arrange_service(name: str, replicas: tuple[Container, ...], *, orphan: bool) -> list[Row]:
    whole = Row(key=f"{name}/", kind="service", service=name, label=name, containers=replicas, orphan=orphan)
    if len(replicas) < 2:
        return [whole]
    return [
        whole,
        *(
            Row(
                key=f"{name}/{one.number}/{one.id}",
                kind="replica",
                service=name,
                label=short_name(one),
                containers=(one,),
                orphan=orphan,
            )
            for one in replicas
        ),
    ]


def describe_state(row: Row) -> tuple[str, Tone]:
    """Say how a row's containers are in a few words: ``healthy``, ``exited (1)``, ``2/3 running``."""
    if row.disabled:
        return "profile off", "off"
    if not row.containers:
        return "not created", "off"
    if len(row.containers) == 1:
        return describe_container_state(row.containers[0])
    states = [describe_container_state(one) for one in row.containers]
    words, tones = {word for word, _ in states}, {tone for _, tone in states}
    count = len(row.containers)
    if len(words) == 1:
        return f"{count} {words.pop()}", states[0][1]
    alive = sum(1 for one in row.containers if one.alive)
    worst = next((tone for tone in ("bad", "warn", "busy", "good") if tone in tones), "off")
    unhealthy = sum(1 for one in row.containers if one.health == "unhealthy" and one.alive)
    if unhealthy:
        return f"{unhealthy}/{count} unhealthy", "bad"
    return f"{alive}/{count} running", worst  # type: ignore[return-value]


def describe_container_state(one: Container) -> tuple[str, Tone]:
    """Say how one container is, its health before its status."""
    if one.status == "running":
        if one.health == "unhealthy":
            return "unhealthy", "bad"
        return (one.health, "busy" if one.health == "starting" else "good") if one.health else ("running", "good")
    if one.status == "paused":
        return "paused", "warn"
    if one.status == "exited":
        code = one.exit_code or 0
        # 128 + SIGTERM and + SIGKILL after a stop that the user asked for are no failures.
        failed = code != 0 and not (one.hold and code in (130, 137, 143))
        return (f"exited ({code})", "bad") if failed else ("stopped" if one.hold else f"exited ({code})", "off")
    if one.status == "dead":
        return "dead", "bad"
    return one.status, "busy" if one.status in _BUSY else "off"


class Totals(Record):
    """How a project is as a whole. `services` counts those that the file has and no profile keeps off."""

    services: int = 0
    containers: int = 0
    running: int = 0
    unhealthy: int = 0
    failed: int = 0
    orphans: int = 0


def count_totals(rows: Iterable[Row]) -> Totals:
    """Count what the rows show."""
    services = [one for one in rows if one.kind == "service" and not one.disabled]
    containers = [container for row in services for container in row.containers]
    states = [describe_container_state(one) for one in containers]
    return Totals(
        services=sum(1 for one in services if not one.orphan),
        containers=len(containers),
        running=sum(1 for one in containers if one.alive),
        unhealthy=sum(1 for one in containers if one.alive and one.health == "unhealthy"),
        failed=sum(1 for one, (_, tone) in zip(containers, states, strict=True) if tone == "bad" and not one.alive),
        orphans=sum(len(one.containers) for one in services if one.orphan),
    )


def describe_short_ports(containers: Iterable[Container]) -> str:
    """``8080→80 127.0.0.1:5432→5432/udp``: each published port once; addresses only where it is not all of them."""
    shown: dict[tuple[str, int, int, str], None] = {}
    for container in containers:
        for one in sorted(container.bindings, key=lambda one: (one.container_port, one.host_port, one.host_ip)):
            host = "" if one.host_ip in ("0.0.0.0", "::", "") else f"{one.host_ip}:"
            shown[(host, one.host_port, one.container_port, one.protocol)] = None
    return " ".join(
        f"{host}{outer}→{inner}{'' if protocol == 'tcp' else f'/{protocol}'}"
        for host, outer, inner, protocol in shown
        if outer
    )


def sum_usage(row: Row, usage: Mapping[str, tuple[float, int]]) -> tuple[float, int] | None:
    """Processor (per cent) and memory (bytes) of a row's containers, by container id; None where none is measured."""
    found = [usage[one.id] for one in row.containers if one.alive and one.id in usage]
    return (sum(cpu for cpu, _ in found), sum(memory for _, memory in found)) if found else None
