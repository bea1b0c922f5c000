"""``stack commit``"""

from __future__ import annotations

import sys

import click

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, index_option, stack_command
from orchestrator.engines.base import CommitRequest


@stack_command("commit")
@click.option("-a", "--author", default="", metavar="AUTHOR", help="Who made the image.")
@click.option("-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help="Apply a Dockerfile instruction.")
@index_option
@click.option("-m", "--message", default="", metavar="TEXT", help="Why it was made.")
@click.option("-p", "--pause/--no-pause", "pause", default=True, help="Freeze the container meanwhile (default).")
@dry_run_option
@click.argument("service")
@click.argument("reference", required=False, metavar="[REPOSITORY[:TAG]]")
@click.pass_obj
def command(
    invocation: Invocation,
    author: str,
    changes: tuple[str, ...],
    index: int | None,
    message: str,
    pause: bool,
    service: str,
    reference: str | None,
) -> None:
    """Make an image of the file system and configuration of a service's container."""
    from orchestrator.actions.snapshot_container import commit_service

    request = CommitRequest(reference=reference or "", author=author, message=message, changes=changes, pause=pause)
    engine, project = invocation.engine(), invocation.recognize()
    if invocation.dry_run:
        from orchestrator.actions.containers import find_replica
        from orchestrator.cli.rehearsal import rehearse

        rehearse(invocation, "commit", [find_replica(engine, project, service, index).name])
        return
    engine.require_access()
    made = commit_service(engine, project, service, index, request)
    print(f" {service} Committed as {made}", file=sys.stderr)
