"""Options that several commands share, with the names and meanings that Compose users know."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from orchestrator.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


WITHOUT_DRY_RUN = frozenset(
    f"stack image {name}" for name in ("build", "import", "load", "login", "logout", "prune", "rm", "tag")
)
"""Commands that do their one thing or nothing: they refuse ``--dry-run`` rather than do it all the same."""


class StackCommand(click.Command):
    """A command of ours: ``-h`` is help too, and ``--dry-run`` may stand behind it as well as before."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = {"help_option_names": ["-h", "--help"], **(kwargs.get("context_settings") or {})}
        super().__init__(*args, **kwargs)
        if not any("--dry-run" in one.opts for one in self.params):
            self.params.append(
                click.Option(["--dry-run"], is_flag=True, expose_value=False, hidden=True, callback=_remember_dry_run)
            )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, unless it was asked to change nothing and cannot say what it would change."""
        if getattr(ctx.obj, "dry_run", False) and ctx.command_path in WITHOUT_DRY_RUN:
            raise UsageError(f"`{ctx.command_path}` has no dry run", hint="nothing was done")
        return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words; ``--flag=false`` is understood too."""
        return super().parse_args(ctx, _spell_flags(self, args))


def _remember_dry_run(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.obj.dry_run = True


_TRUTHS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def _spell_flags(command: click.Command, words: list[str]) -> list[str]:
    """Write ``--flag=true`` as ``--flag`` and ``--flag=false`` as its negation, or as nothing, which is the same."""
    known = {name: one for one in command.params if isinstance(one, click.Option) for name in one.opts}
    intermixed = (command.context_settings or {}).get("allow_interspersed_args", True)
    written: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        one = known.get(name)
        if word == "--" or (not word.startswith("-") and not intermixed):
            return [*written, word, *rest]
        if one is None or not one.is_flag or not equals or value.lower() not in _TRUTHS:
            written.append(word)
            if one is not None and not one.is_flag and not equals and rest:
                written.append(rest.pop(0))
        elif _TRUTHS[value.lower()]:
            written.append(name)
        elif one.secondary_opts:
            written.append(one.secondary_opts[0])
    return written


def stack_command(name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command; what it returns (None or an int) is the exit code."""
    return click.command(name, cls=StackCommand, **settings)


def services_argument(target: F) -> F:
    """``[SERVICE]...``; none means all."""
    return click.argument("services", nargs=-1, metavar="[SERVICE]...")(target)


def timeout_option(target: F) -> F:
    """``-t``: how long a container may take to stop, in seconds."""
    return click.option(
        "-t",
        "--timeout",
        type=click.IntRange(min=0),
        metavar="SECONDS",
        help="How long a container may take to stop before it is killed (default: its stop_grace_period).",
    )(target)


def dry_run_option(target: F) -> F:
    """``--dry-run`` behind the command, as well as before it."""

    return click.option(
        "--dry-run",
        is_flag=True,
        expose_value=False,
        callback=_remember_dry_run,
        help="Show what would be done, and do nothing.",
    )(target)


def index_option(target: F) -> F:
    """``--index``: which replica, from 1."""
    return click.option("--index", type=click.IntRange(min=1), metavar="N", help="Which replica, counted from 1.")(
        target
    )


def format_option(help_text: str = "table, json, or a Go template.") -> Callable[[F], F]:
    """``--format``."""
    return lambda target: click.option("--format", "form", metavar="FORMAT", help=help_text)(target)


def build_options(target: F) -> F:
    """``--build`` and ``--no-build``: whether images are built."""
    no_build = click.option("--no-build", is_flag=True, help="Build nothing, even if an image is missing.")
    build = click.option(
        "--build", is_flag=True, help="Build images before containers are made, also those that are here."
    )
    return build(no_build(target))


def pull_option(default: str | None = None) -> Callable[[F], F]:
    """``--pull``: when to fetch images."""
    return lambda target: click.option(
        "--pull",
        type=click.Choice(["policy", "always", "missing", "never"]),
        default=default,
        help="When to fetch images.",
    )(target)


def split_environment_list(values: Iterable[str]) -> tuple[str, ...]:
    """Split comma-separated words (``--profile a,b``), as the environment variables allow."""
    return tuple(word for value in values for word in value.split(",") if word)
