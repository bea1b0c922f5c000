"""``stack push``"""

from __future__ import annotations

import click

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import services_argument, stack_command
from orchestrator.cli.pushing import push_services


@stack_command("push")
@services_argument
@click.option("--ignore-push-failures", is_flag=True, help="Go on, and succeed, when an image cannot be sent.")
@click.option("--include-deps", is_flag=True, help="Images of the services that they depend on, too.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_obj
def command(
    invocation: Invocation, services: tuple[str, ...], ignore_push_failures: bool, include_deps: bool, quiet: bool
) -> None:
    """Send the images of services that are built here to their registries."""
    stack = invocation.load_to_act(services).stack
    assert stack is not None
    push_services(
        invocation,
        stack,
        services,
        dependencies=include_deps,
        quiet=quiet,
        ignore_failures=ignore_push_failures,
    )
