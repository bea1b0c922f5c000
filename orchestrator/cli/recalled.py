"""What a command printed before is printed again while nothing that it depends on has changed.

Most of the time of ``config`` and of a build with nothing to do is Python's own: imports. This is asked before any.
"""

from __future__ import annotations

import os
from time import time_ns

from orchestrator.actions.memory import describe_question, recall, remember
from orchestrator.cli.argv import find_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.evidence import Signature

_BUILDING = (
    *("", "graph", "actions", "spec", "reconcile", "cli", "cli/commands", "cli/image", "engines", "engines/native"),
    *("engines/native/images", "engines/native/dockerfile", "engines/native/dockerfile/front"),
    *("engines/native/dockerfile/sources", "engines/native/dockerfile/performing"),
)
"""The code that says what a build comes to and how it is told."""

_asked = ("", "")
_asked_at = 0


def recall_output(arguments: Sequence[str]) -> tuple[str, str] | None:
    """What these words wrote before to stderr and stdout, if it still holds; otherwise what they will can be kept."""
    global _asked, _asked_at
    _asked, _asked_at = _name_question(arguments), time_ns()
    kind, question = _asked
    known = recall(kind, question) if kind else None
    if known is None:
        return None
    if kind == "config":
        return "", known.decode()
    head, _, text = known.partition(b"\n\n")
    length, *marks = head.split(b"\n")
    try:
        for mark in marks:
            os.utime(mark)
    except OSError:  # the name has gone since
        return None
    told, out = text[: int(length)], text[int(length) :]
    return told.decode("utf-8", "surrogateescape"), out.decode("utf-8", "surrogateescape")


def _name_question(arguments: Sequence[str]) -> tuple[str, str]:
    command = find_command(arguments)
    if command == "config":
        return command, describe_question(arguments)
    if command == "build" or (command == "image" and "build" in arguments):
        # Where the answer is read decides how it looks.
        return "build", describe_question((*_describe_terminal(), *arguments), _BUILDING)
    return "", ""


def _describe_terminal() -> tuple[object, ...]:
    try:
        return (os.isatty(1), *os.get_terminal_size(2), os.environ.get("COLUMNS"), os.environ.get("LINES"))
    except OSError:
        return (os.isatty(1),)


def keep_output(text: str, seen: Mapping[str, Signature | None]) -> None:
    """Remember what ``config`` prints; `seen` is every path that was looked at."""
    if _asked[0] == "config":
        remember(*_asked, seen, text.encode())


def can_keep_build() -> bool:
    """Whether what this process prints of a build can answer the same words the next time."""
    return _asked[0] == "build"


def keep_build(out: str, told: str, rests_on: Iterable[str], marks: Iterable[str], seen: Iterable[str]) -> None:
    """Remember what a command that builds writes to stdout (`out`) and stderr (`told`).

    `rests_on` are kept results that have to hold as well, `marks` files whose modification time becomes the moment
    at which the command is asked again, `seen` paths that were looked at besides.
    """
    from orchestrator.evidence import is_settled, render_kept, sign_path

    looked = {path: sign_path(path) for path in seen}
    if not all(is_settled(one, _asked_at) for one in looked.values()):
        return
    try:
        lines = [render_kept(path) for path in rests_on]
    except ValueError:  # not kept
        return
    data = told.encode("utf-8", "surrogateescape")
    head = b"\n".join((b"%d" % len(data), *map(os.fsencode, marks)))
    remember(*_asked, looked, b"%s\n\n%s%s" % (head, data, out.encode("utf-8", "surrogateescape")), lines)
