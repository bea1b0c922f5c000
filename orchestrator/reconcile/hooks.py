"""Lifecycle hooks: ``post_start`` after a container has started, ``pre_stop`` before it is stopped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchestrator.plan import RunHooks
from orchestrator.spec.bind import bind_hooks

if TYPE_CHECKING:
    from orchestrator.model import Service
    from orchestrator.reconcile.draft import Draft, Replica
    from orchestrator.state import Container


def plan_post_start(draft: Draft, service: Service, label: str, name: str, started: str) -> None:
    """Write down the hooks that follow the operation `started`, if the service has any.

    `label` is what operation ids call the container, `name` its own.
    """
    if not service.post_start:
        return
    draft.add(
        RunHooks(
            id=f"post_start {label}",
            subject=name,
            cause="it has started",
            needs=(started,),
            container_name=name,
            service=service.name,
            when="post_start",
            hooks=service.post_start,
        )
    )


def plan_hooks_due(draft: Draft, service: Service, label: str, container: Container) -> None:
    """Write down the hooks that were never run after the container's start, because whoever started it was killed.

    One that was cut short is among them, and is run again.
    """
    hooks = service.post_start[-container.hooks_due :] if container.hooks_due else ()
    if not hooks or container.status != "running":
        return
    draft.add(
        RunHooks(
            id=f"post_start {label}",
            subject=container.name,
            cause="it has started, and its hooks were not run to their end",
            container_name=container.name,
            container_id=container.id,
            service=service.name,
            when="post_start",
            hooks=hooks,
            first=len(service.post_start) - len(hooks),
        )
    )


def plan_pre_stop(draft: Draft, one: Replica, needs: Iterable[str]) -> tuple[str, ...]:
    """Write down the hooks that come before a stop; return what the stop has to come after.

    They are those that the container was made with: it knows nothing of what the file says now.
    """
    container = one.container
    if container is None or container.status != "running" or not container.config.get("pre_stop"):
        return tuple(sorted(needs))
    hooks = draft.add(
        RunHooks(
            id=f"pre_stop {one.label}",
            subject=container.name,
            cause=one.cause,
            needs=tuple(sorted(needs)),
            container_name=container.name,
            container_id=container.id,
            service=one.service,
            when="pre_stop",
            hooks=bind_hooks(container.config["pre_stop"]),
            # What is to go goes: a hook that fails every time must not keep a project from being taken down.
            required=one.action != "remove",
        )
    )
    return (hooks,)
