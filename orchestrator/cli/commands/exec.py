"""``stack exec``"""

from __future__ import annotations

import sys

import click

from orchestrator.actions.containers import find_replica
from orchestrator.actions.exec import parse_environment, run_exec
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, index_option, stack_command
from orchestrator.engines.base import ExecRequest


@stack_command("exec", context_settings={"allow_interspersed_args": False})
@click.option("-d", "--detach", is_flag=True, help="Do not wait for the command to end.")
@click.option("-e", "--env", "env", multiple=True, metavar="NAME=VALUE", help="Set an environment variable.")
@click.option("-T", "--no-tty", "--no-TTY", "no_tty", is_flag=True, help="No terminal (default: one if this is one).")
@click.option("-u", "--user", metavar="USER", help="Run as this user.")
@click.option("-w", "--workdir", metavar="DIR", help="Run in this directory.")
@click.option("--privileged", is_flag=True, help="Give the command all privileges.")
@click.option("-i", "--interactive/--no-interactive", default=True, hidden=True)
@click.option("-t", "--tty/--disable-tty", "tty", default=None, hidden=True)
@index_option
@dry_run_option
@click.argument("service")
@click.argument("words", nargs=-1, required=True, metavar="COMMAND [ARGS]...", type=click.UNPROCESSED)
@click.pass_obj
def command(
    invocation: Invocation,
    detach: bool,
    env: tuple[str, ...],
    no_tty: bool,
    user: str | None,
    workdir: str | None,
    privileged: bool,
    interactive: bool,
    tty: bool | None,
    index: int | None,
    service: str,
    words: tuple[str, ...],
) -> int:
    """Run a command in a running container."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    request = ExecRequest(
        command=words,
        user=user,
        working_dir=workdir,
        environment=parse_environment(env),
        privileged=privileged,
        tty=not (no_tty or detach) and (tty if tty is not None else terminal),
        stdin=interactive and not detach,
        detach=detach,
    )
    project = invocation.recognize()
    if invocation.dry_run:
        container = find_replica(invocation.engine(), project, service, index)
        from orchestrator.cli.rehearsal import rehearse

        rehearse(invocation, "exec", [container.name])
        return 0
    return run_exec(invocation.engine(), project, service, request, index=index)
