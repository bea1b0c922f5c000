"""The goals of ``start``, ``stop``, ``restart``, ``rm`` and ``down``: what exists, and which services are meant."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from orchestrator.actions.containers import count_replicas, known_services
from orchestrator.actions.goals import edit_down, edit_restart, edit_start, edit_want
from orchestrator.actions.names import resolve_dependencies, select_services
from orchestrator.actions.project import Project, has_goal, recall_goal, stack_for_goal
from orchestrator.errors import NotFound
from orchestrator.goal import Goal
from orchestrator.state import Container, ObservedState

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine
    from orchestrator.model import Stack


def prepare_start(engine: Engine, project: Project, services: Sequence[str], *, wait: bool) -> Goal:
    """Want the containers of `services`, and of what they depend on, running. Raises NotFound where there are none.

    What is named is started even if it has completed.
    """
    observed = engine.observe(project.name)
    previous = recall_goal(project.name)
    stack = stack_for_goal(project, previous)
    named = _select(project, observed, services)
    _refuse_orphans(stack, services, "start")
    wanted = resolve_dependencies(stack, named) if services else named
    existing = count_replicas(observed, wanted)
    for name in named:
        service = stack.services.get(name)
        if name not in existing and service is not None and service.scale > 0:
            raise NotFound(
                f"service {name} has no container to start",
                resource=name,
                operation="start",
                hint=f"`stack up -d {name}` creates and starts it",
            )
    return edit_start(stack, previous, existing, time.time(), wait=wait, rerun=named if services else ())


def prepare_stop(engine: Engine, project: Project, services: Sequence[str], *, timeout: float | None) -> Goal | None:
    """Want `services` stopped; None if there is nothing that could be stopped."""
    observed = engine.observe(project.name)
    previous = recall_goal(project.name)
    named = _select(project, observed, services)
    if not count_replicas(observed, named):
        return None
    return edit_want(stack_for_goal(project, previous), previous, named, "stopped", time.time(), timeout=timeout)


def find_unknown(project: Project, engine: Engine, goal: Goal, services: Sequence[str]) -> tuple[Container, ...]:
    """Running containers of named `services` (none: all of the file) that the goal's stack does not have: a goal cannot
    speak of them."""
    named = set(services or (project.stack.services if project.stack else ())) - goal.stack.services.keys()
    found = engine.observe(project.name).containers if named else ()
    return tuple(one for one in found if one.service in named and one.alive)


def prepare_restart(
    engine: Engine, project: Project, services: Sequence[str], *, timeout: float | None, dependents: bool
) -> Goal | None:
    """Want the containers of `services` restarted; None where none was named and there is none.

    Raises NotFound where the named ones have none.
    """
    observed = engine.observe(project.name)
    previous = recall_goal(project.name)
    stack = stack_for_goal(project, previous)
    named = _select(project, observed, services)
    existing = count_replicas(observed, known_services(project, observed))
    if not any(name in existing for name in named):
        if not services:
            return None
        raise NotFound(
            f"no container to restart in project {project.name}",
            resource=project.name,
            operation="restart",
            hint="`stack up -d` creates and starts the services",
        )
    _refuse_orphans(stack, services, "restart")
    return edit_restart(stack, previous, named, existing, time.time(), timeout=timeout, dependents=dependents)


def prepare_whole_down(
    project: Project,
    *,
    timeout: float | None,
    remove_orphans: bool,
    remove_volumes: bool,
    remove_images: Literal["none", "local", "all"],
) -> Goal | None:
    """Like prepare_down for all services, without an engine: None where only that knows whether there is anything."""
    if project.stack is None or not has_goal(project.name):
        return None
    return edit_down(
        project.stack,
        time.time(),
        timeout=timeout,
        remove_orphans=remove_orphans,
        remove_volumes=remove_volumes,
        remove_images=remove_images,
    )


def prepare_down(
    engine: Engine,
    project: Project,
    services: Sequence[str],
    *,
    timeout: float | None,
    remove_orphans: bool,
    remove_volumes: bool,
    remove_images: Literal["none", "local", "all"],
) -> Goal | None:
    """Want everything of the project gone, or only the containers of `services`; None if there is nothing at all."""
    observed = engine.observe(project.name)
    previous = recall_goal(project.name)
    stack = stack_for_goal(project, previous)
    named = _select(project, observed, services) if services else ()
    if not (observed.containers or observed.networks or observed.volumes or previous):
        return None
    if named:
        return edit_want(stack, previous, named, "absent", time.time(), timeout=timeout)
    # Without a file there is no telling who is an orphan: the name alone means all of it.
    orphans = remove_orphans or project.stack is None
    return edit_down(
        stack,
        time.time(),
        timeout=timeout,
        remove_orphans=orphans,
        remove_volumes=remove_volumes,
        remove_images=remove_images,
    )


def choose_removable(
    observed: ObservedState, project: Project, services: Sequence[str], *, running_too: bool
) -> tuple[Container, ...]:
    """Containers that ``rm`` removes: those that do not run, or all of them."""
    named = set(_select(project, observed, services))
    return tuple(
        one for one in observed.containers if one.service in named and not one.oneoff and (running_too or not one.alive)
    )


def prepare_rm(project: Project, observed: ObservedState, chosen: Sequence[Container]) -> Goal | None:
    """Want the services absent whose containers are all `chosen`; None if there is no such service."""
    ids = {one.id for one in chosen}
    services = {one.service for one in chosen}
    whole = [name for name in sorted(services) if all(one.id in ids for one in observed.of_service(name))]
    previous = recall_goal(project.name)
    stack = stack_for_goal(project, previous)
    goal = edit_want(stack, previous, whole, "absent", time.time())
    return goal if goal.wants else None


def _refuse_orphans(stack: Stack, named: Sequence[str], operation: str) -> None:
    """A goal speaks of the services of its stack: what has left the file can end, but not begin."""
    for name in named:
        if name not in stack.services:
            raise NotFound(
                f"service {name} cannot be started: it is not in the stack file any more",
                resource=name,
                operation=operation,
                hint="`stack up -d --remove-orphans` removes its containers",
            )


def _select(project: Project, observed: ObservedState, services: Sequence[str]) -> tuple[str, ...]:
    if not services and project.stack is not None:
        # What the file no longer has is an orphan; it is dealt with where somebody names it, or asks for orphans.
        return tuple(sorted(project.stack.services))
    return select_services(services, known_services(project, observed))
