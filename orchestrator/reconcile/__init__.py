"""Reconciliation, pure: (goal, observed state, now) -> Plan.

First everything is decided (which networks are made anew, what becomes of each replica), then operations are written
down with their prerequisites. Both passes go through the services in the order of their dependencies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reconcile.draft import Draft

if TYPE_CHECKING:
    from orchestrator.goal import Goal
    from orchestrator.plan import Plan
    from orchestrator.state import ObservedState


def reconcile(goal: Goal, observed: ObservedState, now: float) -> Plan:
    """Return what has to be done so that `observed` becomes what `goal` asks for; empty when it is.

    `observed` must have been taken with the goal's stack, so that it knows the images and what is external. `now` is
    epoch seconds and only goes into causes ("exited with code 1, 3 min ago"). The plan's warnings are the same on each
    call as long as their reason is there.

    Raises NotFound when something that the goal builds upon does not exist and cannot be made (an external network or
    volume, an image that may not be pulled), ModelError when the goal contradicts itself. Either carries every
    diagnostic, and nothing has been done.
    """
    from orchestrator.reconcile import endings, images, networks, oneoffs, orphans, providers, services, volumes

    draft = Draft(goal, observed, now)
    providers.hold_services(draft)
    if goal.down:
        endings.decide_down(draft)
        endings.plan_endings(draft)
        networks.plan_network_removals(draft)
        volumes.plan_volume_removals(draft)
        providers.plan_providers(draft)
        return draft.finish()
    orphans.decide_orphans(draft)
    networks.decide_networks(draft)
    volumes.decide_volumes(draft)
    services.decide_services(draft)
    images.plan_images(draft)
    networks.plan_networks(draft)
    volumes.plan_volumes(draft)
    endings.plan_endings(draft)
    waits = services.plan_services(draft)
    oneoffs.plan_oneoffs(draft, waits)
    providers.plan_providers(draft)
    return draft.finish()
