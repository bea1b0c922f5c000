"""``stack image ls``"""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from orchestrator.actions import images as actions
from orchestrator.actions.image_filters import select_images
from orchestrator.cli.image.naming import shorten_id
from orchestrator.cli.options import format_option, stack_command
from orchestrator.cli.quantities import render_duration, render_moment, render_size
from orchestrator.cli.table import render_listing

_HEADER = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
}


@stack_command("ls")
@click.argument("name", required=False)
@click.option("-a", "--all", "every", is_flag=True, help="Accepted for compatibility: there are no hidden images.")
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="dangling=true, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=24h.",
)
@click.option("-q", "--quiet", is_flag=True, help="Only identifiers.")
@click.option("--no-trunc", is_flag=True, help="Do not shorten.")
@click.option("--digests", is_flag=True, help="Digests too.")
@format_option()
def list_images(
    name: str | None,
    every: bool,
    filters: tuple[str, ...],
    quiet: bool,
    no_trunc: bool,
    digests: bool,
    form: str | None,
) -> None:
    """List the images of this machine."""
    store = actions.open_image_store()
    images = select_images(store.list_images(), filters, time.time(), resolve=store.resolve_image)
    rows = actions.list_image_rows(images)
    if name:
        rows = tuple(one for one in rows if name in (one.repository, f"{one.repository}:{one.tag}"))
    if quiet:
        for image_id in dict.fromkeys(one.image_id for one in rows):
            sys.stdout.write(f"{image_id if no_trunc else shorten_id(image_id)}\n")
        return
    _write_rows([_describe_row(one, trunc=not no_trunc) for one in rows], form, digests=digests)


def _write_rows(rows: list[dict[str, Any]], form: str | None, *, digests: bool) -> None:
    header = dict(_HEADER)
    if digests:
        header = {"Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", **_HEADER}
    sys.stdout.write(render_listing(form, header, rows))


def _describe_row(row: actions.ImageRow, *, trunc: bool) -> dict[str, Any]:
    ago = f"{render_duration(time.time() - row.created)} ago" if row.created else "N/A"
    return {
        "Repository": row.repository,
        "Tag": row.tag,
        "ID": shorten_id(row.image_id) if trunc else row.image_id,
        "CreatedAt": render_moment(row.created) if row.created else "",
        "CreatedSince": ago,
        "Digest": row.digest or "<none>",
        "Size": render_size(row.size),
    }
