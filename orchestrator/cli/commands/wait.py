"""``stack wait``"""

from __future__ import annotations

import sys

import click

from orchestrator.actions.signal_containers import wait_for_exit
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import stack_command
from orchestrator.state import Container


@stack_command("wait")
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...]) -> int:
    """Wait until the containers of services have ended; the exit code is that of the last one."""

    def tell(container: Container) -> None:
        sys.stdout.write(f"{container.exit_code or 0}\n")
        sys.stdout.flush()

    return wait_for_exit(invocation.engine(), invocation.recognize(), services, tell)
