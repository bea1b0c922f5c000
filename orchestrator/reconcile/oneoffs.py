"""One-off containers (``run``): made by the command itself, started by the same cycle after what they depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.plan import StartContainer
from orchestrator.reconcile.hooks import plan_hooks_due, plan_post_start

if TYPE_CHECKING:
    from orchestrator.reconcile.draft import Draft
    from orchestrator.reconcile.waits import Waits


def plan_oneoffs(draft: Draft, waits: Waits) -> None:
    """Write down the first start of each one-off container of the goal. One that has run, or is gone, is done."""
    wanted = set(draft.goal.oneoffs)
    for one in sorted(draft.observed.containers, key=lambda one: one.name):
        if one.id not in wanted or one.service not in draft.stack.services:
            continue
        service = draft.stack.services[one.service]
        if one.status != "created" or one.finished_at:
            plan_hooks_due(draft, service, one.name, one)
            continue
        started = draft.add(
            StartContainer(
                id=f"start {one.name}",
                subject=one.name,
                cause="it was asked for",
                needs=waits.prerequisites(service),
                container_name=one.name,
                service=one.service,
                number=one.number,
                hooks=len(service.post_start),
            )
        )
        plan_post_start(draft, service, one.name, one.name, started)
