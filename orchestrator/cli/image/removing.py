"""``stack image tag | rm | prune``"""

from __future__ import annotations

import sys
import time

import click

from orchestrator.actions import images as actions
from orchestrator.actions.image_filters import select_images
from orchestrator.cli.image.naming import render_reference
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import stack_command
from orchestrator.cli.quantities import parse_size, render_size
from orchestrator.errors import StackError, UsageError


@stack_command("tag")
@click.argument("source")
@click.argument("target")
def tag_image(source: str, target: str) -> None:
    """Give an image another name."""
    actions.open_image_store().tag_image(source, target)


@stack_command("rm")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--force", is_flag=True, help="Take the name away even from an image that is used.")
@click.option("--no-prune", is_flag=True, help="Remove names only.")
@click.pass_obj
def remove_images(invocation: Invocation, names: tuple[str, ...], force: bool, no_prune: bool) -> int:
    """Remove images."""
    from orchestrator.cli.diagnostics import report_error

    store = actions.open_image_store()
    engine = invocation.engine()
    failed = False
    for name in names:
        try:
            gone = store.remove_image(
                name, force=force, in_use=lambda: actions.list_used_images(engine), keep_untagged=no_prune
            )
        except StackError as error:
            failed = True
            report_error(error)
            continue
        for reference in gone.untagged:
            sys.stdout.write(f"Untagged: {render_reference(reference)}\n")
        for image_id in gone.deleted:
            sys.stdout.write(f"Deleted: {image_id}\n")
    return 1 if failed else 0


@stack_command("prune")
@click.option("-a", "--all", "every", is_flag=True, help="All images that no container uses, named ones too.")
@click.option("--build-cache", is_flag=True, help="Results of builds instead of images.")
@click.option("--keep-storage", metavar="BYTES", help="With --build-cache: leave so much, the last used.")
@click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="until=24h, label=KEY[=VALUE], label!=KEY[=VALUE]."
)
@click.option("-f", "--force", is_flag=True, help="Ask nothing (nothing is ever asked).")
@click.pass_obj
def prune_images(
    invocation: Invocation,
    every: bool,
    build_cache: bool,
    keep_storage: str | None,
    filters: tuple[str, ...],
    force: bool,
) -> None:
    """Remove images, or results of builds, that nothing uses."""
    if keep_storage is not None and not build_cache:
        raise UsageError("stack image prune: --keep-storage is about the build cache", hint="add --build-cache")
    if build_cache:
        _prune_cache(filters, keep_storage)
        return
    store = actions.open_image_store()
    engine = invocation.engine()
    spared: set[str] = set()
    if filters:
        images = store.list_images()
        chosen = select_images(images, filters, time.time(), allowed=("until", "label", "label!", "dangling"))
        # What is not meant is as good as used.
        spared = {one.id for one in images} - {one.id for one in chosen}
        every = every or any(one.replace(" ", "") in ("dangling=false", "dangling=0") for one in filters)
    gone = store.prune(lambda: actions.list_used_images(engine) | spared, unnamed_only=not every)
    for reference in gone.untagged:
        sys.stdout.write(f"Untagged: {render_reference(reference)}\n")
    for image_id in gone.deleted:
        sys.stdout.write(f"Deleted: {image_id}\n")
    sys.stdout.write(f"Total reclaimed space: {render_size(gone.reclaimed)}\n")


def _prune_cache(filters: tuple[str, ...], keep_storage: str | None) -> None:
    from orchestrator.actions.moments import parse_moment
    from orchestrator.engines.native.dockerfile.cache import StepCache

    until: float | None = None
    for text in filters:
        key, _, value = text.partition("=")
        if key not in ("until", "unused-for"):
            raise UsageError(f"--filter: the build cache has no {key}", hint="there is until")
        until = parse_moment(value, time.time(), "--filter until")
    keep = None if keep_storage is None else parse_size(keep_storage, "--keep-storage")
    store = actions.open_image_store()
    gone = store.prune_cache(used_before=until, keep_bytes=keep)
    # Directories of RUN --mount=type=cache are no results: a limit for those says nothing about them.
    freed = StepCache(store).prune_mounts(used_before=until) if keep is None else 0
    sys.stdout.write(f"Results of {len(gone.keys)} build steps forgotten\n")
    sys.stdout.write(f"Total reclaimed space: {render_size(gone.reclaimed + freed)}\n")
