"""Commands declared as data: read at once where the words are plain, explained by click where they are not.

Importing click costs more than half of what ``stack ps`` takes in all. A command that is declared here is parsed by
:mod:`orchestrator.cli.quick` when its command line is well-formed and usual; for everything else (help, completion,
mistakes) the same declaration becomes a click command. There is one declaration, and click's reading of it is the one
that counts: the quick one accepts less, never more.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import click


class Choice:
    """A value out of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def read(self, text: str) -> Any:
        """The value; ValueError if it is none."""
        if text not in self.words:
            raise ValueError(text)
        return text

    def to_click(self) -> Any:
        """The same as a type of click."""
        import click

        return click.Choice(list(self.words))


class AtLeast:
    """A whole number, `least` or more."""

    def __init__(self, least: int) -> None:
        self.least = least

    def read(self, text: str) -> Any:
        """The value; ValueError if it is none."""
        number = int(text)
        if number < self.least:
            raise ValueError(text)
        return number

    def to_click(self) -> Any:
        """The same as a type of click."""
        import click

        return click.IntRange(min=self.least)


class Option:
    """One option: `names` with dashes (``--on/--off`` for a flag with a negation), and the function's argument.

    `remember` is the attribute of the invocation that the flag sets, for options that are no argument of the function.
    """

    def __init__(
        self,
        *names: str,
        flag: bool = False,
        multiple: bool = False,
        kind: Choice | AtLeast | None = None,
        default: Any = None,
        remember: str = "",
        help: str = "",
        metavar: str | None = None,
        hidden: bool = False,
    ) -> None:
        declared = tuple(name for name in names if name.startswith("-"))
        self.declared = declared
        self.names = tuple(name.partition("/")[0] for name in declared)
        self.negations = tuple(off for name in declared if (off := name.partition("/")[2]))
        own = next((name for name in names if not name.startswith("-")), "")
        self.parameter = own or max(self.names, key=len).strip("-").replace("-", "_")
        self.flag, self.multiple, self.kind, self.default = flag, multiple, kind, default
        self.remember, self.help, self.metavar, self.hidden = remember, help, metavar, hidden

    @property
    def initial(self) -> Any:
        """The value when the option is not given."""
        if self.flag and self.default is None:
            return False
        return () if self.multiple else self.default

    def to_click(self) -> Callable[[Any], Any]:
        """The same as a decorator of click."""
        import click

        settings: dict[str, Any] = {"help": self.help, "hidden": self.hidden}
        if self.flag:
            settings.update(is_flag=True, default=bool(self.default))
        else:
            settings.update(multiple=self.multiple, metavar=self.metavar, default=self.default or None)
            if self.multiple:
                settings.pop("default")
        if self.kind is not None:
            settings["type"] = self.kind.to_click()
        if self.remember:
            attribute = self.remember

            def remember(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
                if value:
                    setattr(ctx.obj, attribute, True)

            settings.update(expose_value=False, callback=remember)
        return click.option(*self.declared, self.parameter, **settings)


class Declared:
    """A command: its function, its options, and the name of the argument that takes all other words ("" for none)."""

    def __init__(self, name: str, function: Callable[..., Any], options: Sequence[Option], rest: str) -> None:
        self.name, self.function, self.options, self.rest = name, function, tuple(options), rest

    def to_click(self) -> click.Command:
        """The same as a command of click, for help, completion and mistakes."""
        import click

        from orchestrator.cli.options import stack_command

        decorated: Any = click.pass_obj(self.function)
        for one in reversed(self.options):
            decorated = one.to_click()(decorated)
        if self.rest:
            decorated = click.argument(self.rest, nargs=-1, metavar=f"[{self.rest.upper().rstrip('S')}]...")(decorated)
        return stack_command(self.name)(decorated)


def declare(name: str, *options: Option, rest: str = "services") -> Callable[[Callable[..., Any]], Declared]:
    """Make a function ``f(invocation, **parameters)`` a command; what it returns (None or an int) is the exit code."""
    return lambda function: Declared(name, function, options, rest)


TIMEOUT = Option(
    "-t",
    "--timeout",
    kind=AtLeast(0),
    metavar="SECONDS",
    help="How long a container may take to stop before it is killed (default: its stop_grace_period).",
)
DRY_RUN = Option("--dry-run", flag=True, remember="dry_run", help="Show what would be done, and do nothing.")
FORMAT = Option("--format", "form", metavar="FORMAT", help="table, json, or a Go template.")
PULL_WORDS = ("policy", "always", "missing", "if_not_present", "never", "build")
PULL = Option("--pull", kind=Choice(*PULL_WORDS), help="When to fetch images; build: build them instead.")
BUILDING = (
    Option("--build", flag=True, help="Build images before containers are made, also those that are here."),
    Option("--no-build", flag=True, help="Build nothing, even if an image is missing."),
)
INDEX = Option("--index", kind=AtLeast(1), metavar="N", help="Which replica, counted from 1.")
