"""What becomes of each replica of a service: kept, created, recreated, started, restarted, stopped or removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestrator.digest import config_hash
from orchestrator.reconcile.divergence import (
    explain_divergence,
    explain_reconnection,
    explain_restart,
    has_completed,
)
from orchestrator.reconcile.draft import Replica, describe_age
from orchestrator.reconcile.providers import is_provided

if TYPE_CHECKING:
    from orchestrator.model import Service, Stack
    from orchestrator.reconcile.draft import Draft
    from orchestrator.state import Container


def container_name(draft: Draft, service: Service, number: int) -> str:
    """The name of a replica: the service's ``container_name``, or ``project-service-number``."""
    return service.container_name or draft.stack.separator.join((draft.stack.name, service.name, str(number)))


class _Digests:
    # Of the services of one stack: each is asked for several times in a plan, and a goal is planned until nothing is
    # left to do.

    def __init__(self) -> None:
        self._of: tuple[Stack, Mapping[str, str]] | None = None
        self._found: dict[str, str] = {}

    def find(self, service: Service, stack: Stack, files: Mapping[str, str]) -> str:
        if stack.services.get(service.name) is not service:
            return config_hash(service, stack, files)
        if self._of is None or self._of[0] is not stack or self._of[1] is not files:
            self._of, self._found = (stack, files), {}
        if service.name not in self._found:
            self._found[service.name] = config_hash(service, stack, files)
        return self._found[service.name]


_digests = _Digests()


def wanted_hash(draft: Draft, service: Service) -> str:
    """The configuration digest that the service's containers should have been made with."""
    return _digests.find(service, draft.stack, draft.goal.file_digests)


def decide_replicas(draft: Draft, service: Service) -> list[Replica]:
    """Decide about every container of one service; those that it depends on have been decided already."""
    containers = draft.observed.of_service(service.name)
    want = draft.want(service.name)
    provided = is_provided(service) and draft.goal.wants.get(service.name, "untouched") != "untouched"
    if want in ("running", "created"):
        return _decide_present(draft, service, containers)
    decided = []
    taken: set[int] = set()
    for one in containers:
        tag = one.id[:12] if one.number in taken else ""
        taken.add(one.number)
        replica = Replica(service.name, one.number, one.name, one, tag=tag)
        if want == "stopped" and one.alive:
            replica.action, replica.cause = "stop", "it was asked to stop"
        elif want == "absent":
            replica.action, replica.cause = "remove", "it was asked to go"
        elif provided:
            replica.action, replica.cause = "remove", "a provider stands for the service now"
        decided.append(replica)
    return decided


def _decide_present(draft: Draft, service: Service, containers: tuple[Container, ...]) -> list[Replica]:
    count = draft.goal.replicas(service.name)
    if count > 1 and service.container_name:
        draft.refuse(
            "container-name-scaled",
            f"service {service.name} cannot have {count} containers that are all called {service.container_name}",
            ("services", service.name, "container_name"),
            hint="take container_name away, or run one replica",
        )
        return []
    digest = wanted_hash(draft, service)
    whole = [one for one in containers if one.status not in ("removing", "dead")]
    renewed = {one.id: _explain_renewal(draft, one) for one in whole}
    whole = [one for one in whole if not renewed[one.id]]
    causes = {one.id: explain_divergence(draft, service, one, digest) for one in whole}
    best = _best_of_each_number(whole, causes)
    # Diverged ones go first, then the highest numbers: what stays is then as old, and as low, as it can be.
    ranked = sorted(best.values(), key=lambda one: (bool(causes[one.id]), one.number))
    kept = {one.number: one for one in ranked[:count]}
    decided = [_decide_kept(draft, service, one, causes[one.id]) for one in kept.values()]
    free = (number for number in range(1, count + len(kept) + 1) if number not in kept)
    for _, number in zip(range(count - len(kept)), free, strict=False):
        cause = "it does not exist yet" if count == 1 else f"{service.name} has {count} replicas"
        decided.append(Replica(service.name, number, container_name(draft, service, number), None, "create", cause))
    decided.extend(_decide_surplus(service, containers, kept, {one.number for one in decided}, count, renewed))
    return sorted(decided, key=lambda one: (one.number, one.tag))


def _explain_renewal(draft: Draft, container: Container) -> str:
    """Say which volume that is made anew a container holds: it has to be gone before. Empty for none."""
    mounted = set(container.volumes.values())
    return "; ".join(cause for name, cause in draft.renewed_volumes.items() if name in mounted)


def _best_of_each_number(containers: list[Container], causes: dict[str, str]) -> dict[int, Container]:
    """Of two containers with one number (a recreation was interrupted), the one that matches, runs, is newer."""
    best: dict[int, Container] = {}
    for one in sorted(containers, key=lambda c: (not causes[c.id], c.alive, c.created_at, c.id)):
        best[one.number] = one
    return best


def _decide_surplus(
    service: Service,
    containers: tuple[Container, ...],
    kept: dict[int, Container],
    taken: set[int],
    count: int,
    renewed: Mapping[str, str],
) -> list[Replica]:
    surplus = []
    for one in containers:
        if kept.get(one.number) is one:
            continue
        if renewed.get(one.id):
            cause = renewed[one.id]
        elif one.status in ("removing", "dead"):
            cause = f"it is {one.status}"
        elif one.number in kept:
            cause = "it was left over when it was made anew"
        else:
            cause = f"{service.name} has {count} replica{'' if count == 1 else 's'}"
        tag = one.id[:12] if one.number in taken else ""
        taken.add(one.number)
        surplus.append(Replica(service.name, one.number, one.name, one, "remove", cause, tag))
    return surplus


def _decide_kept(draft: Draft, service: Service, container: Container, diverged: str) -> Replica:
    replica = Replica(
        service.name, container.number, container_name(draft, service, container.number), container, cause=diverged
    )
    if diverged:
        replica.action = "recreate"
        replica.renew_volumes = container.created_at < draft.goal.renew_volumes_before.get(service.name, 0.0)
    elif draft.want(service.name) == "created":
        return replica
    elif container.alive:
        replica.cause = explain_restart(draft, service, container)
        replica.action = "restart" if replica.cause else "keep"
    else:
        replica.cause = _explain_start(draft, service, container)
        replica.action = "start" if replica.cause else "keep"
    return replica


def _explain_start(draft: Draft, service: Service, container: Container) -> str:
    """Say why a container that does not run is started; empty where that is left to its restart policy, or it is
    done."""
    if container.started_at < draft.goal.restart_before.get(service.name, 0.0):
        return "a restart was asked for"
    if container.hold:
        return f"it was stopped, {describe_age(draft.now - container.finished_at)}"
    again = container.started_at < draft.goal.rerun_before.get(service.name, 0.0)
    if has_completed(draft, service, container) and not again:
        return ""
    if container.status == "created" and not container.finished_at:
        return "it was created and never started"
    if reconnection := explain_reconnection(draft, container):
        return reconnection
    if container.started_at < draft.restart_moments[service.name]:
        return "a restart of what it depends on was asked for"
    if container.finished_at < draft.goal.issued_at:
        return f"it exited with code {container.exit_code}, {describe_age(draft.now - container.finished_at)}"
    return ""
