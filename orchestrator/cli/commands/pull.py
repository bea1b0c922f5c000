"""``stack pull``"""

from __future__ import annotations

from collections.abc import Collection

import click

from orchestrator.actions.names import resolve_dependencies, select_services
from orchestrator.actions.pull import choose_pulls, needs_presence
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import services_argument, stack_command
from orchestrator.cli.pulling import pull_services
from orchestrator.reconcile.images import list_builders


@stack_command("pull")
@services_argument
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--include-deps", is_flag=True, help="Images of the services that they depend on, too.")
@click.option("--ignore-buildable", is_flag=True, help="Leave out images that can be built.")
@click.option("--ignore-pull-failures", is_flag=True, help="Go on, and succeed, when an image cannot be fetched.")
@click.option("--locked", is_flag=True, help="The images of stack.lock, by their digests.")
@click.option(
    "--policy", type=click.Choice(["always", "missing"]), help="missing: only what is not here, or is called latest."
)
@click.pass_obj
def command(
    invocation: Invocation,
    services: tuple[str, ...],
    quiet: bool,
    include_deps: bool,
    ignore_buildable: bool,
    ignore_pull_failures: bool,
    locked: bool,
    policy: str | None,
) -> None:
    """Fetch the images of services."""
    project = invocation.load_to_act(services)
    if locked:
        from orchestrator.actions.lock import hold_to_lock

        project = hold_to_lock(project)
    stack = project.stack
    assert stack is not None
    names = select_services(services, stack.services, disabled=stack.disabled)
    if include_deps:
        names = resolve_dependencies(stack, names)
    builders = {reference: service.name for reference, service in list_builders(stack).items()}
    present: Collection[str] = ()
    if needs_presence(stack, names, policy):
        present = invocation.engine().observe(project.name, stack).images
    leave_out = tuple(builders) if ignore_buildable else ()
    pulls = choose_pulls(stack, names, present, policy=policy, leave_out=leave_out)
    pull_services(invocation, pulls, builders, quiet=quiet, ignore_failures=ignore_pull_failures)
