"""``stack port``"""

from __future__ import annotations

import sys

import click

from orchestrator.actions.containers import find_replica
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import index_option, stack_command
from orchestrator.errors import NotFound, UsageError


@stack_command("port")
@click.argument("service")
@click.argument("private_port")
@click.option("--protocol", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True, help="tcp or udp.")
@index_option
@click.pass_obj
def command(invocation: Invocation, service: str, private_port: str, protocol: str, index: int | None) -> None:
    """Show the host's address of a published port."""
    port, slash, given = private_port.partition("/")
    if not port.isdecimal() or (slash and given not in ("tcp", "udp")):
        raise UsageError(f"stack port: {private_port!r} is not a port", hint="write 80 or 53/udp")
    protocol = given or protocol
    project = invocation.recognize()
    container = find_replica(invocation.engine(), project, service, index)
    found = [one for one in container.bindings if (one.container_port, one.protocol) == (int(port), protocol)]
    if not found:
        shown = ", ".join(sorted({f"{one.container_port}/{one.protocol}" for one in container.bindings}))
        raise NotFound(
            f"port {port}/{protocol} of {container.name} is not published",
            resource=container.name,
            hint=f"published are {shown}" if shown else "the service publishes no port",
        )
    for one in found:
        host = f"[{one.host_ip}]" if ":" in one.host_ip else one.host_ip
        sys.stdout.write(f"{host}:{one.host_port}\n")
