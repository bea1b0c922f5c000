"""``stack image``: import, load, save, ls, rm, tag, inspect, pull, prune."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from orchestrator.actions import images as actions
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import StackCommand, format_option
from orchestrator.cli.quantities import render_duration, render_moment, render_size
from orchestrator.errors import StackError, UsageError

if TYPE_CHECKING:
    from orchestrator.engines.native.images.image import Image

_HEADER = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
}


class _ImageGroup(click.Group):
    command_class = StackCommand

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = self.get_command(ctx, args[0])
        if found is None:
            from orchestrator.actions.names import suggest_names

            raise UsageError(f"no such command: image {args[0]}", hint=suggest_names(args[0], self.commands))
        return args[0], found, args[1:]


@click.group(
    "image",
    cls=_ImageGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Import, load, list, pull and remove images."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("import")
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


@command.command("load")
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
            text = _familiar(reference)
            sys.stdout.write(f"{image.id}\n" if quiet else f"Loaded image: {text}\n")


@command.command("save")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-o", "--output", metavar="FILE", help="Where to write the archive (default: standard output).")
def save_images(names: tuple[str, ...], output: str | None) -> None:
    """Write images as one archive."""
    if output is None and sys.stdout.isatty():
        raise UsageError(
            "stack image save: an archive is nothing for a terminal", hint="redirect, or name a file with -o"
        )
    from pathlib import Path

    store = actions.open_image_store()
    store.save_archive(names, sys.stdout.buffer if output in (None, "-") else Path(str(output)))


@command.command("ls")
@click.argument("name", required=False)
@click.option("-q", "--quiet", is_flag=True, help="Only identifiers.")
@click.option("--no-trunc", is_flag=True, help="Do not shorten.")
@click.option("--digests", is_flag=True, help="Digests too.")
@format_option()
def list_images(name: str | None, quiet: bool, no_trunc: bool, digests: bool, form: str | None) -> None:
    """List the images of this machine."""
    rows = actions.list_image_rows(actions.open_image_store().list_images())
    if name:
        rows = tuple(one for one in rows if name in (one.repository, f"{one.repository}:{one.tag}"))
    if quiet:
        for image_id in dict.fromkeys(one.image_id for one in rows):
            sys.stdout.write(f"{image_id if no_trunc else _short(image_id)}\n")
        return
    _write_rows([_describe_row(one, trunc=not no_trunc) for one in rows], form, digests=digests)


@command.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--force", is_flag=True, help="Take the name away even from an image that is used.")
@click.option("--no-prune", is_flag=True, help="Remove names only.")
@click.pass_obj
def remove_images(invocation: Invocation, names: tuple[str, ...], force: bool, no_prune: bool) -> int:
    """Remove images."""
    from orchestrator.cli.diagnostics import report_error

    store = actions.open_image_store()
    in_use = actions.list_used_images(invocation.engine())
    failed = False
    for name in names:
        try:
            gone = store.remove_image(name, force=force, in_use=in_use, keep_untagged=no_prune)
        except StackError as error:
            failed = True
            report_error(error)
            continue
        for reference in gone.untagged:
            sys.stdout.write(f"Untagged: {_familiar(reference)}\n")
        for image_id in gone.deleted:
            sys.stdout.write(f"Deleted: {image_id}\n")
    return 1 if failed else 0


@command.command("tag")
@click.argument("source")
@click.argument("target")
def tag_image(source: str, target: str) -> None:
    """Give an image another name."""
    actions.open_image_store().tag_image(source, target)


@command.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
def inspect_images(names: tuple[str, ...]) -> None:
    """Show all that is known of images, as JSON."""
    store = actions.open_image_store()
    shown = [_inspect(store.require_image(name)) for name in names]
    sys.stdout.write(json.dumps(shown, indent=2, ensure_ascii=False) + "\n")


@command.command("pull")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--platform", metavar="OS/ARCH", help="Which variant (default: this machine's).")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.pass_obj
def pull_images(invocation: Invocation, names: tuple[str, ...], platform: str | None, quiet: bool) -> None:
    """Fetch images from their registries."""
    from orchestrator.cli.pulling import pull_with_progress

    pull_with_progress(invocation, names, platform=platform, quiet=quiet)


@command.command("prune")
@click.option("-a", "--all", "every", is_flag=True, help="All images that no container uses, named ones too.")
@click.pass_obj
def prune_images(invocation: Invocation, every: bool) -> None:
    """Remove images that nothing uses."""
    in_use = actions.list_used_images(invocation.engine())
    gone = actions.open_image_store().prune(in_use, unnamed_only=not every)
    for image_id in gone.deleted:
        sys.stdout.write(f"Deleted: {image_id}\n")
    sys.stdout.write(f"Total reclaimed space: {render_size(gone.reclaimed)}\n")


def _write_rows(rows: list[dict[str, Any]], form: str | None, *, digests: bool) -> None:
    header = dict(_HEADER)
    if digests:
        header = {"Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", **_HEADER}
    if form == "json":
        text = "".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n" for row in rows)
    elif form in (None, "table"):
        from orchestrator.cli.table import render_table

        text = render_table(list(header.values()), [[row[name] for name in header] for row in rows])
    else:
        from orchestrator.cli.template import render_rows

        text = render_rows(form, header, rows)
    sys.stdout.write(text)


def _describe_row(row: actions.ImageRow, *, trunc: bool) -> dict[str, Any]:
    ago = f"{render_duration(time.time() - row.created)} ago" if row.created else "N/A"
    return {
        "Repository": row.repository,
        "Tag": row.tag,
        "ID": _short(row.image_id) if trunc else row.image_id,
        "CreatedAt": render_moment(row.created) if row.created else "",
        "CreatedSince": ago,
        "Digest": row.digest or "<none>",
        "Size": render_size(row.size),
    }


def _inspect(image: Image) -> dict[str, Any]:
    config = image.config
    return {
        "Id": image.id,
        "RepoTags": [_familiar(one) for one in image.references],
        "RepoDigests": [_familiar(one) for one in image.repo_digests],
        "Created": image.created,
        "Platform": image.platform,
        "Size": image.size,
        "Config": {
            "Env": list(config.env),
            "Entrypoint": list(config.entrypoint) if config.entrypoint is not None else None,
            "Cmd": list(config.cmd) if config.cmd is not None else None,
            "User": config.user,
            "WorkingDir": config.working_dir,
            "ExposedPorts": list(config.exposed_ports),
            "Volumes": list(config.volumes),
            "Labels": dict(config.labels),
            "StopSignal": config.stop_signal,
            "Healthcheck": config.healthcheck,
        },
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
    }


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


def _familiar(reference: str) -> str:
    from orchestrator.engines.native.images.reference import render_familiar

    return reference if reference.startswith("sha256:") else render_familiar(reference)
