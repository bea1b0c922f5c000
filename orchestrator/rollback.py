"""The way back after an update that failed: ``update_config.failure_action: rollback`` and ``up --rollback``. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.failures import Failure
from orchestrator.goal import Goal
from orchestrator.model import Service


def plan_rollback(
    goal: Goal, good: Goal | None, failures: Iterable[Failure], images: Mapping[str, str], now: float
) -> Goal | None:
    """Return the goal that leads back, or None where none is wished or none was ever reached.

    `good` is the last goal that was reached, `images` the identifiers of the images that its services ran: a tag may
    mean another one since. With ``rollback`` everything goes back, otherwise the services whose own update failed.
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
        services[name] = before.replace(image=images[name]) if images.get(name) else before
    stack = goal.stack.replace(services=services)
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


def _asks(service: Service) -> bool:
    deploy: Mapping[str, Mapping[str, str]] = service.config.get("deploy") or {}
    return (deploy.get("update_config") or {}).get("failure_action") == "rollback"
