"""The dependency graph of a stack, ready to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.actions.names import resolve_dependencies, select_services
from orchestrator.graph import find_critical_path, find_implied, find_waves, list_edges
from orchestrator.graph.render import Drawing

if TYPE_CHECKING:
    from orchestrator.model import Service, Stack


def draw_stack(stack: Stack, services: Sequence[str] = (), *, explain: bool = True) -> Drawing:
    """Return the drawing of `services` and what they need, or of all. Raises NoSuchService.

    Without `explain`, no edge counts as implied and no chain as the longest (neither is cheap to find).
    """
    chosen = select_services(services, stack.services, disabled=stack.disabled)
    kept = {name: stack.services[name] for name in resolve_dependencies(stack, chosen)}
    edges = list_edges(kept)
    path, seconds = find_critical_path(edges, kept) if explain else ((), 0.0)
    return Drawing(
        project=stack.name,
        images={name: _describe_source(service) for name, service in kept.items()},
        edges=edges,
        waves=find_waves(kept, edges),
        replicas={name: service.scale for name, service in kept.items()},
        implied=frozenset(find_implied(edges)) if explain else frozenset(),
        critical_path=path,
        seconds=seconds,
    )


def _describe_source(service: Service) -> str:
    if service.image:
        return service.image
    if service.build is not None:
        return "built here"
    provider = service.config.get("provider") or {}
    return f"provided by {provider.get('type', '?')}"
