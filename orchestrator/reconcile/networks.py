"""Networks: created when a service needs one, made anew when the file says something else, removed by `down`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.digest import diff_resource
from orchestrator.plan import CreateNetwork, RemoveNetwork
from orchestrator.reconcile.draft import NO_USER
from orchestrator.spec.pre_start import list_init_services

if TYPE_CHECKING:
    from orchestrator.model import Network, Service
    from orchestrator.reconcile.draft import Draft, Replica
    from orchestrator.state import Container, ObservedNetwork


def create_network_operation(name: str) -> str:
    """The id of the operation that creates the network with engine name `name`."""
    return f"create network {name}"


def service_networks(draft: Draft, service: Service) -> tuple[Network, ...]:
    """The networks that a service is attached to, by their keys."""
    return tuple(draft.stack.networks[key] for key in sorted(service.networks) if key in draft.stack.networks)


def attached_networks(draft: Draft, container: Container) -> frozenset[str]:
    """Engine names of the networks that a container belongs to, whether it runs or not."""
    names = {endpoint.network for endpoint in container.endpoints}
    keys = container.config.get("networks")
    if not names and keys:
        names = {one.name for one in draft.observed.networks.values() if one.key in keys}
    return frozenset(names)


def decide_networks(draft: Draft) -> None:
    """Decide which networks are made anew, and refuse external ones that do not exist."""
    for network, users in _needed_networks(draft).values():
        found = draft.observed.networks.get(network.name)
        if found is None:
            if network.external:
                _refuse_external(draft, network, users)
        elif not network.external and found.project != draft.observed.project:
            _warn_foreign(draft, network, found)
        elif not network.external and found.config:
            _decide_remake(draft, network, found)


def _attached(service: Service) -> set[str]:
    return {key for one in (service, *list_init_services(service)) for key in one.networks}


def _needed_networks(draft: Draft) -> dict[str, tuple[Network, list[str]]]:
    needed: dict[str, tuple[Network, list[str]]] = {}
    for service in draft.present_services():
        for one in (service, *list_init_services(service)):
            for network in service_networks(draft, one):
                users = needed.setdefault(network.name, (network, []))[1]
                if service.name not in users:
                    users.append(service.name)
    for network in draft.unused(draft.stack.networks, _attached):
        needed.setdefault(network.name, (network, []))
    return dict(sorted(needed.items()))


def _decide_remake(draft: Draft, network: Network, found: ObservedNetwork) -> None:
    changes = diff_resource(found.config, network.config)
    if not changes or draft.goal.recreate == "never":
        return
    cause = f"network {network.key} changed: {'; '.join(one.render() for one in changes)}"
    strangers = sorted(
        {
            one.service
            for one in draft.observed.containers
            if one.alive and network.name in attached_networks(draft, one) and not _takes_part(draft, one)
        }
    )
    if strangers:
        draft.warn(
            "network-in-use",
            f"{cause}; it stays as it is, because {', '.join(strangers)} runs on it and is not part of this command",
            ("networks", network.key),
            hint="`stack up` without service names makes it anew; --remove-orphans ends what the file no longer names",
        )
    else:
        draft.remade_networks[network.name] = cause


def _takes_part(draft: Draft, container: Container) -> bool:
    if container.oneoff:
        return False
    if container.service in draft.stack.services:
        return draft.want(container.service) != "untouched"
    return any(one.container is container and one.ends for one in draft.replicas.get(container.service, ()))


def plan_networks(draft: Draft) -> None:
    """Write down the networks that have to be created, and those that are made anew."""
    for network, users in _needed_networks(draft).values():
        needs: tuple[str, ...] = ()
        cause = draft.remade_networks.get(network.name, "")
        if cause:
            needs = (_remove_network(draft, network.name, cause, draft.all_replicas()),)
        elif network.name in draft.observed.networks or network.external:
            continue
        else:
            cause = f"{', '.join(users)} {'needs' if len(users) == 1 else 'need'} it" if users else NO_USER
        draft.add(
            CreateNetwork(
                id=create_network_operation(network.name),
                subject=network.name,
                cause=cause,
                needs=needs,
                network=network,
            )
        )


def plan_network_removals(draft: Draft) -> None:
    """Write down the removal of every network of the project that no container which stays is on."""
    from orchestrator.reconcile.endings import list_kept

    used = {name for one in list_kept(draft) for name in attached_networks(draft, one)}
    for name, network in sorted(draft.observed.networks.items()):
        if network.project == draft.observed.project and name not in used:
            _remove_network(draft, name, "the project is taken down", draft.all_replicas())


def _remove_network(draft: Draft, name: str, cause: str, replicas: Iterable[Replica]) -> str:
    needs = set()
    for one in replicas:
        if one.container is None or name not in attached_networks(draft, one.container):
            continue
        if one.action == "remove":
            needs.add(f"remove {one.label}")
        elif one.alive and one.action in ("stop", "recreate", "restart"):
            needs.add(f"stop {one.label}")
    return draft.add(
        RemoveNetwork(id=f"remove network {name}", subject=name, cause=cause, needs=tuple(sorted(needs)), name=name)
    )


def _refuse_external(draft: Draft, network: Network, users: list[str]) -> None:
    draft.refuse(
        "external-network-missing",
        f"network {network.name} declared as external, but could not be found; {', '.join(users)} would join it",
        ("networks", network.key),
        hint="create it first, or take `external: true` away so that it belongs to this project",
    )


def _warn_foreign(draft: Draft, network: Network, found: ObservedNetwork) -> None:
    owner = f"project {found.project}" if found.project else "no project"
    draft.warn(
        "network-not-ours",
        f"network {network.name} exists and belongs to {owner}; it is used as it is",
        ("networks", network.key),
        hint="say `external: true` if that is meant, or give it another name",
    )
