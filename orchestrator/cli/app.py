"""The root command: global options, lazy commands, and click's complaints turned into ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import click

from orchestrator.cli.declare import Declared
from orchestrator.cli.invocation import ANSI, PROGRESS, make_invocation
from orchestrator.cli.options import spell_options
from orchestrator.cli.registry import COMMANDS
from orchestrator.errors import UsageError

INSECURE = "A registry without TLS that can be verified, for `-f oci://...`."


class StackGroup(click.Group):
    """The root group. Commands come from the table and are imported on use."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words before the command; ``-f=FILE`` is understood too."""
        return super().parse_args(ctx, spell_options(self, args))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return its ``command``."""
        row = COMMANDS.get(cmd_name)
        if row is None:
            return None
        from importlib import import_module

        command: click.Command | Declared = import_module(f"orchestrator.cli.commands.{row[0]}").command
        made = command.to_click() if isinstance(command, Declared) else command
        if "_STACK_COMPLETE" in os.environ:
            from orchestrator.cli.completing import teach

            teach(made)
        return made

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or refuse with the nearest names."""
        command = self.get_command(ctx, args[0])
        if command is None:
            from orchestrator.actions.names import suggest_names

            hint = suggest_names(args[0], COMMANDS) or "`stack --help` lists the commands"
            raise UsageError(f"no such command: {args[0]}", hint=hint)
        return args[0], command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with their line of help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=StackGroup,
    name="stack",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="A stack file; several are merged in order.")
@click.option("-p", "--project-name", metavar="NAME", help="The project's name.")
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Switch a profile on.")
@click.option("--env-file", "env_files", multiple=True, metavar="FILE", help="Read variables from this file, not .env.")
@click.option("--project-directory", metavar="DIR", help="Where relative paths begin (default: beside the first file).")
@click.option("--workdir", metavar="DIR", hidden=True, help="The former name of --project-directory.")
@click.option("--verbose", is_flag=True, hidden=True, help="As --progress plain: every step in a line of its own.")
@click.option("--insecure-registry", "insecure", multiple=True, metavar="HOST[:PORT]", hidden=True, help=INSECURE)
@click.option("--compatibility", is_flag=True, help="Names with underscores (shop_web_1), as Compose once had them.")
@click.option("--parallel", type=click.IntRange(min=-1), metavar="N", help="Do so many things at a time at most.")
@click.option("--all-resources", is_flag=True, help="Keep networks, volumes and others that no service uses.")
@click.option("--ansi", type=click.Choice(ANSI), help="When to write colours and control characters.")
@click.option("--progress", type=click.Choice(PROGRESS), help="How progress is shown.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("-v", "--version", "version", is_flag=True, help="Show the version.")
@click.pass_context
def root(
    ctx: click.Context,
    files: tuple[str, ...],
    project_name: str | None,
    profiles: tuple[str, ...],
    env_files: tuple[str, ...],
    project_directory: str | None,
    workdir: str | None,
    verbose: bool,
    insecure: tuple[str, ...],
    all_resources: bool,
    compatibility: bool,
    parallel: int | None,
    ansi: str | None,
    progress: str | None,
    dry_run: bool,
    version: bool,
) -> None:
    """Run stacks of containers from Compose files."""
    if insecure:
        os.environ["STACK_INSECURE_REGISTRIES"] = ",".join(insecure)
    ctx.obj = make_invocation(
        files=files,
        project_name=project_name,
        profiles=profiles,
        env_files=env_files,
        project_directory=project_directory or workdir,
        all_resources=all_resources,
        compatibility=compatibility,
        parallel=parallel,
        ansi=ansi,
        progress=progress or ("plain" if verbose else None),
        dry_run=dry_run,
        prepared=ctx.meta.get("prepared"),
    )
    if version:
        from orchestrator.cli.commands.version import print_version

        print_version()
        ctx.exit(0)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit(0)


def run(arguments: Sequence[str], prepared: Any = None) -> int:
    """Run a command line; return its exit code. Raises StackError; `prepared` comes from ``launch.prepare``."""
    from orchestrator.cli import diagnostics

    if "_STACK_COMPLETE" in os.environ:
        from orchestrator.cli.completing import complete

        return complete(root, os.environ["_STACK_COMPLETE"])
    try:
        context = root.make_context("stack", list(arguments))
        with context:
            context.meta["prepared"] = prepared
            diagnostics.set_colour(context.params.get("ansi"))
            status = root.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.UsageError as error:
        raise translate_usage_error(error) from None
    except click.ClickException as error:
        raise UsageError(error.format_message()) from None
    return status if isinstance(status, int) else 0


def translate_usage_error(error: click.UsageError) -> UsageError:
    """Turn click's complaint into ours: one message, the nearest name, where to read on."""
    place = error.ctx.command_path if error.ctx else "stack"
    read_on = f"`{place} --help` shows how it is used"
    if isinstance(error, click.NoSuchOption):
        from orchestrator.actions.names import suggest_names

        known: list[str] = []
        if error.ctx:
            for one in error.ctx.command.params:
                if isinstance(one, click.Option) and not one.hidden:
                    known += [name for name in one.opts if name.startswith("--")]
        near = suggest_names(error.option_name, known, limit=1)
        return UsageError(
            f"{place}: no such option: {error.option_name}", hint=near if near.startswith("did") else read_on
        )
    message = error.format_message()
    return UsageError(f"{place}: {message[:1].lower()}{message[1:].rstrip('.')}", hint=read_on)
