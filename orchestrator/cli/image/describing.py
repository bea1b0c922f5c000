"""``stack image inspect | history``"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from orchestrator.actions import images as actions
from orchestrator.cli.image.naming import render_reference, shorten_id
from orchestrator.cli.options import format_option, stack_command
from orchestrator.cli.quantities import render_duration, render_moment, render_size, shorten

if TYPE_CHECKING:
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.store import ImageStore

_HISTORY = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT"}
_SHOWN_COMMAND = 45


@stack_command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--format", "form", metavar="FORMAT", help="json, or a Go template.")
def inspect_images(names: tuple[str, ...], form: str | None) -> None:
    """Show all that is known of images, as JSON."""
    store = actions.open_image_store()
    shown = [describe_image(store, store.require_image(name)) for name in names]
    if form in (None, "json"):
        sys.stdout.write(json.dumps(shown, indent=2 if form is None else None, ensure_ascii=False) + "\n")
        return
    from orchestrator.cli.gotemplate import render_template

    for one in shown:
        sys.stdout.write(render_template(str(form), one) + "\n")


def describe_image(store: ImageStore, image: Image) -> dict[str, Any]:
    """What docker's Engine API tells of an image, under the same names."""
    raw = json.loads(store.read_configuration(image.id) or b"{}")
    system, _, rest = image.platform.partition("/")
    architecture, _, variant = rest.partition("/")
    history = raw.get("history") or [{}]
    shown = {
        "Id": image.id,
        "RepoTags": [render_reference(one) for one in image.references],
        "RepoDigests": [render_reference(one) for one in image.repo_digests],
        "Comment": history[-1].get("comment", ""),
        "Created": image.created,
        "Author": raw.get("author", ""),
        "Config": raw.get("config") or {},
        "Architecture": architecture,
        "Variant": variant,
        "Os": system,
        "Platform": image.platform,
        "Size": image.size,
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
        "Metadata": {"LastTagTime": _last_tagged(image)},
    }
    if not variant:
        del shown["Variant"]
    return shown


def _last_tagged(image: Image) -> str:
    moments = [moment for name in image.references for moment in image.moments.get(name, {}).values()]
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(moments))) if moments else ""


@stack_command("history")
@click.argument("name", metavar="IMAGE")
@click.option("--no-trunc", is_flag=True, help="Do not shorten.")
@click.option("-q", "--quiet", is_flag=True, help="Only identifiers.")
@click.option("-H/", "--human/--no-human", default=True, help="Sizes and dates for people (default).")
@format_option()
def show_history(name: str, no_trunc: bool, quiet: bool, human: bool, form: str | None) -> None:
    """Show the steps that an image was made in, the last one first."""
    store = actions.open_image_store()
    rows = describe_history(store, store.require_image(name), trunc=not no_trunc, human=human)
    if quiet:
        sys.stdout.writelines(f"{row['ID']}\n" for row in rows)
    elif form == "json":
        sys.stdout.writelines(json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n" for row in rows)
    elif form in (None, "table"):
        from orchestrator.cli.table import render_table

        sys.stdout.write(render_table(list(_HISTORY.values()), [[row[key] for key in _HISTORY] for row in rows]))
    else:
        from orchestrator.cli.template import render_rows

        sys.stdout.write(render_rows(str(form), _HISTORY, rows))


def describe_history(store: ImageStore, image: Image, *, trunc: bool, human: bool) -> list[dict[str, str]]:
    """One row per step, the last one first; steps without a layer have no size."""
    raw = json.loads(store.read_configuration(image.id) or b"{}")
    entries = raw.get("history") or [{} for _ in image.diff_ids]
    layers = iter(image.diff_ids)
    rows: list[dict[str, str]] = []
    for entry in entries:
        layer = None if entry.get("empty_layer") else next(layers, None)
        found = store.layers.find_layer(layer) if layer else None
        size = found.size if found is not None else 0
        created = actions.parse_created(entry.get("created") or "")
        command = str(entry.get("created_by") or "").replace("\t", " ")
        rows.append(
            {
                "ID": "<missing>",
                "CreatedAt": render_moment(created) if created else "",
                "CreatedSince": _ago(created) if human else str(entry.get("created") or ""),
                "CreatedBy": shorten(" ".join(command.split()), _SHOWN_COMMAND) if trunc else command,
                "Size": render_size(size) if human else str(size),
                "Comment": str(entry.get("comment") or ""),
            }
        )
    if rows:
        rows[-1]["ID"] = shorten_id(image.id) if trunc else image.id
    return rows[::-1]


def _ago(created: float) -> str:
    return f"{render_duration(time.time() - created)} ago" if created else "N/A"
