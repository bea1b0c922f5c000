"""``stack image fsck``"""

from __future__ import annotations

import sys

import click

from orchestrator.actions import images as actions
from orchestrator.cli.options import stack_command


@stack_command("fsck")
@click.option("--quick", is_flag=True, help="Compare records only; read no file of a layer.")
@click.option("--repair", is_flag=True, help="Remove what is damaged, so that it can be fetched or built again.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing when all is well.")
def check_images(quick: bool, repair: bool, quiet: bool) -> int:
    """Check that the image store is whole: names, records, and every file of every layer against its digest."""
    store = actions.open_image_store()
    problems = store.fsck(deep=not quick)
    for one in problems:
        print(one, file=sys.stderr)
    if problems and repair:
        lost = store.repair(deep=not quick)
        for name in lost:
            print(f"removed: {name}: pull or build it again", file=sys.stderr)
        problems = store.fsck(deep=not quick)
    if problems:
        print(f"{len(problems)} problems; 'stack image fsck --repair' removes what is damaged", file=sys.stderr)
        return 1
    if not quiet:
        print("the image store is whole")
    return 0
