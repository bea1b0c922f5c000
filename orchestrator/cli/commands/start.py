"""``stack start``"""

from __future__ import annotations

from orchestrator.actions.lifecycle import prepare_start
from orchestrator.cli.converging import converge_with_progress
from orchestrator.cli.declare import DRY_RUN, AtLeast, Option, declare
from orchestrator.cli.invocation import Invocation


@declare(
    "start",
    Option("--wait", flag=True, help="Wait until the services run, and are healthy where they have a health check."),
    Option("--wait-timeout", kind=AtLeast(0), metavar="SECONDS", help="Wait so long at most."),
    DRY_RUN,
)
def command(invocation: Invocation, services: tuple[str, ...], wait: bool, wait_timeout: int | None) -> None:
    """Start containers that exist."""
    project = invocation.identify(services)
    goal = prepare_start(invocation.engine(), project, services, wait=wait or bool(wait_timeout))
    converge_with_progress(invocation, goal, "start", timeout=wait_timeout)
