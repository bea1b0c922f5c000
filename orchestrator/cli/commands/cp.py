"""``stack cp``"""

from __future__ import annotations

import sys

import click

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, index_option, stack_command
from orchestrator.state import Container


@stack_command("cp")
@click.option("--all", "every", is_flag=True, help="Containers of the run command, too.")
@click.option("-a", "--archive", is_flag=True, help="Keep the owners of files.")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Copy what a link at the source leads to.")
@index_option
@dry_run_option
@click.argument("source")
@click.argument("target")
@click.pass_obj
def command(
    invocation: Invocation, every: bool, archive: bool, follow: bool, index: int | None, source: str, target: str
) -> None:
    """Copy files out of a container (SERVICE:PATH) or into all containers of a service; - is an archive."""
    from orchestrator.actions.copy_files import CopyOptions, choose_targets, copy_files, parse_place

    options = CopyOptions(source=source, target=target, archive=archive, follow=follow, every=every, index=index)
    project, engine = invocation.recognize(), invocation.engine()
    if invocation.dry_run:
        service = parse_place(source).service or parse_place(target).service
        from orchestrator.cli.rehearsal import rehearse

        rehearse(invocation, "copy", [one.name for one in choose_targets(engine, project, service, options)])
        return
    engine.require_access()
    quiet = invocation.progress == "quiet"

    def tell(container: Container, text: str) -> None:
        if not quiet:
            print(f" {container.name} {text}", file=sys.stderr, flush=True)

    copy_files(engine, project, options, tell, sys.stdin.buffer, sys.stdout.buffer)
