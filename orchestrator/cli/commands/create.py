"""``stack create``"""

from __future__ import annotations

import click

from orchestrator.actions.goals import UpOptions, choose_build, parse_scale, read_pull
from orchestrator.cli.converging import converge_with_progress
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import build_options, dry_run_option, pull_option, services_argument, stack_command
from orchestrator.cli.owning import load_own


@stack_command("create")
@services_argument
@click.option("--scale", "scales", multiple=True, metavar="SERVICE=N", help="Make N replicas of a service.")
@click.option("--force-recreate", is_flag=True, help="Recreate containers even if nothing has changed.")
@click.option("--no-recreate", is_flag=True, help="Leave containers that exist as they are.")
@click.option("--remove-orphans", is_flag=True, help="Remove containers of services that the file no longer has.")
@build_options
@pull_option()
@click.option("--quiet-pull", is_flag=True, help="No progress of fetched images.")
@click.option(
    "-y",
    "--yes",
    is_flag=True,
    help="Ask nothing: yes, also to losing the data of volumes that are declared differently.",
)
@dry_run_option
@click.pass_obj
def command(
    invocation: Invocation,
    services: tuple[str, ...],
    scales: tuple[str, ...],
    force_recreate: bool,
    no_recreate: bool,
    remove_orphans: bool,
    build: bool,
    no_build: bool,
    pull: str | None,
    quiet_pull: bool,
    yes: bool,
) -> None:
    """Create containers without starting them."""
    from orchestrator.actions.prepare_up import prepare_up
    from orchestrator.cli.consenting import ask_to_renew

    policy, build = read_pull(pull, build=build)
    project = load_own(invocation, services, yes=yes)
    goal = prepare_up(
        project,
        UpOptions(
            services=services,
            start=False,
            scale=parse_scale(scales),
            force_recreate=force_recreate,
            no_recreate=no_recreate,
            remove_orphans=remove_orphans,
            build=choose_build(build=build, no_build=no_build),
            pull=policy or "policy",
            renew_volumes=ask_to_renew(invocation, project.stack, yes=yes),
        ),
    )
    hide = ("pull image",) if quiet_pull else ()
    converge_with_progress(invocation, goal, "create", engine=invocation.engine, check=True, hide=hide)
