"""What a goal that was not reached yet leaves to the one that replaces it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from orchestrator.goal import BuildOptions, Goal

T = TypeVar("T")


def merge_goals(old: Goal, new: Goal) -> Goal:
    """Return `new`, with what `old` wanted of services that `new` says nothing about.

    Two commands about different services, given at the same time, then both get what they asked for; where they
    disagree the newer one wins. A ``down``, old or new, takes nothing over.
    """
    if old.down or new.down:
        return new

    def untouched(name: str) -> bool:
        return name in new.stack.services and new.wants.get(name, "untouched") == "untouched"

    def merge(before: Mapping[str, T], after: Mapping[str, T]) -> dict[str, T]:
        return {**{name: value for name, value in before.items() if untouched(name)}, **after}

    return new.replace(
        wants=merge(old.wants, new.wants),
        scale=merge(old.scale, new.scale),
        recreate_before=merge(old.recreate_before, new.recreate_before),
        restart_before=merge(old.restart_before, new.restart_before),
        rerun_before=merge(old.rerun_before, new.rerun_before),
        renew_volumes_before=merge(old.renew_volumes_before, new.renew_volumes_before),
        build_before=merge(old.build_before, new.build_before),
        refresh_before=merge(old.refresh_before, new.refresh_before),
        build_options=old.build_options if new.build_options == BuildOptions() else new.build_options,
        prepare=tuple(dict.fromkeys((*(name for name in old.prepare if name in new.stack.services), *new.prepare))),
        oneoffs=tuple(dict.fromkeys((*old.oneoffs, *new.oneoffs))),
        remove_orphans=old.remove_orphans or new.remove_orphans,
        wait_for=tuple(dict.fromkeys((*(name for name in old.wait_for if untouched(name)), *new.wait_for))),
    )
