"""``stack export``"""

from __future__ import annotations

import sys

import click

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, index_option, stack_command
from orchestrator.errors import UsageError


@stack_command("export")
@index_option
@click.option("-o", "--output", metavar="FILE", help="Write it there (default: standard output).")
@dry_run_option
@click.argument("service")
@click.pass_obj
def command(invocation: Invocation, index: int | None, output: str | None, service: str) -> None:
    """Write the file system of a service's container as a tar archive, without its volumes."""
    from orchestrator.actions.images import open_output
    from orchestrator.actions.snapshot_container import export_service

    if output is None and sys.stdout.isatty():
        raise UsageError("stack export: an archive is nothing for a terminal", hint="-o FILE, or redirect the output")
    engine, project = invocation.engine(), invocation.recognize()
    chunks = export_service(engine, project, service, index)
    if invocation.dry_run:
        from orchestrator.actions.containers import find_replica
        from orchestrator.cli.rehearsal import rehearse

        rehearse(invocation, "export", [find_replica(engine, project, service, index).name])
        return
    engine.require_access()
    if output is None:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    with open_output(output) as file:
        for chunk in chunks:
            file.write(chunk)
