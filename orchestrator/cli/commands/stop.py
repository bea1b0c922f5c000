"""``stack stop``"""

from __future__ import annotations

import click

from orchestrator.actions.lifecycle import prepare_stop
from orchestrator.cli.converging import converge_with_progress
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, services_argument, stack_command, timeout_option


@stack_command("stop")
@services_argument
@timeout_option
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...], timeout: int | None) -> None:
    """Stop services; their containers stay and can be started again."""
    project = invocation.identify(services)
    goal = prepare_stop(invocation.engine(), project, services, timeout=timeout)
    if goal is not None:
        converge_with_progress(invocation, goal, "stop")
