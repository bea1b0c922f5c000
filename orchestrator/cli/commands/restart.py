"""``stack restart``"""

from __future__ import annotations

import click

from orchestrator.actions.lifecycle import prepare_restart
from orchestrator.cli.converging import converge_with_progress
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, services_argument, stack_command, timeout_option


@stack_command("restart")
@services_argument
@timeout_option
@click.option("--no-deps", is_flag=True, help="Not the services that ask to be restarted with them.")
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...], timeout: int | None, no_deps: bool) -> None:
    """Restart the containers of services."""
    project = invocation.identify(services)
    goal = prepare_restart(invocation.engine(), project, services, timeout=timeout, dependents=not no_deps)
    converge_with_progress(invocation, goal, "restart")
