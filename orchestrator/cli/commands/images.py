"""``stack images``"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from orchestrator.actions.containers import choose_containers
from orchestrator.actions.images import open_image_store, parse_created, split_reference
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import format_option, services_argument, stack_command
from orchestrator.cli.quantities import render_size
from orchestrator.errors import UsageError


@stack_command("images")
@services_argument
@click.option("-q", "--quiet", is_flag=True, help="Only identifiers.")
@format_option("table or json.")
@click.pass_obj
def command(invocation: Invocation, services: tuple[str, ...], quiet: bool, form: str | None) -> None:
    """List the images that the project's containers use."""
    if form not in (None, "table", "json"):
        raise UsageError(f"--format: there is no format {form}", hint="there are table and json")
    project = invocation.recognize()
    containers = choose_containers(project, invocation.engine().observe(project.name), services)
    if quiet:
        for image_id in dict.fromkeys(one.image_id for one in containers):
            sys.stdout.write(f"{image_id.removeprefix('sha256:')}\n")
        return
    store = open_image_store()
    rows: list[dict[str, Any]] = []
    for one in containers:
        image = store.resolve_image(one.image_id) if one.image_id else None
        repository, tag = split_reference(one.image)
        rows.append(
            {
                "ID": one.image_id,
                "ContainerName": one.name,
                "Repository": repository,
                "Tag": tag,
                "Platform": image.platform if image else "",
                "Size": image.size if image else 0,
                "Created": image.created if image else "",
            }
        )
    if form == "json":
        sys.stdout.write(json.dumps(rows, separators=(",", ":")) + "\n")
        return
    from orchestrator.cli.table import render_table

    header = ("CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED")
    sys.stdout.write(
        render_table(
            header,
            [
                (
                    row["ContainerName"],
                    row["Repository"],
                    row["Tag"],
                    row["Platform"],
                    row["ID"].removeprefix("sha256:")[:12],
                    render_size(row["Size"]),
                    _ago(row["Created"]),
                )
                for row in rows
            ],
        )
    )


def _ago(created: str) -> str:
    import time

    from orchestrator.cli.quantities import render_duration

    moment = parse_created(created)
    return f"{render_duration(time.time() - moment)} ago" if moment else "N/A"
