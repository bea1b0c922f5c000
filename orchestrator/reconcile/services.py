"""Services: what becomes of their containers, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.digest import diff_service
from orchestrator.graph import describe_sharing, shared_services
from orchestrator.plan import (
    CreateContainer,
    RemoveContainer,
    RenameContainer,
    RestartContainer,
    StartContainer,
    StopContainer,
)
from orchestrator.reconcile.divergence import explain_reconnection, restart_moment
from orchestrator.reconcile.hooks import plan_hooks_due, plan_post_start, plan_pre_stop
from orchestrator.reconcile.images import image_operation, mount_operations
from orchestrator.reconcile.init_containers import plan_init
from orchestrator.reconcile.networks import attached_networks, create_network_operation, service_networks
from orchestrator.reconcile.replicas import decide_replicas, wanted_hash
from orchestrator.reconcile.rolling import Rolling
from orchestrator.reconcile.volumes import create_volume_operation, service_volumes
from orchestrator.reconcile.waits import Waits

if TYPE_CHECKING:
    from orchestrator.model import Service
    from orchestrator.reconcile.draft import Draft, Replica

Claim = tuple[str, str, str]
"""Something that only one running container can hold: ("port", protocol, number) or ("address", network, address)."""


def decide_services(draft: Draft) -> None:
    """Decide about every container of the stack's services."""
    for name in draft.graph.order():
        service = draft.stack.services[name]
        draft.restart_moments[name] = restart_moment(draft, service)
        draft.replicas[name] = decide_replicas(draft, service)
    _decide_stop_first(draft)


def _refuse_missing_donors(draft: Draft) -> None:
    """Refuse what is built upon a container that is not there, and that this command does not make either."""
    for service in draft.present_services():
        for name in shared_services(service):
            if name not in draft.stack.services or draft.want(name) in ("running", "created"):
                continue
            if not any(one.container is not None and not one.ends for one in draft.replicas.get(name, ())):
                draft.refuse(
                    "shared-container-missing",
                    f"cannot share {describe_sharing(service, name)} with service {name}: container missing",
                    ("services", service.name),
                    hint=f"`stack up -d {service.name}` without --no-deps makes it",
                )


def plan_services(draft: Draft) -> Waits:
    """Write down creations, starts, restarts and recreations, and what they wait for; return those waits."""
    _refuse_missing_donors(draft)
    waits = Waits(draft)
    claims = _claims_given_up(draft)
    held = {one.container.name: one for one in draft.all_replicas() if one.container is not None}
    order = [name for name in draft.graph.order() if draft.want(name) in ("running", "created")]
    renames = {one: _free_name(draft, one, held) for name in order for one in draft.replicas[name]}
    for name in order:
        service = draft.stack.services[name]
        gates = waits.gates(service)
        gates += plan_init(draft, service, gates)
        rolling = Rolling(draft, service)
        for one in draft.replicas[name]:
            if one.action in ("create", "recreate"):
                _plan_creation(draft, service, one, gates + rolling.gates(one), renames[one], claims, rolling)
            elif one.action == "start":
                _plan_start(draft, service, one, gates + _prerequisites(draft, service), claims)
            elif one.action == "restart" and one.container is not None and explain_reconnection(draft, one.container):
                _plan_stop(draft, one, ())
                needs = (f"stop {one.label}", *gates, *_prerequisites(draft, service))
                _plan_start(draft, service, one, needs, claims)
            elif one.action == "restart":
                _plan_restart(draft, service, one, gates + _volume_creations(draft, service))
            elif one.action == "keep" and one.container is not None and draft.want(name) == "running":
                plan_hooks_due(draft, service, one.label, one.container)
        rolling.finish()
    return waits


def _prerequisites(draft: Draft, service: Service) -> tuple[str, ...]:
    """Everything that a container of the service is made of."""
    ids = [image_operation(draft, service), *mount_operations(draft, service)]
    ids += [create_network_operation(network.name) for network in service_networks(draft, service)]
    ids += _volume_creations(draft, service)
    for name in shared_services(service):
        ids += [f"create {one.label}" for one in draft.replicas.get(name, ())]
    return draft.present(ids)


def _volume_creations(draft: Draft, service: Service) -> tuple[str, ...]:
    return draft.present(create_volume_operation(volume.name) for volume in service_volumes(draft, service))


def _plan_creation(
    draft: Draft,
    service: Service,
    one: Replica,
    gates: tuple[str, ...],
    renames: tuple[str, ...],
    claims: dict[Claim, str],
    rolling: Rolling,
) -> None:
    old = one.container
    create_id, stop_id, remove_id = f"create {one.label}", f"stop {one.label}", f"remove {one.label}"
    create_needs = {*_prerequisites(draft, service), *renames, *rolling.gates(one)}
    stops = old is not None and old.alive
    if stops and one.stop_first:
        create_needs.add(stop_id)
        _plan_stop(draft, one, rolling.gates(one))
    draft.add(
        CreateContainer(
            id=create_id,
            subject=one.name,
            cause=one.cause,
            needs=tuple(sorted(create_needs)),
            service=service,
            number=one.number,
            container_name=one.name,
            config_hash=wanted_hash(draft, service),
            replaces=old.id if old is not None else None,
            changes=diff_service(old.config, service.config) if old is not None else (),
            inherit_volumes=not one.renew_volumes,
        )
    )
    start_needs = {create_id, *gates}
    starts_first = draft.want(service.name) == "running" and rolling.starts_first(one)
    if starts_first and _keeps_claims(draft, service, one):
        starts_first = False
    if old is not None:
        if starts_first:
            _plan_start(draft, service, one, tuple(start_needs), claims)
            _plan_stop(draft, one, (rolling.settle_replica(one),))
        elif stops and not one.stop_first:
            # The old one serves until all that the new one waits for is there.
            _plan_stop(draft, one, (create_id, *gates))
        draft.add(
            RemoveContainer(
                id=remove_id,
                subject=old.name,
                cause=one.cause,
                needs=draft.present((create_id, stop_id, f"rename {one.label}")),
                container_id=old.id,
                service=one.service,
                volumes=one.renew_volumes,
            )
        )
        start_needs.add(remove_id)
    if draft.want(service.name) == "running" and not starts_first:
        _plan_start(draft, service, one, tuple(start_needs), claims)


def _keeps_claims(draft: Draft, service: Service, one: Replica) -> bool:
    """True if old and new container cannot run beside one another; says so where the file asks for that."""
    shared = sorted(_claims(draft, service) & _claims_of(one))
    if shared:
        kind, protocol, number = shared[0]
        what = f"port {number}/{protocol}" if kind == "port" else f"address {number}"
        draft.warn(
            "start-first-impossible",
            f"the containers of {service.name} cannot be started before the old ones are stopped: both need {what}",
            ("services", service.name, "deploy", "update_config", "order"),
            hint="let the engine choose the port or address, or use stop-first",
        )
    return bool(shared)


def _plan_stop(draft: Draft, one: Replica, needs: tuple[str, ...]) -> None:
    assert one.container is not None
    draft.add(
        StopContainer(
            id=f"stop {one.label}",
            subject=one.container.name,
            cause=one.cause,
            needs=plan_pre_stop(draft, one, needs),
            container_id=one.container.id,
            service=one.service,
            timeout=draft.goal.stop_timeout,
            # Should the rest of the plan not come to be, no restart policy may bring it back beside the new one.
            hold=True,
        )
    )


def _plan_start(draft: Draft, service: Service, one: Replica, needs: tuple[str, ...], claims: dict[Claim, str]) -> None:
    freed = {claims[claim] for claim in _claims(draft, service) if claim in claims} - {f"stop {one.label}"}
    for other in draft.replicas[one.service]:
        # A second container of this number is what an interrupted recreation left; one replica never runs twice.
        if other.ends and other.alive and other.number == one.number:
            freed.add(f"stop {other.label}")
    name = one.name
    if one.action in ("start", "restart") and one.container is not None and f"rename {one.label}" not in draft:
        # Its name may be another one's still; found by that, the other one would be started.
        name = one.container.name
    started = draft.add(
        StartContainer(
            id=f"start {one.label}",
            subject=name,
            cause=one.cause,
            needs=tuple(sorted({*needs, *freed, *draft.present((f"rename {one.label}",))})),
            container_name=name,
            service=one.service,
            number=one.number,
            hooks=len(service.post_start),
        )
    )
    plan_post_start(draft, service, one.label, name, started)


def _plan_restart(draft: Draft, service: Service, one: Replica, gates: tuple[str, ...]) -> None:
    assert one.container is not None
    started = draft.add(
        RestartContainer(
            id=f"restart {one.label}",
            subject=one.container.name,
            cause=one.cause,
            needs=plan_pre_stop(draft, one, gates),
            container_id=one.container.id,
            container_name=one.name,
            service=one.service,
            timeout=draft.goal.stop_timeout,
            hooks=len(service.post_start),
        )
    )
    plan_post_start(draft, service, one.label, one.name, started)


def _free_name(draft: Draft, one: Replica, held: dict[str, Replica]) -> tuple[str, ...]:
    """See to it that the name a replica shall have is free; return what its creation needs for that."""
    if one.ends or (one.container is not None and one.container.name == one.name):
        return ()
    holder = held.get(one.name)
    needs: tuple[str, ...] = ()
    if holder is not None and holder.action == "remove":
        needs = (f"remove {holder.label}",)
    elif holder is not None and holder.action == "recreate" and holder.container is not None:
        # Two services may exchange their names: waiting for each other's removal would be a circle.
        name = f"{holder.container.id[:12]}_{one.name}"
        needs = (_plan_rename(draft, holder, name, f"{one.label} takes its name", ()),)
    elif holder is not None:
        return ()
    if one.container is not None and one.action != "recreate":
        _plan_rename(draft, one, one.name, "it has the name of an interrupted recreation", needs)
    return needs


def _plan_rename(draft: Draft, one: Replica, name: str, cause: str, needs: tuple[str, ...]) -> str:
    assert one.container is not None
    return draft.add(
        RenameContainer(
            id=f"rename {one.label}",
            subject=one.container.name,
            cause=cause,
            needs=needs,
            container_id=one.container.id,
            new_name=name,
            number=one.number,
        )
    )


def _claims(draft: Draft, service: Service) -> set[Claim]:
    found: set[Claim] = set()
    for port in service.ports:
        if port.published and port.published.isdigit():
            found.add(("port", port.protocol, port.published))
    for network in service_networks(draft, service):
        attachment = service.networks[network.key]
        for address in (attachment.ipv4_address, attachment.ipv6_address):
            if address:
                found.add(("address", network.name, address))
    return found


def _claims_given_up(draft: Draft) -> dict[Claim, str]:
    """What running containers hold that the plan stops, each with the stop that frees it."""
    freed: dict[Claim, str] = {}
    for one in draft.all_replicas():
        if one.container is None or not one.alive or not (one.ends or one.action == "recreate"):
            continue
        for claim in _claims_of(one):
            freed[claim] = f"stop {one.label}"
    return freed


def _claims_of(one: Replica) -> set[Claim]:
    """What a running container holds."""
    if one.container is None:
        return set()
    held = {("port", binding.protocol, str(binding.host_port)) for binding in one.container.bindings}
    for endpoint in one.container.endpoints:
        held |= {("address", endpoint.network, address) for address in (endpoint.ipv4, endpoint.ipv6) if address}
    return held


def _decide_stop_first(draft: Draft) -> None:
    """Decide which recreations have to stop the old container before the new one is made.

    Those are the ones on a network that is made anew, and those that hold what another container is about to take.
    Waiting there for the dependencies first, as is usual, could be a circle.
    """
    wanted: dict[Claim, set[str]] = {}
    for one in draft.all_replicas():
        if one.starts and one.service in draft.stack.services:
            for claim in _claims(draft, draft.stack.services[one.service]):
                wanted.setdefault(claim, set()).add(one.label)
    freed = _claims_given_up(draft)
    asked = {stop for claim, stop in freed.items() if wanted.get(claim, set()) - {stop.removeprefix("stop ")}}
    for one in draft.all_replicas():
        if one.action == "recreate" and one.container is not None:
            on_remade = attached_networks(draft, one.container) & draft.remade_networks.keys()
            one.stop_first = bool(on_remade) or f"stop {one.label}" in asked
