"""``stack restart``"""

from __future__ import annotations

import sys

from orchestrator.actions.lifecycle import prepare_restart
from orchestrator.cli.converging import converge_with_progress
from orchestrator.cli.declare import DRY_RUN, TIMEOUT, Option, declare
from orchestrator.cli.invocation import Invocation


@declare(
    "restart",
    TIMEOUT,
    Option("--no-deps", flag=True, help="Not the services that ask to be restarted with them."),
    DRY_RUN,
)
def command(invocation: Invocation, services: tuple[str, ...], timeout: int | None, no_deps: bool) -> None:
    """Restart the containers of services."""
    project = invocation.identify(services)
    goal = prepare_restart(invocation.engine(), project, services, timeout=timeout, dependents=not no_deps)
    if goal is None:
        print(f"warning: no container to restart in project {project.name}", file=sys.stderr)
        return
    converge_with_progress(invocation, goal, "restart")
