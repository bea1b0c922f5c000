"""``stack attach``"""

from __future__ import annotations

import click

from orchestrator.actions.attach_container import attach_service, parse_detach_keys
from orchestrator.actions.containers import find_replica
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, index_option, stack_command
from orchestrator.engines.base import AttachRequest


@stack_command("attach")
@click.option("--detach-keys", default="ctrl-p,ctrl-q", metavar="KEYS", help="What to type to leave it running.")
@index_option
@dry_run_option
@click.option("--no-stdin", is_flag=True, help="Only watch.")
@click.option("--sig-proxy/--no-sig-proxy", "sig_proxy", default=True, help="Pass signals on (default).")
@click.argument("service")
@click.pass_obj
def command(
    invocation: Invocation, detach_keys: str, index: int | None, no_stdin: bool, sig_proxy: bool, service: str
) -> int:
    """Show what a running container writes from now on, and type to it; the exit code is the container's."""
    if invocation.dry_run:
        container = find_replica(invocation.engine(), invocation.recognize(), service, index)
        from orchestrator.cli.rehearsal import rehearse

        rehearse(invocation, "attach", [container.name])
        return 0
    request = AttachRequest(stdin=not no_stdin, sig_proxy=sig_proxy, detach_keys=parse_detach_keys(detach_keys or ""))
    return attach_service(invocation.engine(), invocation.recognize(), service, request, index=index) or 0
