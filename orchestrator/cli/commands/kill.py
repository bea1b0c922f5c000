"""``stack kill``"""

from __future__ import annotations

import click

from orchestrator.actions.signal_containers import kill_services
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.marking import tell_lines
from orchestrator.cli.options import services_argument, stack_command


@stack_command("kill")
@services_argument
@click.option("-s", "--signal", default="SIGKILL", show_default=True, metavar="SIGNAL", help="Which signal.")
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...], signal: str) -> None:
    """Send a signal to the main processes of running containers."""
    kill_services(invocation.engine(), invocation.recognize(), services, signal, tell_lines())
