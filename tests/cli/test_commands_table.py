"""docs/commands.md against Compose's options, against what our commands declare, and against the tests it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click

from orchestrator.cli.app import root

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/commands.md"
REPEATED = ("stringArray", "list")
"""How Compose calls options that can be given more than once."""


class Row(NamedTuple):
    """One line of the page: an option (empty: the command itself), whether it is here, and the test."""

    shorthand: str
    here: str
    test: str


@cache
def composes() -> dict[tuple[str, str], tuple[str, str]]:
    """Compose's options: (command, option) -> (shorthand, kind)."""
    lines = (ROOT / "tests/cli/compose-options.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return {(command, option): (shorthand, kind) for command, option, shorthand, kind in rows}


@cache
def table() -> dict[tuple[str, str], Row]:
    found: dict[tuple[str, str], Row] = {}
    command = ""
    for line in PAGE.read_text().partition("## Ours")[0].splitlines():
        if line.startswith("### "):
            command = line[4:].strip("`").removeprefix("stack").strip()
        elif line.startswith("| ") and not line.startswith("| option |"):
            first, here, test = (cell.strip() for cell in line.strip("|").split("|"))
            names = re.findall(r"`([^`]+)`", first)
            key = (command, names[0] if names else "")
            assert key not in found, f"{key} stands there twice"
            found[key] = Row(names[1] if len(names) > 1 else "", here, test.strip("`"))
    return found


def find_command(name: str) -> click.Command | None:
    found: click.Command | None = root
    for word in name.split():
        found = found.get_command(click.Context(found), word) if isinstance(found, click.Group) else None
    return found


def find_option(command: str, option: str) -> click.Option | None:
    found = find_command(command)
    for one in found.params if found else ():
        if isinstance(one, click.Option) and option in (*one.opts, *one.secondary_opts):
            return one
    return None


def test_the_page_has_every_option_of_compose() -> None:
    assert sorted(table()) == sorted(composes())
    assert not {key for key, row in table().items() if row.shorthand != composes()[key][0]}


def test_what_the_page_says_is_so() -> None:
    wrong = []
    for (command, option), row in table().items():
        there = find_option(command, option) is not None if option else find_command(command) is not None
        if row.here == "yes" and not there:
            wrong.append(f"stack {command} {option}: the page has it, the command line has not")
        elif row.here != "yes" and there:
            wrong.append(f"stack {command} {option}: it is there, write `yes` and the test that proves it")
        elif row.here != "yes" and not re.fullmatch("no: .+", row.here):
            wrong.append(f"stack {command} {option}: neither `yes` nor `no:` with a reason")
    assert not wrong, "\n".join(wrong)


def test_options_are_of_composes_kind() -> None:
    wrong = []
    for (command, option), (shorthand, kind) in composes().items():
        found = find_option(command, option) if option else None
        if found is None:
            continue
        if shorthand and shorthand not in found.opts:
            wrong.append(f"stack {command} {option} has no {shorthand}")
        if found.is_flag != (kind == "bool"):
            wrong.append(f"stack {command} {option} is {'a' if found.is_flag else 'no'} flag")
        if kind in REPEATED and not found.multiple:
            wrong.append(f"stack {command} {option} cannot be given twice")
    assert not wrong, "\n".join(wrong)


def test_the_tests_that_the_page_names_are_there() -> None:
    missing = []
    for key, row in table().items():
        if row.here != "yes":
            continue
        file, _, name = row.test.partition("::")
        path = ROOT / "tests" / file
        text = path.read_text() if path.is_file() else ""
        if not name or not re.search(rf"^def {name}\(", text, re.MULTILINE):
            missing.append(f"{key}: there is no {row.test}")
        elif key[1] and not re.search(spell(key[1], row.shorthand), text):
            missing.append(f"{key}: {row.test} does not use it")
    assert not missing, "\n".join(missing)


def spell(option: str, shorthand: str) -> str:
    """How a test may write an option: whole, with a value behind it, or as one of several letters."""
    whole = rf"[\"']{option}\b"
    return rf"{whole}|[\"']-[a-zA-Z]*{shorthand[1]}[a-zA-Z]*[\"']" if shorthand else whole


def declared() -> Iterator[tuple[str, str]]:
    """Every command and visible option of ours that Compose does not have."""
    known = {(command, name) for (command, option), (short, _kind) in composes().items() for name in (option, short)}
    for name, command in walk(root, ""):
        if (name, "") not in known:
            yield name, ""
        for one in command.params:
            if isinstance(one, click.Option) and not one.hidden and not known & {(name, text) for text in one.opts}:
                longest = max(one.opts, key=len)
                if longest not in ("--help", "--dry-run"):
                    yield name, longest


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for word in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), word)
            assert below is not None
            yield from walk(below, f"{name} {word}".strip())


def test_the_page_has_what_is_ours() -> None:
    written = set()
    for line in PAGE.read_text().partition("## Ours")[2].splitlines():
        if line.startswith("| `stack"):
            first, options = line.strip("|").split("|")
            command = first.strip().strip("`").removeprefix("stack").strip()
            known = (command, "") in composes()
            written |= {(command, one) for one in re.findall(r"`(--?[^`]+)`", options)} | (
                set() if known else {(command, "")}
            )
    ours = set(declared())
    assert not ours - written, f"write them under Ours: {sorted(ours - written)}"
    assert not written - ours, f"they are not there any more: {sorted(written - ours)}"
