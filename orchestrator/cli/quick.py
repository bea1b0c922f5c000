"""Read a plain command line without click. Accepts what is certain; leaves everything else to click."""

from __future__ import annotations

import sys

from orchestrator.cli.declare import AtLeast, Choice, Declared, Option
from orchestrator.cli.registry import COMMANDS, IMAGE_COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

GLOBAL = (
    Option("-f", "--file", "files", multiple=True),
    Option("-p", "--project-name"),
    Option("--profile", "profiles", multiple=True),
    Option("--env-file", "env_files", multiple=True),
    Option("--project-directory"),
    Option("--all-resources", flag=True),
    Option("--ansi", kind=Choice("never", "always", "auto")),
    Option("--progress", kind=Choice("auto", "tty", "plain", "json", "rawjson", "quiet")),
    Option("--dry-run", flag=True),
    Option("--compatibility", flag=True),
    Option("--parallel", kind=AtLeast(0)),
)


def run_quickly(arguments: Sequence[str], prepared: Any) -> int | None:
    """Run a command line of a declared command; its exit code, or None when click has to read it."""
    options, rest = _read(GLOBAL, arguments, stop_at_word=True) or (None, [])
    if options is None or not rest or rest[0] not in COMMANDS:
        return None
    command, rest = _find_command(rest)
    if not isinstance(command, Declared):
        return None
    read = _read(command.options, rest)
    if read is None or (read[1] and not command.rest):
        return None
    values, words = read
    if command.rest:
        values[command.rest] = tuple(words)
    from orchestrator.cli.diagnostics import set_colour
    from orchestrator.cli.invocation import make_invocation

    invocation = make_invocation(**options, prepared=prepared)
    for one in command.options:
        if one.remember and values.pop(one.parameter):
            setattr(invocation, one.remember, True)
    set_colour(options["ansi"])
    status = command.function(invocation, **values)
    return status if isinstance(status, int) else 0


def names_supervised(arguments: Sequence[str]) -> bool:
    """Whether a supervisor runs for the project that a command line is about, as far as that is known already."""
    options, _rest = _read(GLOBAL, arguments, stop_at_word=True) or (None, [])
    if options is None:
        return False
    from orchestrator.actions.project import recall_name
    from orchestrator.cli.invocation import make_invocation
    from orchestrator.engines.native.places import find_places
    from orchestrator.supervision.confirming import is_supervised

    name = recall_name(make_invocation(**options).project)
    return bool(name) and is_supervised(f"{find_places()[1]}/projects/{name}")


def _find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words behind it; None for one that does not exist."""
    if words[0] != "image":
        return _import(f"orchestrator.cli.commands.{COMMANDS[words[0]][0]}").command, words[1:]
    row = IMAGE_COMMANDS.get(words[1]) if len(words) > 1 else None
    command = getattr(_import(f"orchestrator.cli.image.{row[0]}"), row[1]) if row is not None else None
    return command, words[2:]


def _import(name: str) -> Any:
    # Not importlib.import_module, which is an import of its own.
    __import__(name)
    return sys.modules[name]


def _read(
    options: Sequence[Option], words: Sequence[str], *, stop_at_word: bool = False
) -> tuple[dict[str, Any], list[str]] | None:
    """Values by parameter and the words that are no options; None for anything that is not plain."""
    known = {name: one for one in options for name in (*one.names, *one.negations)}
    values = {one.parameter: one.initial for one in options}
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("-"):
            rest.append(word)
            if stop_at_word:
                return values, [*rest, *words[at:]]
            continue
        name, equals, value = word.partition("=")
        one = known.get(name)
        if one is None or (one.flag and equals):
            return None
        if one.flag:
            values[one.parameter] = name not in one.negations
            continue
        if not equals:
            # A value that looks like an option may be a mistake: click decides.
            if at >= len(words) or words[at].startswith("-"):
                return None
            value = words[at]
            at += 1
        try:
            read = value if one.kind is None else one.kind.read(value)
        except ValueError:
            return None
        values[one.parameter] = (*values[one.parameter], read) if one.multiple else read
    return values, rest
