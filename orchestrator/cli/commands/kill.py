"""``stack kill``"""

from __future__ import annotations

import sys

import click

from orchestrator.actions.signal_containers import kill_services
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.marking import tell_lines
from orchestrator.cli.options import dry_run_option, services_argument, stack_command
from orchestrator.cli.rehearsal import rehearse_words


@stack_command("kill")
@services_argument
@click.option("-s", "--signal", default="SIGKILL", show_default=True, metavar="SIGNAL", help="Which signal.")
@click.option("--remove-orphans", "orphans", is_flag=True, help="Containers of services that the file lacks, too.")
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...], signal: str, orphans: bool) -> None:
    """Send a signal to the main processes of running containers."""
    engine, project = invocation.engine(), invocation.recognize()
    tell = rehearse_words(invocation) if invocation.dry_run else tell_lines()
    if not kill_services(engine, project, services, signal, tell, orphans=orphans, act=not invocation.dry_run):
        print("no container to kill", file=sys.stderr)
