"""``stack unpause``"""

from __future__ import annotations

import click

from orchestrator.actions.signal_containers import pause_services
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.marking import tell_lines
from orchestrator.cli.options import dry_run_option, services_argument, stack_command
from orchestrator.cli.rehearsal import rehearse_words


@stack_command("unpause")
@services_argument
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...]) -> None:
    """Let frozen services go on."""
    tell = rehearse_words(invocation) if invocation.dry_run else tell_lines()
    act = not invocation.dry_run
    pause_services(invocation.engine(), invocation.recognize(), services, tell, paused=False, act=act)
