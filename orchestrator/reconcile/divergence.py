"""Why a container has to be made anew, or started again: the causes, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.digest import diff_service
from orchestrator.graph import namespace_services, resolve_dependencies, shared_services
from orchestrator.model import image_reference
from orchestrator.reconcile.networks import attached_networks, service_networks

if TYPE_CHECKING:
    from orchestrator.model import Service
    from orchestrator.reconcile.draft import Draft, Replica
    from orchestrator.state import Container

SHOWN_CHANGES = 3
"""How many fields that differ a cause names; a plan has them all."""


def has_completed(draft: Draft, service: Service, container: Container) -> bool:
    """True for a one-shot that did its work: it ended with 0 by itself, and nothing says that it should run on."""
    return (
        container.status == "exited"
        and container.exit_code == 0
        and not container.hold
        and service.restart.condition in ("no", "on-failure")
        and not _is_server(draft, service)
    )


def _is_server(draft: Draft, service: Service) -> bool:
    """True when the file shows that a service is meant to run on: it is probed, or others live in its namespaces."""
    probe = service.healthcheck
    if probe is not None and not probe.disable and probe.test and probe.test != ("NONE",):
        return True
    for name in draft.graph.needed_by[service.name]:
        dependent = draft.stack.services[name]
        declared = dependent.depends_on.get(service.name)
        if declared is not None and declared.condition == "service_healthy":
            return True
        if service.name in namespace_services(dependent):
            return True
    return False


def explain_divergence(draft: Draft, service: Service, container: Container, wanted_hash: str) -> str:
    """Say why `container` has to be made anew; empty if it can stay."""
    if draft.goal.recreate == "never":
        return ""
    causes = []
    if container.created_at < draft.goal.recreate_before.get(service.name, 0.0):
        causes.append("recreation was asked for")
    if container.created_at < draft.goal.renew_volumes_before.get(service.name, 0.0):
        causes.append("new anonymous volumes were asked for")
    if container.config_hash != wanted_hash and not _is_left_over(draft, service, container):
        causes.append(_explain_config(draft, service, container))
    else:
        causes.append(_explain_image(draft, service, container))
        causes.extend(_explain_mounted(draft, container))
    if container.alive and draft.want(service.name) != "running":
        # It has to end for that, and it is not wished that it runs: a new one is as good.
        causes.append(explain_reconnection(draft, container))
    causes.append(_explain_shared(draft, service, container))
    return "; ".join(one for one in causes if one)


def _is_left_over(draft: Draft, service: Service, container: Container) -> bool:
    """True on the way back for a container that the update has not reached: it has the image, by its name of then."""
    if not draft.goal.rolling_back or service.image != container.image_id:
        return False
    return [one.path for one in diff_service(container.config, service.config)] == ["image"]


def _explain_config(draft: Draft, service: Service, container: Container) -> str:
    changes = diff_service(container.config, service.config)
    shown = [
        f"image changed: {one.old or 'not set'} -> {one.new or 'not set'}" if one.path == "image" else one.render()
        for one in changes[:SHOWN_CHANGES]
    ]
    if len(changes) > SHOWN_CHANGES:
        shown.append(f"and {len(changes) - SHOWN_CHANGES} more")
    if shown:
        return "; ".join(shown)
    # The service reads the same, so what it refers to is different.
    had = {endpoint.network for endpoint in container.endpoints}
    has = {network.name for network in service_networks(draft, service)}
    if had and had != has:
        return f"networks: {', '.join(sorted(had))} -> {', '.join(sorted(has))}"
    if service.secrets or service.configs:
        return "the content of a secret or config changed"
    return "its configuration changed"


def _explain_image(draft: Draft, service: Service, container: Container) -> str:
    facts = draft.observed.images.get(image_reference(draft.stack, service))
    if facts is None or not container.image_id or facts.id == container.image_id:
        return ""
    return f"image changed: {facts.reference} was {_short(container.image_id)}, is {_short(facts.id)}"


def _explain_mounted(draft: Draft, container: Container) -> list[str]:
    found = {name: (had, draft.observed.images.get(name)) for name, had in sorted(container.mounted_images.items())}
    return [
        f"image changed: {name}, which it mounts, was {_short(had)}, is {_short(facts.id)}"
        for name, (had, facts) in found.items()
        if facts is not None and facts.id != had
    ]


def explain_reconnection(draft: Draft, container: Container) -> str:
    """Say which networks of `container` are made anew: it ends before, and starts on the new ones; empty for none."""
    remade = attached_networks(draft, container) & draft.remade_networks.keys()
    return "; ".join(draft.remade_networks[name] for name in sorted(remade))


def _explain_shared(draft: Draft, service: Service, container: Container) -> str:
    for name in shared_services(service):
        base = _base_replica(draft, name)
        if base is None:
            continue
        if base.action in ("create", "recreate"):
            return f"it builds upon the container of {name}, which is made anew"
        if base.container is not None and base.container.created_at > container.created_at:
            return f"it builds upon the container of {name}, which was made anew"
    return ""


def _base_replica(draft: Draft, name: str) -> Replica | None:
    """The replica that others build upon: the one with the lowest number."""
    stays = [one for one in draft.replicas.get(name, ()) if one.action != "remove"]
    return min(stays, key=lambda one: one.number, default=None)


def explain_restart(draft: Draft, service: Service, container: Container) -> str:
    """Say why a container that runs has to be started again; empty if it can go on."""
    if container.started_at < draft.goal.restart_before.get(service.name, 0.0):
        return "a restart was asked for"
    if container.stale_volumes:
        return f"somebody has deleted what it has mounted: {', '.join(container.stale_volumes)}"
    if reconnection := explain_reconnection(draft, container):
        return reconnection
    for name in namespace_services(service):
        base = _base_replica(draft, name)
        if base is None or base.container is None:
            continue
        if base.action in ("start", "restart") or (
            base.container.alive and base.container.started_at > container.started_at
        ):
            return f"it shares a namespace of {name}, which starts again"
    for dependency in resolve_dependencies(service).values():
        if dependency.restart and draft.want(dependency.service) == "running":
            cause = _explain_dependency_restart(draft, dependency.service, container)
            if cause:
                return cause
    return ""


def _explain_dependency_restart(draft: Draft, name: str, container: Container) -> str:
    # Told from times as well as from this plan, so that a crash between the two restarts loses neither.
    replicas = [one for one in draft.replicas.get(name, ()) if one.action != "remove"]
    if any(one.action == "restart" for one in replicas) or (
        container.started_at < draft.restart_moments.get(name, 0.0)
    ):
        return f"{name} is restarted, and it restarts with it"
    if any(one.action == "recreate" for one in replicas) or (
        replicas and all(_newer(one, container.started_at) for one in replicas)
    ):
        return f"{name} is made anew, and it restarts with it"
    return ""


def _newer(replica: Replica, moment: float) -> bool:
    return replica.container is None or replica.action == "recreate" or replica.container.created_at > moment


def restart_moment(draft: Draft, service: Service) -> float:
    """The moment before which containers of `service` must not have been started: asked for it, or for what it restarts
    with. Services are asked about in the order of their dependencies."""
    moment = draft.goal.restart_before.get(service.name, 0.0)
    for dependency in resolve_dependencies(service).values():
        if dependency.restart and draft.want(dependency.service) == "running":
            moment = max(moment, draft.restart_moments.get(dependency.service, 0.0))
    return moment


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]
