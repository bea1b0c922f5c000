"""``stack image pull | push``"""

from __future__ import annotations

import sys

import click

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import stack_command


@stack_command("pull")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--platform", metavar="OS/ARCH", help="Which variant (default: this machine's).")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_obj
def pull_images(invocation: Invocation, names: tuple[str, ...], platform: str | None, quiet: bool) -> None:
    """Fetch images from their registries."""
    from orchestrator.cli.pulling import pull_with_progress

    pull_with_progress(invocation, names, platform=platform, quiet=quiet)


@stack_command("push")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-a", "--all-tags", is_flag=True, help="Every tag that the repository has here.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_obj
def push_images(invocation: Invocation, names: tuple[str, ...], all_tags: bool, quiet: bool) -> None:
    """Send images to their registries; prints each name with the digest that it has there."""
    from orchestrator.actions.images import list_tags
    from orchestrator.cli.pushing import push_with_progress

    wanted = tuple(tag for name in names for tag in list_tags(name)) if all_tags else names
    digests = push_with_progress(invocation, wanted, quiet=quiet)
    for name, digest in digests.items():
        sys.stdout.write(f"{name}: digest: {digest}\n")
