"""``stack start``"""

from __future__ import annotations

import click

from orchestrator.actions.lifecycle import prepare_start
from orchestrator.cli.converging import converge_with_progress
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, services_argument, stack_command


@stack_command("start")
@services_argument
@click.option(
    "--wait", is_flag=True, help="Wait until the services run, and are healthy where they have a health check."
)
@click.option("--wait-timeout", type=click.IntRange(min=0), metavar="SECONDS", help="Wait so long at most.")
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...], wait: bool, wait_timeout: int | None) -> None:
    """Start containers that exist."""
    project = invocation.identify(services)
    goal = prepare_start(invocation.engine(), project, services, wait=wait or bool(wait_timeout))
    converge_with_progress(invocation, goal, "start", timeout=wait_timeout)
