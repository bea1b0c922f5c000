"""``pre_start``: containers that run to completion, one after another, before the first container of a service starts.

They run once for the service, not for each replica; again when its containers are made anew, and not when one of them
merely starts again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.plan import RunInit
from orchestrator.reconcile.draft import group_oneoffs
from orchestrator.reconcile.images import image_operation, mount_operations
from orchestrator.reconcile.networks import create_network_operation, service_networks
from orchestrator.reconcile.volumes import create_volume_operation, service_volumes
from orchestrator.spec.pre_start import list_init_services

if TYPE_CHECKING:
    from orchestrator.model import Service
    from orchestrator.reconcile.draft import Draft
    from orchestrator.state import Container


def plan_init(draft: Draft, service: Service, needs: Sequence[str]) -> tuple[str, ...]:
    """Write down the service's ``pre_start`` containers, after `needs`; return what its first start comes after."""
    hooks = list_init_services(service)
    fresh = [one for one in draft.replicas[service.name] if one.fresh]
    kept = [one for one in draft.replicas[service.name] if one.action in ("keep", "restart") and one.alive]
    if not hooks or not fresh or kept or draft.want(service.name) != "running":
        return ()
    # Not those of the others as well: in a rolling update they come after the start that this comes before.
    made = [f"create {fresh[0].label}"] if fresh[0].action != "start" else []
    left = draft.replicas.get(group_oneoffs(service.name), ())
    going = draft.present(f"remove {one.label}" for one in left)
    parts = {one for hook in hooks for one in _prerequisites(draft, hook)}
    last: tuple[str, ...] = tuple(sorted({*needs, *made, *parts, *going}))
    for index, hook in enumerate(hooks):
        name = f"{_name_prefix(draft, service.name)}{index}"
        shaped = hook.replace(container_name=name, config={**hook.config, "container_name": name})
        last = (
            draft.add(
                RunInit(
                    id=f"pre_start {service.name} {index}",
                    subject=name,
                    cause=f"it comes before the start of {service.name}",
                    needs=last,
                    service=shaped,
                    index=index,
                    container_name=name,
                    beside=fresh[0].name,
                )
            ),
        )
    return last


def _prerequisites(draft: Draft, hook: Service) -> tuple[str, ...]:
    """What has to be made before one of these containers can be."""
    ids = [image_operation(draft, hook), *mount_operations(draft, hook)]
    ids += [create_network_operation(one.name) for one in service_networks(draft, hook)]
    ids += [create_volume_operation(one.name) for one in service_volumes(draft, hook)]
    return draft.present(ids)


def is_init_container(draft: Draft, container: Container) -> bool:
    """True for a container that ran, or was to run, a ``pre_start`` hook of its service."""
    return container.oneoff and container.name.startswith(_name_prefix(draft, container.service))


def _name_prefix(draft: Draft, service: str) -> str:
    return draft.stack.separator.join((draft.stack.name, service, "pre_start", ""))
