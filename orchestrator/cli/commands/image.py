"""``stack image``: the group; its commands are imported when they are used."""

from __future__ import annotations

import os
from importlib import import_module

import click

from orchestrator.cli.declare import Declared
from orchestrator.cli.registry import IMAGE_COMMANDS
from orchestrator.errors import UsageError


class _ImageGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the table's order."""
        return list(IMAGE_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return the command."""
        row = IMAGE_COMMANDS.get(cmd_name)
        if row is None:
            return None
        command: click.Command | Declared = getattr(import_module(f"orchestrator.cli.image.{row[0]}"), row[1])
        made = command.to_click() if isinstance(command, Declared) else command
        if "_STACK_COMPLETE" in os.environ:
            from orchestrator.cli.completing import teach

            teach(made)
        return made

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or refuse with the nearest names."""
        found = self.get_command(ctx, args[0])
        if found is None:
            from orchestrator.actions.names import suggest_names

            raise UsageError(f"no such command: image {args[0]}", hint=suggest_names(args[0], IMAGE_COMMANDS))
        return args[0], found, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their line of help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row[2]) for name, row in IMAGE_COMMANDS.items()])


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
