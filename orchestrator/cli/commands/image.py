"""``stack image``: the group; its commands are imported when they are used."""

from __future__ import annotations

from importlib import import_module

import click

from orchestrator.errors import UsageError

_COMMANDS: dict[str, tuple[str, str, str]] = {
    "ls": ("listing", "list_images", "List the images of this machine"),
    "pull": ("moving", "pull_images", "Fetch images from their registries"),
    "push": ("moving", "push_images", "Send images to their registries"),
    "login": ("login", "log_in", "Log in to a registry"),
    "logout": ("login", "log_out", "Log out from a registry"),
    "build": ("building", "build_image", "Build an image from a Dockerfile"),
    "tag": ("removing", "tag_image", "Give an image another name"),
    "rm": ("removing", "remove_images", "Remove images"),
    "inspect": ("describing", "inspect_images", "Show all that is known of images"),
    "history": ("describing", "show_history", "Show the steps that an image was made in"),
    "save": ("archives", "save_images", "Write images as one archive"),
    "load": ("archives", "load_images", "Load images from an archive"),
    "import": ("archives", "import_image", "Make an image from a tar of a root filesystem"),
    "export": ("archives", "export_image", "Write the root filesystem of an image as a tar"),
    "fsck": ("checking", "check_images", "Check that the image store is whole"),
    "prune": ("removing", "prune_images", "Remove images, or results of builds, that nothing uses"),
}
"""Name, module below ``orchestrator.cli.image``, the command in it, one line of help."""


class _ImageGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the table's order."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return the command."""
        row = _COMMANDS.get(cmd_name)
        if row is None:
            return None
        found: click.Command = getattr(import_module(f"orchestrator.cli.image.{row[0]}"), row[1])
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or refuse with the nearest names."""
        found = self.get_command(ctx, args[0])
        if found is None:
            from orchestrator.actions.names import suggest_names

            raise UsageError(f"no such command: image {args[0]}", hint=suggest_names(args[0], _COMMANDS))
        return args[0], found, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their line of help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row[2]) for name, row in _COMMANDS.items()])


@click.group(
    "image",
    cls=_ImageGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Build, fetch, list, describe and remove images."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
