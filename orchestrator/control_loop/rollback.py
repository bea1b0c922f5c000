"""The way back after an update that failed: ``update_config.failure_action: rollback`` and ``up --rollback``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.control_loop.failures import Failure
from orchestrator.goal import Goal
from orchestrator.model import Service, Stack
from orchestrator.spec.positions import Map


def plan_rollback(
    goal: Goal, good: Goal | None, failures: Iterable[Failure], images: Mapping[str, str], now: float
) -> Goal | None:
    """Return the goal that leads back, or None where none is wished or none was ever reached.

    `good` is the last goal that was reached, `images` the identifiers of those images that its services ran and whose
    names mean others since. With ``rollback`` everything goes back, otherwise the services whose own update failed.
    """
    if goal.down or goal.rolling_back or good is None or good.down:
        return None
    failed = {one.service for one in failures}
    if goal.rollback:
        back = set(goal.wants)
    else:
        back = {name for name in failed & goal.wants.keys() if _asks(goal.stack.services[name])}
    if not back:
        return None
    services = dict(goal.stack.services)
    for name in sorted(back):
        before = good.stack.services.get(name)
        if before is None:
            continue
        if images.get(name):
            before = before.replace(image=images[name], config={**before.config, "image": images[name]})
        services[name] = before
    stack = _replace_services(goal.stack, services, back)
    stack = _restore_resources(stack, good.stack, back, everything=goal.rollback)
    known = {name for name in back if name in good.stack.services}
    wants = {name: good.wants.get(name, "running") for name in known}
    # A service that is new has no earlier state: it goes.
    wants |= dict.fromkeys(back - known, "absent")
    return Goal(
        stack=stack,
        wants=wants,
        issued_at=now,
        scale={**goal.scale, **{name: count for name, count in good.scale.items() if name in known}},
        stop_timeout=goal.stop_timeout,
        pull="missing",
        file_digests=good.file_digests,
        rolling_back=True,
    )


def _replace_services(stack: Stack, services: Mapping[str, Service], changed: Iterable[str]) -> Stack:
    """The stack with other services; its tree too, which is what is kept for a supervisor that takes over."""
    # Merging is the loader's; a supervisor needs it here alone.
    from orchestrator.spec.merge import copy_map

    tree = stack.tree
    if isinstance(tree, Map):
        tree = copy_map(tree)
        tree["services"] = copy_map(tree["services"])
        for name in changed:
            tree["services"][name] = services[name].config
    return stack.replace(services=services, tree=tree)


def _restore_resources(stack: Stack, good: Stack, back: Iterable[str], *, everything: bool) -> Stack:
    """The stack with the networks, volumes, secrets and configs that services from before refer to and it lacks; with
    `everything` as they were before."""
    from orchestrator.spec.merge import copy_map
    from orchestrator.spec.pre_start import list_init_services

    used: dict[str, set[str]] = {"networks": set(), "volumes": set(), "secrets": set(), "configs": set()}
    restored = [good.services[name] for name in back if name in good.services]
    for one in (one for service in restored for one in (service, *list_init_services(service))):
        used["networks"] |= one.networks.keys()
        used["volumes"] |= {mount.source for mount in one.volumes if mount.type == "volume" and mount.source}
        used["secrets"] |= {file.source for file in one.secrets}
        used["configs"] |= {file.source for file in one.configs}
    tree = copy_map(stack.tree) if isinstance(stack.tree, Map) else stack.tree
    sections = {}
    for section, keys in used.items():
        there, before = getattr(stack, section), getattr(good, section)
        brought = sorted(key for key in keys & before.keys() if everything or key not in there)
        sections[section] = {**there, **{key: before[key] for key in brought}}
        if brought and isinstance(tree, Map):
            tree[section] = copy_map(tree[section]) if isinstance(tree.get(section), Map) else Map()
            tree[section].update({key: before[key].config for key in brought})
    return stack.replace(tree=tree, **sections)


def _asks(service: Service) -> bool:
    deploy: Mapping[str, Mapping[str, str]] = service.config.get("deploy") or {}
    return (deploy.get("update_config") or {}).get("failure_action") == "rollback"
