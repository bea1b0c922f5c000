"""Options that several commands share, with the names and meanings that Compose users know."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from orchestrator.cli.declare import PULL_WORDS
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
        """Read the words; ``--flag=false`` and ``-t=0`` are understood too."""
        return super().parse_args(ctx, spell_options(self, args))


def _remember_dry_run(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.obj.dry_run = True


_TRUTHS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def spell_options(command: click.Command, words: list[str]) -> list[str]:
    """Write options as click reads them: ``--flag=false`` as its negation, or as nothing, which is the same; ``-t=0``
    as ``-t0``. What stands behind the first word is left alone by commands that hand it on."""
    known = {name: one for one in command.params if isinstance(one, click.Option) for name in one.opts}
    intermixed = (command.context_settings or {}).get("allow_interspersed_args", command.allow_interspersed_args)
    written: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--" or (not word.startswith("-") and not intermixed):
            return [*written, word, *rest]
        name, equals, value = word.partition("=")
        one = known.get(name)
        if one is not None and one.is_flag and equals and value.lower() in _TRUTHS:
            written += _spell_flag(one, name, wanted=_TRUTHS[value.lower()])
            continue
        letters, said = _split_letters(known, word)
        if said is not None:
            written += [letters + said] if said else [letters, said]
            continue
        written.append(word)
        if (one := known.get(word)) is not None and not one.is_flag and rest:
            written.append(rest.pop(0))
    return written


def _spell_flag(one: click.Option, name: str, *, wanted: bool) -> list[str]:
    if wanted:
        return [name]
    return [one.secondary_opts[0]] if one.secondary_opts else []


def _split_letters(known: dict[str, click.Option], word: str) -> tuple[str, str | None]:
    """``-t=0`` and ``-dt=0``: the letters before the equals sign, and the value; None when `word` is something else."""
    letters, equals, value = word.partition("=")
    if not equals or letters.startswith("--") or len(letters) < 2:
        return word, None
    found = [known.get(f"-{letter}") for letter in letters[1:]]
    plain = all(one is not None and one.is_flag for one in found[:-1])
    last = found[-1]
    return (letters, value) if plain and last is not None and not last.is_flag else (word, None)


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
        type=click.Choice(PULL_WORDS),
        default=default,
        help="When to fetch images; build: build them instead.",
    )(target)


def split_environment_list(values: Iterable[str]) -> tuple[str, ...]:
    """Split comma-separated words (``--profile a,b``), as the environment variables allow."""
    return tuple(word for value in values for word in value.split(",") if word)
