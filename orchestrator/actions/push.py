"""Which images of a project are pushed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.actions.names import resolve_dependencies, select_services

if TYPE_CHECKING:
    from orchestrator.model import Stack


def choose_pushes(
    stack: Stack, services: Sequence[str], *, dependencies: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the image names to push, and the services that have none to push.

    Pushed is what is built here and has a name of its own, with all its tags; all services without names. Raises
    NoSuchService.
    """
    named = select_services(services, stack.services, disabled=stack.disabled)
    if dependencies:
        named = resolve_dependencies(stack, named)
    wanted: dict[str, None] = {}
    skipped = []
    for name in named:
        service = stack.services[name]
        if service.build is None or service.image is None:
            skipped.append(name)
            continue
        wanted.update(dict.fromkeys((service.image, *service.build.tags)))
    return tuple(wanted), tuple(skipped)
