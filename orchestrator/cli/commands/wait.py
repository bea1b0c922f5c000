"""``stack wait``"""

from __future__ import annotations

import sys

import click

from orchestrator.actions.containers import choose_containers
from orchestrator.actions.lifecycle import prepare_down
from orchestrator.actions.signal_containers import wait_for_exit
from orchestrator.cli.converging import converge_with_progress
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, stack_command
from orchestrator.state import Container


@stack_command("wait")
@click.option("--down-project", is_flag=True, help="Take the project down as soon as one of them has ended.")
@dry_run_option
@click.argument("services", nargs=-1, required=True, metavar="SERVICE...")
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...], down_project: bool) -> int:
    """Wait until the containers of services have ended; the exit code is that of the last one."""
    engine = invocation.engine()
    if invocation.dry_run:
        project = invocation.recognize()
        from orchestrator.cli.rehearsal import rehearse

        chosen = choose_containers(project, engine.observe(project.name), services)
        rehearse(invocation, "wait container", [one.name for one in chosen])
        return 0

    def tell(container: Container) -> None:
        sys.stdout.write(f"{container.exit_code or 0}\n")
        sys.stdout.flush()

    if not down_project:
        return wait_for_exit(engine, invocation.recognize(), services, tell)
    project = invocation.identify(services)
    code = wait_for_exit(engine, project, services, tell, first=True)
    goal = prepare_down(
        engine, project, (), timeout=None, remove_orphans=False, remove_volumes=False, remove_images="none"
    )
    if goal is not None:
        converge_with_progress(invocation, goal, "down")
    return code
