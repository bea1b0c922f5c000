"""``stack unpause``"""

from __future__ import annotations

import click

from orchestrator.actions.signal_containers import pause_services
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.marking import tell_lines
from orchestrator.cli.options import services_argument, stack_command


@stack_command("unpause")
@services_argument
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...]) -> None:
    """Let frozen services go on."""
    pause_services(invocation.engine(), invocation.recognize(), services, tell_lines(), paused=False)
