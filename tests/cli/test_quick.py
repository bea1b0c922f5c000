"""The quick reading of a command line and click's agree on everything that the quick one accepts."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from orchestrator.cli.declare import Declared
from orchestrator.cli.quick import _read
from orchestrator.cli.registry import COMMANDS, IMAGE_COMMANDS

DECLARED = {
    name: command
    for name, (module, _help) in COMMANDS.items()
    if isinstance(command := import_module(f"orchestrator.cli.commands.{module}").command, Declared)
} | {
    f"image {name}": command
    for name, (module, attribute, _help) in IMAGE_COMMANDS.items()
    if isinstance(command := getattr(import_module(f"orchestrator.cli.image.{module}"), attribute), Declared)
}


def test_the_everyday_commands_are_declared() -> None:
    assert {"up", "down", "ps", "logs", "ls", "start", "stop", "restart", "version"} <= DECLARED.keys()


def _click_reading(command: Declared, words: list[str]) -> dict[str, Any]:
    """What click would call the function with."""
    import click

    seen: dict[str, Any] = {}

    class Invocation:
        dry_run = False

    def record(_invocation: Any, **values: Any) -> None:
        seen.update(values)

    built = Declared(command.name, record, command.options, command.rest).to_click()
    with click.Context(click.Command("stack"), obj=Invocation()) as parent:
        context = built.make_context(command.name, list(words), parent=parent)
        with context:
            built.invoke(context)
    return seen


LINES = {
    "up": [
        [],
        ["-d"],
        ["--detach", "--wait", "web", "db"],
        ["web", "-d", "--scale", "web=3", "--scale=db=2"],
        ["--pull=always", "-t", "5", "--timeout=7"],
        ["--wait-timeout", "10", "-V", "-y", "--attach", "a", "--no-attach", "b"],
    ],
    "down": [[], ["-v"], ["--volumes", "--rmi", "local", "-t", "0"], ["web"]],
    "ps": [["-a"], ["--no-orphans", "-q"], ["--orphans"], ["--format", "json", "--status", "running", "web"]],
    "logs": [["-f", "-n", "10", "web"], ["--since=10m", "--no-color"], ["--index", "2", "web"]],
    "ls": [["-a", "-q"], ["--filter", "name=x"]],
    "start": [["--wait", "web"]],
    "stop": [["-t", "3"], ["-t=3"]],
    "restart": [["--no-deps", "web"]],
    "build": [["web", "--build-arg", "A=1", "--build-arg=B", "--no-cache", "-q"], ["--push", "--progress", "plain"]],
    "image build": [
        ["-t", "a:1", "-t", "b", "."],
        ["--no-rm", "--secret", "id=x,src=y", "--network=host", "-q", "dir"],
    ],
    "version": [["--short"], ["-f", "json"]],
}


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, lines in LINES.items() for words in lines])
def test_both_readings_agree(name: str, words: list[str]) -> None:
    command = DECLARED[name]
    read = _read(command.options, words)
    assert read is not None
    values, rest = read
    if command.rest:
        values[command.rest] = tuple(rest)
    plain = {key: value for key, value in values.items() if key != "dry_run"}
    assert plain == _click_reading(command, words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("up", ["--nope"]),
        ("up", ["-dV"]),
        ("up", ["--detach=yes"]),
        ("up", ["-t"]),
        ("up", ["-t", "-1"]),
        ("up", ["-t", "soon"]),
        ("up", ["--pull", "sometimes"]),
        ("up", ["--", "web"]),
        ("ps", ["--format", "--all"]),
        ("logs", ["--index", "0", "web"]),
        ("down", ["--help"]),
    ],
)
def test_what_is_not_plain_is_left_to_click(name: str, words: list[str]) -> None:
    assert _read(DECLARED[name].options, words) is None
