"""Options that several commands share, with the names and meanings that Compose users know."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class StackCommand(click.Command):
    """A command of ours: ``-h`` is help too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["context_settings"] = {"help_option_names": ["-h", "--help"], **(kwargs.get("context_settings") or {})}
        super().__init__(*args, **kwargs)


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

    def remember(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value:
            ctx.obj.dry_run = True

    return click.option(
        "--dry-run",
        is_flag=True,
        expose_value=False,
        callback=remember,
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
