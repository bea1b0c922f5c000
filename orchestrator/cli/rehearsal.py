"""``--dry-run``: what would be done, in the words of what is done, each line behind a mark. Nothing is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from orchestrator.cli.progress import MARK, JsonScreen, PlainScreen, QuietScreen, Screen
from orchestrator.events import Event

if TYPE_CHECKING:
    from orchestrator.cli.invocation import Invocation
    from orchestrator.events import Phase
    from orchestrator.plan import Operation, Plan
    from orchestrator.state import Container

_STARTING = frozenset(
    {"start container", "restart container", "wait for", "settle", "run init", "run hooks", "run provider"}
)
"""Verbs of what an attached ``up`` does only once it is attached."""


def open_rehearsal(invocation: Invocation) -> Screen:
    """The screen of a dry run, on stderr: lines, or JSON objects that say so."""
    if invocation.progress == "quiet":
        return QuietScreen()
    if invocation.progress in ("json", "rawjson"):
        return JsonScreen(rehearsed=True)
    return PlainScreen(mark=MARK)


def rehearse_plan(invocation: Invocation, plan: Plan, *, start: bool = True, running: bool = False) -> None:
    """Tell a plan as if it were carried out. Without `start` nothing is started; `running` tells what stays."""
    with open_rehearsal(invocation) as screen:
        for operation in plan:
            if start or operation.verb not in _STARTING:
                _play(screen, operation)
        for service, container in plan.running if running else ():
            screen(_make_event(container, "keep container", "done", service=service))


def rehearse(invocation: Invocation, verb: str, subjects: Iterable[str], *, action: str = "") -> None:
    """Tell that something is done to each of `subjects`: containers, images or volumes, as `verb` has it."""
    with open_rehearsal(invocation) as screen:
        for one in subjects:
            for phase in ("started", "done"):
                screen(_make_event(one, verb, phase, action=action))


def rehearse_words(invocation: Invocation) -> Callable[[Container, str], None]:
    """Return what tells a container's new state: `` DRY-RUN MODE -  Container x-web-1 Killed``."""
    screen = open_rehearsal(invocation)
    return lambda container, word: screen(
        _make_event(container.name, "mark container", "progress", action=word, service=container.service)
    )


def _play(screen: Screen, operation: Operation) -> None:
    from orchestrator.plan import CreateContainer, WaitFor

    details: dict[str, object] = {}
    if isinstance(operation, WaitFor) and operation.watched:
        details = {"containers": list(operation.watched)}
    elif isinstance(operation, CreateContainer) and operation.replaces:
        details = {"replaces": operation.replaces}
    service = getattr(operation, "service", "")
    for phase in ("started", "done"):
        event = _make_event(operation.subject, operation.verb, phase, action=operation.id)
        name = service if isinstance(service, str) else service.name
        screen(event.replace(cause=operation.cause, service=name, details=details))


def _make_event(subject: str, verb: str, phase: Phase, *, action: str = "", service: str = "") -> Event:
    return Event(
        time=time.time(), kind="operation", subject=subject, action=action, phase=phase, verb=verb, service=service
    )
