"""``--dry-run``: what would be done, in the words of what is done, each line behind a mark. Nothing is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from orchestrator.cli.progress import MARK, JsonScreen, PlainScreen, QuietScreen, Screen
from orchestrator.events import Event

if TYPE_CHECKING:
    from orchestrator.cli.invocation import Invocation
    from orchestrator.errors import StackError
    from orchestrator.events import Phase
    from orchestrator.plan import Operation, Plan
    from orchestrator.state import Container

_NO_FAILURES: Mapping[str, StackError] = MappingProxyType({})
_WHOLE: Final[tuple[Phase, ...]] = ("started", "done")

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


def rehearse_plan(
    invocation: Invocation,
    plan: Plan,
    *,
    start: bool = True,
    running: bool = False,
    failures: Mapping[str, StackError] = _NO_FAILURES,
) -> None:
    """Tell a plan as if it were carried out. Without `start` nothing is started; `running` tells what stays.

    `failures` are the errors of operations, by their ids; what needs them is not done.
    """
    from orchestrator.plan import WaitFor

    ended: dict[str, str] = {}
    with open_rehearsal(invocation) as screen:
        for operation in plan:
            if not start and operation.verb in _STARTING:
                continue
            reason = next((ended[one] for one in operation.needs if one in ended), "")
            if reason and isinstance(operation, WaitFor) and not operation.required:
                screen(_describe(operation, "skipped", reason))
            elif reason:
                ended[operation.id] = reason
                screen(_describe(operation, "cancelled", reason))
            elif operation.id in failures:
                ended[operation.id] = f"{operation.verb} {operation.subject} failed"
                screen(_describe(operation, "started"))
                screen(_describe(operation, "failed", failures[operation.id].message))
            else:
                for phase in _WHOLE:
                    screen(_describe(operation, phase))
        for service, container in plan.running if running else ():
            screen(_make_event(container, "keep container", "done", service=service))


def rehearse(
    invocation: Invocation,
    verb: str,
    subjects: Iterable[str],
    *,
    action: str = "",
    failures: Mapping[str, StackError] = _NO_FAILURES,
) -> None:
    """Tell that something is done to each of `subjects`: containers, images or volumes, as `verb` has it.

    `failures` are the errors of some of them.
    """
    with open_rehearsal(invocation) as screen:
        for one in subjects:
            screen(_make_event(one, verb, "started", action=action))
            event = _make_event(one, verb, "failed" if one in failures else "done", action=action)
            screen(event.replace(message=failures[one].message) if one in failures else event)


def rehearse_words(invocation: Invocation) -> Callable[[Container, str], None]:
    """Return what tells a container's new state: `` DRY-RUN MODE -  Container x-web-1 Killed``."""
    screen = open_rehearsal(invocation)
    return lambda container, word: screen(
        _make_event(container.name, "mark container", "progress", action=word, service=container.service)
    )


def _describe(operation: Operation, phase: Phase, message: str = "") -> Event:
    from orchestrator.plan import CreateContainer, WaitFor

    details: dict[str, object] = {}
    if isinstance(operation, WaitFor) and operation.watched:
        details = {"containers": list(operation.watched)}
    elif isinstance(operation, CreateContainer) and operation.replaces:
        details = {"replaces": operation.replaces}
    service = getattr(operation, "service", "")
    event = _make_event(operation.subject, operation.verb, phase, action=operation.id)
    name = service if isinstance(service, str) else service.name
    return event.replace(cause=operation.cause, service=name, details=details, message=message)


def _make_event(subject: str, verb: str, phase: Phase, *, action: str = "", service: str = "") -> Event:
    return Event(
        time=time.time(), kind="operation", subject=subject, action=action, phase=phase, verb=verb, service=service
    )
