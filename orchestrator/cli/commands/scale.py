"""``stack scale``"""

from __future__ import annotations

import click

from orchestrator.actions.goals import UpOptions, parse_scale
from orchestrator.cli.converging import converge_with_progress
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import dry_run_option, stack_command


@stack_command("scale")
@click.argument("scales", nargs=-1, required=True, metavar="SERVICE=REPLICAS...")
@click.option("--no-deps", is_flag=True, help="Not the services that they depend on.")
@dry_run_option
@click.pass_obj
def command(invocation: Invocation, scales: tuple[str, ...], no_deps: bool) -> None:
    """Set the number of replicas of services."""
    from orchestrator.actions.prepare_up import prepare_up

    scale = parse_scale(scales)
    project = invocation.load_to_act(tuple(scale))
    goal = prepare_up(project, UpOptions(services=tuple(scale), scale=scale, dependencies=not no_deps))
    converge_with_progress(invocation, goal, "scale", engine=invocation.engine, check=True)
