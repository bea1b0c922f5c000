"""A glance at the command line before anything is imported: is this a command that brings the project to a new goal?"""

from __future__ import annotations

import os
from time import time_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

WITH_VALUE = frozenset(
    {
        "-f", "--file", "-p", "--project-name", "--profile", "--env-file", "--project-directory", "--workdir",
        "--insecure-registry", "--ansi", "--progress", "--parallel",
    }
)  # fmt: skip
"""The global options that take a value."""

CONVERGING = frozenset({"up", "down", "stop", "start", "restart", "create", "scale", "rm", "run"})
"""The commands that hand a goal to the project's supervisor."""

_HARMLESS = frozenset({"--help", "-h", "--dry-run"})


def find_command(arguments: Sequence[str]) -> str:
    """Return the command word, skipping global options and their values; empty if there is none."""
    skip = False
    for word in arguments:
        if skip:
            skip = False
        elif word in WITH_VALUE:
            skip = True
        elif not word.startswith("-"):
            return word
    return ""


_words: tuple[str, ...] = ()
_noted_at = 0


def note_words(arguments: Sequence[str]) -> None:
    """Note what this process was asked, and when: before anything was read for the answer."""
    global _words, _noted_at
    _words, _noted_at = tuple(arguments), time_ns()


def read_words() -> tuple[tuple[str, ...], int]:
    """What was noted: the command line, and the moment in ns since the epoch."""
    return _words, _noted_at


def may_take_shortcuts() -> bool:
    """Whether a quicker way to the same answer may be taken: always, unless ``STACK_SHORTCUTS`` is 0."""
    return os.environ.get("STACK_SHORTCUTS") != "0"


def will_converge(arguments: Sequence[str]) -> bool:
    """True when the command will hand a goal to a supervisor, so that one is worth preparing now."""
    return find_command(arguments) in CONVERGING and not _HARMLESS.intersection(arguments)
