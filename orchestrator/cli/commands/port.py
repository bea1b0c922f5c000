"""``stack port``"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from orchestrator.actions.containers import find_replica
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import index_option, stack_command
from orchestrator.errors import NotFound, UsageError

if TYPE_CHECKING:
    from orchestrator.state import Binding


@stack_command("port")
@click.argument("service")
@click.argument("private_port", required=False)
@click.option("--protocol", type=click.Choice(["tcp", "udp"], case_sensitive=False), help="tcp (default) or udp.")
@index_option
@click.pass_obj
def command(
    invocation: Invocation, service: str, private_port: str | None, protocol: str | None, index: int | None
) -> None:
    """Show the host's address of a published port; without one, of all of them."""
    port, slash, given = (private_port or "").partition("/")
    given = given.lower()
    if private_port is not None and (not port.isdecimal() or (slash and given not in ("tcp", "udp"))):
        raise UsageError(f"stack port: {private_port!r} is not a port", hint="write 80 or 53/udp")
    project = invocation.recognize()
    container = find_replica(invocation.engine(), project, service, index)
    if private_port is None:
        for one in container.bindings:
            if protocol in (None, one.protocol):
                sys.stdout.write(f"{one.container_port}/{one.protocol} -> {_render(one)}\n")
        return
    protocol = given or protocol or "tcp"
    found = [one for one in container.bindings if (one.container_port, one.protocol) == (int(port), protocol)]
    if not found:
        shown = ", ".join(sorted({f"{one.container_port}/{one.protocol}" for one in container.bindings}))
        raise NotFound(
            f"port {port}/{protocol} of {container.name} is not published",
            resource=container.name,
            hint=f"published are {shown}" if shown else "the service publishes no port",
        )
    # One address, as scripts expect that put it into a URL; the list has them all.
    first = next((one for one in found if ":" not in one.host_ip), found[0])
    sys.stdout.write(f"{_render(first)}\n")


def _render(one: Binding) -> str:
    host = f"[{one.host_ip}]" if ":" in one.host_ip else one.host_ip
    return f"{host}:{one.host_port}"
