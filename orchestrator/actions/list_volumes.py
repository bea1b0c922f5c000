"""The named volumes of a project, as ``volumes`` shows them."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.actions.containers import choose_containers
from orchestrator.actions.project import Project
from orchestrator.engines.base import Engine
from orchestrator.state import ObservedVolume


def list_volumes(engine: Engine, project: Project, services: Sequence[str]) -> tuple[ObservedVolume, ...]:
    """The project's named volumes by name; with `services` those that their containers mount. NoSuchService."""
    observed = engine.observe(project.name)
    named = [one for _name, one in sorted(observed.volumes.items()) if one.key and one.project == project.name]
    if services:
        containers = choose_containers(project, observed, services)
        mounted = {name for one in containers for name in one.volumes.values()}
        named = [one for one in named if one.name in mounted]
    return tuple(named)
