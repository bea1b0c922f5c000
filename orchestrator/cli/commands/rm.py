"""``stack rm``"""

from __future__ import annotations

import sys

import click

from orchestrator.actions.lifecycle import choose_removable, prepare_rm, prepare_stop
from orchestrator.actions.signal_containers import remove_stopped
from orchestrator.cli.converging import converge_with_progress
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.marking import tell_lines
from orchestrator.cli.options import dry_run_option, services_argument, stack_command
from orchestrator.errors import UsageError


@stack_command("rm")
@services_argument
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("-s", "--stop", is_flag=True, help="Stop them before.")
@click.option("-v", "--volumes", is_flag=True, help="Their anonymous volumes, too.")
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...], force: bool, stop: bool, volumes: bool) -> None:
    """Remove stopped containers."""
    project = invocation.identify(services)
    engine = invocation.engine()
    chosen = choose_removable(engine.observe(project.name), project, services, running_too=stop)
    if not chosen:
        print("No stopped containers", file=sys.stderr)
        return
    if not force and not invocation.dry_run:
        names = ", ".join(one.name for one in chosen)
        if not sys.stdin.isatty():
            raise UsageError("stack rm: nobody can be asked here", hint="-f removes without asking")
        print(f"Going to remove {names}", file=sys.stderr)
        if not click.confirm("Are you sure?", err=True):
            return
    if stop:
        goal = prepare_stop(engine, project, services, timeout=None)
        if goal is not None:
            converge_with_progress(invocation, goal, "stop")
    if invocation.dry_run:
        from orchestrator.cli.rehearsal import rehearse

        rehearse(invocation, "remove container", [one.name for one in chosen])
        return
    goal = prepare_rm(project, engine.observe(project.name), chosen)
    remove_stopped(engine, chosen, tell_lines(), volumes=volumes)
    if goal is not None:
        # Nothing is left to do: the supervisor is told, so that it does not bring back what was removed.
        converge_with_progress(invocation, goal, "rm")
