"""``up -d`` again with nothing to do: the project's supervisor is asked, and nothing is loaded.

After an ``up`` that succeeded its words are remembered, together with what the supervisor knows the goal by. The same
words then ask it whether that goal still holds. What the command had read (the stack file and whatever that names, the
environment) is compared with what is remembered; all else is for the supervisor to look at
(:mod:`orchestrator.supervision.confirmation`). In any doubt the command takes its usual way.
"""

from __future__ import annotations

import os
import sys
from time import time

from orchestrator.actions.memory import describe_question, recall, remember
from orchestrator.cli.argv import may_take_shortcuts, read_words
from orchestrator.cli.diagnostics import has_reported, writes_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from orchestrator.actions.project import Project
    from orchestrator.cli.invocation import Invocation
    from orchestrator.goal import Goal
    from orchestrator.model import Stack
    from orchestrator.supervision.client import Outcome

_KIND = "up"

_CODE = (
    *("spec", "actions", "cli", "cli/commands", "engines/native", "goal.py", "model.py", "record.py"),
    "supervision/control.py",
)
"""The code that makes the goal, and says what of it cannot be honoured."""


def confirm_up(arguments: Sequence[str]) -> bool:
    """Whether these words have nothing to do, as the supervisor says; that has been told then.

    ``STACK_SHORTCUTS=0`` has every ``up`` take its usual way.
    """
    if not may_take_shortcuts():
        return False
    known = recall(_KIND, describe_question(arguments, _CODE))
    if known is None:
        return False
    from orchestrator.supervision.confirming import confirm_goal

    folder, version, token, progress, ansi = known.decode("utf-8", "surrogateescape").split("\n")
    events = confirm_goal(folder, version, token, time())
    if events is None:
        return False
    _tell(events, progress, ansi)
    return True


def keep_up(invocation: Invocation, project: Project, goal: Goal, outcome: Outcome, services: Sequence[str]) -> None:
    """Remember that the present words brought `goal` about, unless there was something to tell besides."""
    if not (outcome.converged and outcome.token and may_take_shortcuts()) or outcome.superseded or has_reported():
        return
    words, noted_at = read_words()
    from orchestrator.actions.project import place_stack
    from orchestrator.evidence import is_settled, render_kept, sign_path
    from orchestrator.supervision.control import CODE_VERSION, Place

    looked = {path: sign_path(path) for path in _list_read(goal.stack)}
    try:
        loaded = render_kept(place_stack(invocation.project, services))
    except ValueError:
        # The stack could not be remembered: something that it was made from may change unnoticed.
        return
    if all(is_settled(one, noted_at) for one in looked.values()):
        lines = (Place.of(project.name).run, CODE_VERSION, outcome.token, invocation.progress, invocation.ansi)
        remember(
            _KIND,
            describe_question(words, _CODE),
            looked,
            "\n".join(lines).encode("utf-8", "surrogateescape"),
            [loaded],
        )


def _list_read(stack: Stack) -> Iterator[str]:
    """Every path that ``prepare_up`` and the checks read, besides those that the stack was loaded from."""
    yield os.path.join(stack.directory, ".env")
    for one in (*stack.secrets.values(), *stack.configs.values()):
        if one.file:
            yield one.file
    if any(service.build is not None for service in stack.services.values()):
        from orchestrator.actions.build_environment import find_client_settings

        yield find_client_settings(os.environ)


def _tell(events: Sequence[dict[str, Any]], progress: str, ansi: str) -> None:
    """Show events as ``up`` shows them; lines are written at once, other displays take their imports."""
    told = [(f"Container {one['subject']}", word) for one in events if (word := _find_word(one))]
    if writes_lines(progress, ansi):
        texts = dict.fromkeys(f"{name} {word}" for name, word in told)
        try:
            sys.stderr.write("".join(f" {text}\n" for text in texts))
            sys.stderr.flush()
        except (BrokenPipeError, ValueError):
            # As with any display: nobody reads the progress, and that is no failure.
            return
        return
    if progress in ("auto", "tty") and ansi == "auto" and events[-1]["time"] - events[0]["time"] < _INSTANT:
        from orchestrator.cli.still import draw_still

        if draw_still("up", dict(told)):
            return
    from orchestrator.cli.diagnostics import uses_colour
    from orchestrator.cli.progress import LEFT_ALONE, leave_out, open_screen
    from orchestrator.events import Event

    with open_screen(progress, "up", ansi=ansi, colour=uses_colour(sys.stderr, ansi)) as screen:
        sink = leave_out(screen, LEFT_ALONE - {"keep container"})
        for one in events:
            sink(Event.from_json(one))


def _find_word(event: dict[str, Any]) -> str:
    """What displays call one of the few events that can come; empty for one that they do not show."""
    return _WORDS.get((event.get("verb", ""), event.get("phase", "")), "")


_INSTANT = 0.04
"""Seconds between events that a display does not tell apart."""

_WORDS = {
    ("keep container", "done"): "Running",
    ("await container", "started"): "Waiting",
    ("await container", "done"): "Healthy",
}
