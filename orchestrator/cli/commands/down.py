"""``stack down``"""

from __future__ import annotations

import os
import sys
from typing import Literal, TypedDict

from orchestrator.actions.lifecycle import prepare_down, prepare_whole_down
from orchestrator.cli.converging import converge_with_progress
from orchestrator.cli.declare import DRY_RUN, TIMEOUT, Choice, Option, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.errors import OperationFailed
from orchestrator.model import Stack


class Asked(TypedDict):
    """What the options say."""

    timeout: float | None
    remove_orphans: bool
    remove_volumes: bool
    remove_images: Literal["none", "local", "all"]


@declare(
    "down",
    TIMEOUT,
    Option("-v", "--volumes", flag=True, help="Named volumes of the file and anonymous volumes, too."),
    Option("--remove-orphans", flag=True, help="Containers of services that the file no longer has, too."),
    Option("--rmi", kind=Choice("local", "all"), help="Images, too; local: those without a name of their own."),
    DRY_RUN,
)
def command(
    invocation: Invocation,
    services: tuple[str, ...],
    timeout: int | None,
    volumes: bool,
    remove_orphans: bool,
    rmi: Literal["local", "all"] | None,
) -> None:
    """Stop and remove containers and networks."""
    project = invocation.identify(services)
    asked: Asked = {
        "timeout": timeout,
        "remove_orphans": remove_orphans or os.environ.get("COMPOSE_REMOVE_ORPHANS", "").lower() in ("1", "true"),
        "remove_volumes": volumes,
        "remove_images": rmi or "none",
    }
    goal = None if services else prepare_whole_down(project, **asked)
    if goal is None:
        goal = prepare_down(invocation.engine(), project, services, **asked)
    if goal is None and rmi and project.stack is not None and _remove_images(invocation, project.stack, rmi):
        return
    if goal is None:
        if not services and not invocation.dry_run:
            from orchestrator.supervision.control import Place, clear_place

            clear_place(Place.of(project.name))
        print(f'warning: No resource found to remove for project "{project.name}".', file=sys.stderr)
        return
    converge_with_progress(invocation, goal, "down")
    if goal.down and not invocation.dry_run:
        from orchestrator.actions.folders import forget_isolated

        forget_isolated(goal.stack.directory)
    if rmi:
        _remove_images(invocation, goal.stack, rmi)


def _remove_images(invocation: Invocation, stack: Stack, rmi: str) -> bool:
    """Remove the images of services; whether there were any. Raises OperationFailed after each failure is shown."""
    from orchestrator.actions.images import list_service_images, remove_service_images
    from orchestrator.cli.diagnostics import report_error

    if invocation.dry_run:
        from orchestrator.cli.rehearsal import rehearse

        names = list_service_images(stack, rmi)
        rehearse(invocation, "remove image", names)
        return bool(names)
    removed, failures = remove_service_images(invocation.engine(), stack, rmi)
    for name in removed:
        print(f" Image {name} Removed", file=sys.stderr)
    for error in failures:
        report_error(error)
    if failures:
        raise OperationFailed("")
    return bool(removed)
