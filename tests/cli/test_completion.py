"""What shells offer for a word: names of all kinds, and each shell's own idea of what a word is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.shells import SHELLS

from .conftest import Ran, ShelfEngine, make_container

ROOT = Path(__file__).parents[2]
FILE = "name: shop\nservices: {web: {image: x}, db: {image: y}, late: {image: z, profiles: [extra]}}"

Ask = Callable[[str, str], list[str]]


@pytest.fixture
def ask(
    stack: Callable[..., Ran], engine: ShelfEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Ask as a shell does: its name, the line up to the cursor, and for bash what it takes for the word."""
    monkeypatch.chdir(tmp_path)
    engine.containers = [make_container()]
    engine.folders = {"/": ["etc/", "tmp/"], "/etc/": ["a b", "given"]}
    (tmp_path / "broken.yaml").write_text("services: [")
    (tmp_path / "compose.yaml").write_text(FILE)

    def send(shell: str, line: str, word: str | None = None) -> list[str]:
        monkeypatch.setenv("_STACK_COMPLETE", f"{shell}_complete")
        monkeypatch.setenv("_STACK_LINE", line)
        monkeypatch.setenv("_STACK_WORD", line.rpartition(" ")[2] if word is None else word)
        told = [one for one in stack().out.replace("\\:", ":").splitlines() if one]
        return [one.partition(",")[2] if shell == "bash" else one.split("\t")[1] for one in told]

    return send


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("logs ", ["db", "late", "web"]),
        ("logs db w", ["web"]),
        ("up --exit-code-from d", ["db"]),
        ("scale w", ["web="]),
        ("cp d", ["db:"]),
        ("cp web:/e", ["web:/etc/"]),
        ("cp x web:/etc/gi", ["web:/etc/given"]),
        ("cp db:/", []),
        ("--profile ", ["extra"]),
        ("up --abort-on-container-f", ["--abort-on-container-failure"]),
        ("-p s", ["shop"]),
        ("image pru", ["prune"]),
        ("ps --status e", ["exited"]),
        ("-f broken.yaml logs ", []),
        # Nothing in the folder is called so: what runs under the name is asked.
        ("--project-directory / -p shop logs ", ["web"]),
    ],
)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_is_told_what_a_word_can_be(ask: Ask, shell: str, line: str, offered: list[str]) -> None:
    assert ask(shell, f"stack {line}") == offered


@pytest.mark.parametrize(
    ("line", "word", "put"),
    [
        # COMP_WORDBREAKS has a colon and an equals sign in it, unless somebody has taken them out.
        ("cp web:/etc/g", "/etc/g", ["/etc/given"]),
        ("cp web:/etc/g", "web:/etc/g", ["web:/etc/given"]),
        ("cp web:", "", ["etc/", "tmp/"]),
        ("--profile=e", "e", ["extra"]),
        ("--profile=", "", ["extra"]),
        ("--profile=e", "--profile=e", ["--profile=extra"]),
        ('cp "web:/etc/', "web:/etc/", ["web:/etc/a b", "web:/etc/given"]),
        ("cp web:/etc/a", "/etc/a", ["/etc/a\\ b"]),
        ("cp web:/etc/a\\ ", "/etc/a\\ ", ["/etc/a\\ b"]),
    ],
)
def test_bash_gets_the_part_behind_a_break(
    ask: Callable[[str, str, str], list[str]], line: str, word: str, put: list[str]
) -> None:
    assert ask("bash", f"A=1 stack {line}", word) == put


def test_values_behind_an_equals_sign(ask: Ask) -> None:
    # Fish replaces the whole word; zsh is told to look behind the sign.
    assert ask("fish", "stack --profile=e") == ["--profile=extra"]
    assert ask("zsh", "stack --profile=e") == ["extra"]


def _print_script(shell: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "completion", shell],
        cwd=ROOT, env=_make_environment(folder), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def _make_environment(folder: Path) -> dict[str, str]:
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "STACK_", "_STACK"))}
    return {**usual, "STACK_STATE_DIR": f"{folder}/s", "STACK_RUN_DIR": f"{folder}/r", "PYTHONPATH": str(ROOT)}


def test_the_script_for_bash(tmp_path: Path) -> None:
    asked = """
    stack() { echo "asked: $_STACK_COMPLETE|$_STACK_LINE|$_STACK_WORD" >&3; printf '%s\\n' "${OFFERED[@]}"; }
    compopt() { echo "$@"; }
    COMP_LINE='stack scale w; ls' COMP_POINT=13
    exec 3>&1
    for OFFERED in plain,web= plain,web file, ''; do
        _stack_completion stack w
        echo "${#COMPREPLY[@]} ${COMPREPLY[*]}"
    done
    OFFERED=(plain,*.x= 'plain,b c') && _stack_completion stack w && printf '<%s>' "${COMPREPLY[@]}"
    """
    script = _print_script("bash", tmp_path) + asked
    done = subprocess.run(["bash", "--norc", "-uc", script], capture_output=True, text=True, check=True)
    told = "asked: bash_complete|stack scale w|w\n"
    assert done.stdout == (
        f"{told}-o nospace\n1 web=\n{told}1 web\n{told}-o default\n0 \n{told}0 \n{told}<*.x=><b c>"
    ), done.stderr  # fmt: skip


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_the_script_for_fish(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(FILE)
    (tmp_path / "stack").write_text(f'#!/bin/sh\nexec {sys.executable} -m orchestrator "$@"\n')
    (tmp_path / "stack").chmod(0o755)
    script = _print_script("fish", tmp_path)
    script += "complete -C 'stack --profile=e'; complete -C 'stack --file=comp'; complete -C 'stack cp d'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=tmp_path,
        env={**_make_environment(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["--profile=extra", "--file=compose.yaml", "db:\ty"], done.stderr
