"""Stopping and removing, dependents before what they depend on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from orchestrator.errors import ModelError
from orchestrator.graph import Graph
from orchestrator.plan import RemoveContainer, StopContainer
from orchestrator.reconcile.draft import Replica
from orchestrator.reconcile.hooks import plan_pre_stop

if TYPE_CHECKING:
    from orchestrator.reconcile.draft import Draft
    from orchestrator.state import Container


def decide_down(draft: Draft) -> None:
    """Everything of the project is removed: services and one-off containers, and orphans if the goal says so.

    Another stack file of the same project may have made them, and still want them.
    """
    known = draft.stack.services.keys() | set(draft.stack.disabled)
    kept = []
    for one in sorted(draft.observed.containers, key=lambda c: (c.service, c.number, c.created_at, c.id)):
        if not (draft.goal.remove_orphans or one.oneoff or one.service in known):
            kept.append(one.name)
            continue
        group = draft.replicas.setdefault(one.service, [])
        twin = one.oneoff or any(other.number == one.number and not other.tag for other in group)
        tag = one.id[:12] if twin else ""
        group.append(Replica(one.service, one.number, one.name, one, "remove", "the project is taken down", tag))
    if kept and not draft.goal.ignore_orphans:
        draft.warn(
            "orphan-containers",
            f"{', '.join(kept)}: the stack file has no such service; it stays, and what it uses",
            hint="--remove-orphans removes them, too",
        )


def list_kept(draft: Draft) -> list[Container]:
    """The containers that stay when the project is taken down."""
    going = {one.container.id for one in draft.all_replicas() if one.container is not None}
    return [one for one in draft.observed.containers if one.id not in going]


def plan_endings(draft: Draft) -> None:
    """Write down the stops and removals of all replicas that shall end."""
    graph, order = _stop_order(draft)
    last: dict[str, list[str]] = {}
    for name in reversed(order):
        before = sorted({one for dependent in graph.needed_by[name] for one in last[dependent]})
        stops = [f"stop {one.label}" for one in draft.replicas.get(name, ()) if one.ends and one.alive]
        # A service that stops nothing passes its dependents' stops on: web -> api (gone already) -> db keeps its order.
        last[name] = stops or before
        for one in draft.replicas.get(name, ()):
            if one.ends:
                _plan_ending(draft, one, before)


def _plan_ending(draft: Draft, one: Replica, before: Iterable[str]) -> None:
    container = one.container
    if container is None:
        return
    stopped = ""
    if container.alive:
        stopped = draft.add(
            StopContainer(
                id=f"stop {one.label}",
                subject=container.name,
                cause=one.cause,
                needs=plan_pre_stop(draft, one, before),
                container_id=container.id,
                service=one.service,
                timeout=draft.goal.stop_timeout,
                hold=True,
            )
        )
    if one.action == "remove":
        draft.add(
            RemoveContainer(
                id=f"remove {one.label}",
                subject=container.name,
                cause=one.cause,
                needs=(stopped,) if stopped else (),
                container_id=container.id,
                service=one.service,
                volumes=container.auto_remove or (draft.goal.down and draft.goal.remove_volumes),
            )
        )


def _stop_order(draft: Draft) -> tuple[Graph, tuple[str, ...]]:
    """The graph to stop by, and its order: the stack's own, and for other services what they were made from."""
    needs: dict[str, Iterable[str]] = dict(draft.graph.needs)
    for name, group in draft.replicas.items():
        if name not in needs:
            needs[name] = {one for replica in group if replica.container for one in _recorded_needs(replica.container)}
    graph = Graph(needs)
    try:
        return graph, graph.order()
    except ModelError:
        # Only what is left of former stack files can go in a circle; that has no right order, so any will do.
        return Graph(dict.fromkeys(needs, ())), tuple(sorted(needs))


def _recorded_needs(container: Container) -> Iterable[str]:
    recorded = container.config.get("depends_on")
    return list(recorded) if isinstance(recorded, Mapping) else []
