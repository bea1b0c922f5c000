"""``pre_start``: containers like the service's own, with what they say themselves merged in as a later file is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.spec.bind import bind_service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.model import Service

_NOT_INHERITED = frozenset(
    (
        *("pre_start", "post_start", "pre_stop", "healthcheck", "ports", "expose", "restart", "container_name"),
        *("develop", "depends_on", "build", "scale", "stdin_open", "tty", "attach", "profiles", "x-stack"),
    )
)
_LIMITS = (
    ("cpus", "limits", "cpus"),
    ("mem_limit", "limits", "memory"),
    ("pids_limit", "limits", "pids"),
    ("mem_reservation", "reservations", "memory"),
)
"""Attributes, and what says the same below ``deploy.resources`` and wins over them."""


def list_init_services(service: Service) -> tuple[Service, ...]:
    """What each ``pre_start`` container of a service is made from, as a service of its own: the service's canonical
    subtree with the hook's merged over it. A hook's image is the service's unless it says another.
    """
    hooks = service.config.get("pre_start")
    return tuple(_shape(service, hook) for hook in hooks) if hooks else ()


def _shape(service: Service, hook: Mapping[str, Any]) -> Service:
    from orchestrator.spec.attributes import SERVICE
    from orchestrator.spec.merge import merge_service
    from orchestrator.spec.positions import Problems

    base = {key: value for key, value in service.config.items() if key not in _NOT_INHERITED}
    own = {key: value for key, value in hook.items() if value is not None and key != "per_replica"}
    if "network_mode" in own:
        base.pop("networks", None)
    elif "networks" in own:
        base.pop("network_mode", None)
    if "deploy" in base:
        base["deploy"] = {"resources": _without(base["deploy"].get("resources") or {}, own)}
    merged = merge_service(SERVICE, _plant(base), _plant(own), (), Problems())
    merged["image"] = hook.get("image") or service.image
    return bind_service(service.name, merged, {})


def _without(resources: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    kept = {group: dict(values) if isinstance(values, dict) else values for group, values in resources.items()}
    for attribute, group, key in _LIMITS:
        if own.get(attribute) and isinstance(kept.get(group), dict):
            kept[group].pop(key, None)
    return kept


def _plant(value: Any) -> Any:
    """The same with places, nowhere: what is merged here was checked where it was written."""
    from orchestrator.spec.positions import Map, Seq

    if isinstance(value, dict):
        mapping = Map()
        for key, item in value.items():
            mapping.put(key, _plant(item), (0, 0))
        return mapping
    if isinstance(value, list | tuple):
        items = Seq()
        for item in value:
            items.add(_plant(item), 0)
        return items
    return value
