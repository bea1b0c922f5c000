"""What a goal that was not reached yet leaves to the one that replaces it, and what of it is given up by that.

And how far it came when the user interrupted it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from orchestrator.digest import config_hash
from orchestrator.goal import BuildOptions, Goal, Want

if TYPE_CHECKING:
    from orchestrator.state import ObservedState

T = TypeVar("T")

_SHOWN = 3
"""How many services a sentence names."""


def merge_goals(old: Goal, new: Goal) -> Goal:
    """Return `new`, with what `old` wanted of services that `new` says nothing about, or wants the same of.

    Two commands about different services, given at the same time, then both get what they asked for, and so do two that
    want the same; where they disagree the newer one wins. A ``down``, old or new, takes nothing over.
    """
    if old.down or new.down:
        return new

    def untouched(name: str) -> bool:
        return name in new.stack.services and new.wants.get(name, "untouched") == "untouched"

    def agreed(name: str) -> bool:
        return untouched(name) or (name in new.stack.services and new.wants.get(name) == old.wants.get(name))

    def merge(before: Mapping[str, T], after: Mapping[str, T]) -> dict[str, T]:
        return {**{name: value for name, value in before.items() if untouched(name)}, **after}

    def join(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
        kept = {name: value for name, value in before.items() if agreed(name)}
        return {name: max(kept.get(name, 0.0), after.get(name, 0.0)) for name in {**kept, **after}}

    return new.replace(
        wants=merge(old.wants, new.wants),
        scale=merge(old.scale, new.scale),
        recreate_before=join(old.recreate_before, new.recreate_before),
        restart_before=join(old.restart_before, new.restart_before),
        rerun_before=join(old.rerun_before, new.rerun_before),
        renew_volumes_before=join(old.renew_volumes_before, new.renew_volumes_before),
        build_before=join(old.build_before, new.build_before),
        refresh_before=join(old.refresh_before, new.refresh_before),
        build_options=old.build_options if new.build_options == BuildOptions() else new.build_options,
        prepare=tuple(dict.fromkeys((*(name for name in old.prepare if name in new.stack.services), *new.prepare))),
        oneoffs=tuple(dict.fromkeys((*old.oneoffs, *new.oneoffs))),
        remove_orphans=old.remove_orphans or new.remove_orphans,
        wait_for=tuple(dict.fromkeys((*(name for name in old.wait_for if agreed(name)), *new.wait_for))),
    )


def list_overridden(asked: Goal, merged: Goal) -> tuple[str, ...]:
    """The services, sorted, that `merged` wants something else of than the older goal `asked` did.

    Empty when everything that was asked for comes true with `merged`: whoever asked then waits for it.
    """
    if asked.down and merged.down:
        kept = (asked.remove_volumes and not merged.remove_volumes) or merged.remove_images != asked.remove_images
        kept = kept or (asked.remove_orphans and not merged.remove_orphans)
        return tuple(sorted(asked.stack.services)) if kept else ()
    if asked.down:
        return tuple(sorted(asked.stack.services))
    return tuple(name for name in sorted(asked.wants) if not _is_met(asked, merged, name))


def _is_met(asked: Goal, merged: Goal, name: str) -> bool:
    want = asked.wants[name]
    now: Want = "absent" if merged.down else merged.wants.get(name, "untouched")
    if want == "untouched" or name not in asked.stack.services:
        return True
    if want in ("stopped", "absent"):
        return now == want or (want == "stopped" and now == "absent")
    if now not in ("running", want) or name not in merged.stack.services:
        return False
    if merged.recreate == "never" and asked.recreate != "never":
        return False
    return merged.replicas(name) == asked.replicas(name) and _define(asked, name) == _define(merged, name)


def _define(goal: Goal, name: str) -> tuple[str, str | None]:
    service = goal.stack.services[name]
    return config_hash(service, goal.stack, goal.file_digests), service.image


def explain_superseding(overridden: tuple[str, ...]) -> str:
    """Say, in one sentence, why a command ends although nothing has failed."""
    names = _join(overridden)
    return f"a newer command, given while this one was at work, wants something else of {names}: this one was given up"


def explain_interruption(goal: Goal, observed: ObservedState) -> str:
    """Say how far a goal came that was called off: what runs, and what was not begun.

    ``interrupted; running: cache, db (not healthy yet); not started: api, web``
    """
    running, missing = [], {"started": [], "created": []}  # type: tuple[list[str], dict[str, list[str]]]
    for name in sorted(name for name, want in goal.wants.items() if want in ("running", "created")):
        replicas = observed.of_service(name)
        wanted = goal.replicas(name)
        alive = [one for one in replicas if one.alive]
        if alive:
            remarks = [f"{len(alive)} of {wanted}"] if len(alive) < wanted else []
            remarks += ["not healthy yet"] if any(one.health not in (None, "healthy") for one in alive) else []
            running.append(f"{name} ({', '.join(remarks)})" if remarks else name)
        elif goal.wants[name] == "created":
            if len(replicas) < wanted:
                missing["created"].append(name)
        elif wanted and not any(one.finished_at >= goal.issued_at for one in replicas):
            missing["started"].append(name)
    parts = [("running", running), *((f"not {done}", names) for done, names in missing.items())]
    return "; ".join(("interrupted", *(f"{title}: {_join(names)}" for title, names in parts if names)))


def _join(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
