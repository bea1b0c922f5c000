"""``stack plan``"""

from __future__ import annotations

import json
import sys
import time

import click

from orchestrator.actions.goals import UpOptions, choose_build, parse_scale, read_pull
from orchestrator.cli.diagnostics import report_diagnostics
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import build_options, format_option, pull_option, services_argument, stack_command
from orchestrator.errors import UsageError


@stack_command("plan")
@services_argument
@click.option("--scale", "scales", multiple=True, metavar="SERVICE=N", help="As if N replicas were wanted.")
@click.option("--force-recreate", is_flag=True, help="As `up` has it.")
@click.option("--no-recreate", is_flag=True, help="As `up` has it.")
@click.option("--remove-orphans", is_flag=True, help="As `up` has it.")
@click.option("--no-deps", is_flag=True, help="Not the services that they depend on.")
@build_options
@pull_option()
@format_option("text or json.")
@click.pass_obj
def command(
    invocation: Invocation,
    services: tuple[str, ...],
    scales: tuple[str, ...],
    force_recreate: bool,
    no_recreate: bool,
    remove_orphans: bool,
    no_deps: bool,
    build: bool,
    no_build: bool,
    pull: str | None,
    form: str | None,
) -> None:
    """Show what `up` would do, and why, and do nothing."""
    if form not in (None, "text", "json"):
        raise UsageError(f"--format: there is no format {form}", hint="there are text and json")
    from orchestrator.actions.plan import plan_goal
    from orchestrator.actions.prepare_up import prepare_up
    from orchestrator.cli.plans import dump_plan, render_plan

    policy, build = read_pull(pull, build=build)
    project = invocation.load(services)
    options = UpOptions(
        services=services,
        dependencies=not no_deps,
        scale=parse_scale(scales),
        force_recreate=force_recreate,
        no_recreate=no_recreate,
        remove_orphans=remove_orphans,
        build=choose_build(build=build, no_build=no_build),
        pull=policy or "policy",
    )
    goal = prepare_up(project, options)
    plan = plan_goal(invocation.engine(), goal, time.time())
    if form == "json":
        sys.stdout.write(json.dumps(dump_plan(plan, project.name), indent=2, ensure_ascii=False) + "\n")
        return
    report_diagnostics(plan.warnings)
    sys.stdout.write(render_plan(plan, project.name, colour=invocation.colour(sys.stdout)))
