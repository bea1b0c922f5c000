"""Orphans: containers of the project that its stack file no longer names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reconcile.draft import Replica

if TYPE_CHECKING:
    from orchestrator.reconcile.draft import Draft
    from orchestrator.state import Container


def find_orphans(draft: Draft) -> list[Container]:
    """Containers whose service is neither in the stack nor kept off by a profile; one-off containers never count."""
    known = draft.stack.services.keys() | set(draft.stack.disabled)
    found = [one for one in draft.observed.containers if one.service not in known and not one.oneoff]
    return sorted(found, key=lambda one: (one.service, one.number, one.created_at, one.id))


def decide_orphans(draft: Draft) -> None:
    """Remove the orphans if the goal says so, otherwise warn of them where new containers are asked for."""
    orphans = find_orphans(draft)
    if not orphans:
        return
    if not draft.goal.remove_orphans:
        if draft.present_services():
            names = ", ".join(one.name for one in orphans)
            draft.warn(
                "orphan-containers",
                f"{names}: the stack file has no such service any more",
                hint="--remove-orphans removes them; if you renamed the service, that is what you want",
            )
        return
    for one in orphans:
        group = draft.replicas.setdefault(one.service, [])
        group.append(
            Replica(
                one.service,
                one.number,
                one.name,
                one,
                "remove",
                f"orphan: the stack file has no service {one.service}",
                tag=one.id[:12] if any(other.number == one.number for other in group) else "",
            )
        )
