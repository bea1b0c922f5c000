"""``stack pause``"""

from __future__ import annotations

import click

from orchestrator.actions.signal_containers import pause_services
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.marking import tell_lines
from orchestrator.cli.options import services_argument, stack_command


@stack_command("pause")
@services_argument
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...]) -> None:
    """Freeze all processes of services."""
    pause_services(invocation.engine(), invocation.recognize(), services, tell_lines(), paused=True)
