"""``stack image import | load | save | export``"""

from __future__ import annotations

import sys
from typing import Literal

import click

from orchestrator.actions import images as actions
from orchestrator.cli.image.naming import render_reference
from orchestrator.cli.options import stack_command
from orchestrator.errors import UsageError


@stack_command("import")
@click.argument("tar")
@click.argument("reference", required=False)
@click.option("--tag", metavar="NAME", help="The image's name.")
@click.option(
    "-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help="CMD, ENV ... as in a Dockerfile."
)
@click.option("-m", "--message", default="", help="A comment for the image's history.")
@click.option("--platform", metavar="OS/ARCH", help="What the image is for (default: this machine).")
def import_image(
    tar: str, reference: str | None, tag: str | None, changes: tuple[str, ...], message: str, platform: str | None
) -> None:
    """Make an image of one layer from a tar of a root filesystem (`-` reads standard input)."""
    if tag and reference:
        raise UsageError("stack image import: the name stands there twice", hint="leave out --tag, or the second word")
    source = sys.stdin.buffer if tar == "-" else actions.find_file(tar)
    image = actions.open_image_store().import_rootfs(
        source, reference=tag or reference, changes=changes, message=message, platform=platform
    )
    sys.stdout.write(f"{image.id}\n")


@stack_command("load")
@click.argument("archive", required=False)
@click.option("-i", "--input", "given", metavar="FILE", help="The archive (default: standard input).")
@click.option("-q", "--quiet", is_flag=True, help="Only identifiers.")
def load_images(archive: str | None, given: str | None, quiet: bool) -> None:
    """Load images from an OCI or docker archive."""
    name = given or archive or "-"
    if name == "-" and sys.stdin.isatty():
        raise UsageError("stack image load: there is no archive", hint="name a file, or redirect standard input")
    source = sys.stdin.buffer if name == "-" else actions.find_file(name)
    for image in actions.open_image_store().load_archive(source):
        for reference in image.references or (image.id,):
            text = render_reference(reference)
            sys.stdout.write(f"{image.id}\n" if quiet else f"Loaded image: {text}\n")


@stack_command("save")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-o", "--output", metavar="FILE", help="Where to write the archive (default: standard output).")
@click.option(
    "--format",
    "form",
    type=click.Choice(["both", "oci", "docker"]),
    default="both",
    show_default=True,
    help="An OCI layout, a docker-archive, or both in one.",
)
def save_images(names: tuple[str, ...], output: str | None, form: Literal["both", "oci", "docker"]) -> None:
    """Write images as one archive."""
    _refuse_terminal("save", output)
    from pathlib import Path

    store = actions.open_image_store()
    store.save_archive(names, sys.stdout.buffer if output in (None, "-") else Path(str(output)), form=form)


@stack_command("export")
@click.argument("name", metavar="IMAGE")
@click.option("-o", "--output", metavar="FILE", help="Where to write the tar (default: standard output).")
def export_image(name: str, output: str | None) -> None:
    """Write the root filesystem of an image, all layers as one, as a tar."""
    _refuse_terminal("export", output)
    from orchestrator.engines.native.images.flatten import export_rootfs

    store = actions.open_image_store()
    if output in (None, "-"):
        export_rootfs(store, name, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with actions.open_output(str(output)) as file:
        export_rootfs(store, name, file)


def _refuse_terminal(command: str, output: str | None) -> None:
    if output is None and sys.stdout.isatty():
        raise UsageError(
            f"stack image {command}: an archive is nothing for a terminal",
            hint="redirect, or name a file with -o",
        )
