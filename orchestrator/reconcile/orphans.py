"""Orphans: containers of the project that its stack file no longer names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.reconcile.draft import Replica, group_oneoffs
from orchestrator.reconcile.init_containers import is_init_container

if TYPE_CHECKING:
    from orchestrator.reconcile.draft import Draft
    from orchestrator.state import Container


def find_orphans(draft: Draft) -> list[Container]:
    """Containers whose service is neither in the stack nor kept off by a profile; one-off containers that had ended
    before the goal was given, and ``pre_start`` containers that nobody waits for any more, whatever their service."""
    known = draft.stack.services.keys() | set(draft.stack.disabled)
    found = [
        one
        for one in draft.observed.containers
        if (_is_left_over(draft, one) if one.oneoff else one.service not in known)
    ]
    return sorted(found, key=lambda one: (one.service, one.number, one.created_at, one.id))


def _is_left_over(draft: Draft, one: Container) -> bool:
    if is_init_container(draft, one):
        # The loop that ran it was killed: while one is waited for, nothing is planned.
        return True
    # While one is being run there is nobody to tell, and its command still wants to know how it ended.
    ended = one.status in ("exited", "dead") and one.finished_at < draft.goal.issued_at
    return (ended or one.abandoned) and not draft.goal.oneoffs


def _explain_removal(draft: Draft, one: Container) -> str:
    """Say why a one-off container goes whatever the goal says: nobody is there any more who waited for it."""
    if one.oneoff and one.abandoned and one.auto_remove and one.id not in draft.goal.oneoffs:
        return "whoever was to start it was killed, and it was to go when it has ended (--rm)"
    # One that has failed stays, so that what it said can be read.
    if is_init_container(draft, one) and (one.status != "exited" or one.exit_code == 0):
        return "whoever waited for it was killed"
    return ""


def decide_orphans(draft: Draft) -> None:
    """Remove the orphans if the goal says so, otherwise warn of them where new containers are asked for."""
    gone = {one.id: cause for one in draft.observed.containers if (cause := _explain_removal(draft, one))}
    for one in draft.observed.containers:
        if one.id in gone:
            _remove(draft, one, gone[one.id])
    orphans = [one for one in find_orphans(draft) if one.id not in gone]
    if not orphans:
        return
    if not draft.goal.remove_orphans:
        if draft.present_services() and not draft.goal.ignore_orphans:
            _warn_orphans(draft, orphans)
        return
    for one in orphans:
        left = "orphan: a one-off container that is left over"
        _remove(draft, one, left if one.oneoff else f"orphan: the stack file has no service {one.service}")


def _remove(draft: Draft, one: Container, cause: str) -> None:
    # What becomes of the service's own replicas is decided later, under its name.
    group = draft.replicas.setdefault(group_oneoffs(one.service) if one.oneoff else one.service, [])
    twin = one.oneoff or any(other.number == one.number for other in group)
    tag = one.id[:12] if twin else ""
    group.append(Replica(one.service, one.number, one.name, one, "remove", cause, tag))


def _warn_orphans(draft: Draft, orphans: list[Container]) -> None:
    strangers = ", ".join(one.name for one in orphans if not one.oneoff)
    if strangers:
        draft.warn(
            "orphan-containers",
            f"{strangers}: the stack file has no such service any more",
            hint="--remove-orphans removes them; if you renamed the service, that is what you want",
        )
    ended = ", ".join(one.name for one in orphans if one.oneoff and not is_init_container(draft, one))
    if ended:
        draft.warn(
            "orphan-containers",
            f"{ended}: left over from `run`",
            hint="--remove-orphans removes them; `run --rm` leaves none",
        )
