"""Plans on the screen, for ``plan`` and ``--dry-run``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.plan import (
    CreateContainer,
    KillContainer,
    Operation,
    Plan,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    RestartContainer,
    StopContainer,
    WaitFor,
)
from orchestrator.reconcile.divergence import SHOWN_CHANGES

if TYPE_CHECKING:
    from orchestrator.digest import FieldChange

_MORE = re.compile(r"and \d+ more")
_GREEN, _RED, _YELLOW, _DIM = "32", "31", "33", "2"


def render_plan(plan: Plan, project: str, *, colour: bool = False) -> str:
    """Render each operation with its cause, one below the other; the cause's parts are indented."""
    if not plan:
        return f"project {project}: nothing to do\n"
    count = len(plan.operations)
    lines = [f"project {project}: {count} operation{'' if count == 1 else 's'}", ""]
    changes = {one.subject: one.changes for one in plan if isinstance(one, CreateContainer)}
    told: set[tuple[str, str]] = set()
    for one in plan:
        sign, shade = _sign(one)
        head = f"  {sign} {one.verb} {_subject(one)}"
        lines.append(f"\x1b[{shade}m{head}\x1b[0m" if colour and shade else head)
        if (one.subject, one.cause) in told:
            continue
        told.add((one.subject, one.cause))
        for part in _list_causes(one.cause, changes.get(one.subject, ())):
            lines.append(f"\x1b[{_DIM}m      {part}\x1b[0m" if colour else f"      {part}")
    return "\n".join(lines) + "\n"


def _list_causes(cause: str, changes: Sequence[FieldChange]) -> list[str]:
    """The parts of a cause; where it only counts the fields that differ, each of them."""
    # What stands in a field may look like the end of one.
    for one in changes:
        text = one.render()
        cause = cause.replace(text, text.replace("; ", ";\0"))
    parts = [part.replace("\0", " ") for part in cause.split("; ")]
    counted = next((at for at, part in enumerate(parts) if _MORE.fullmatch(part)), None)
    if counted is None or not changes:
        return parts
    return [*parts[:counted], *(one.render() for one in changes[SHOWN_CHANGES:]), *parts[counted + 1 :]]


def dump_plan(plan: Plan, project: str) -> dict[str, Any]:
    """Return the plan as plain data for ``--format json``."""
    return {
        "project": project,
        "operations": [
            {
                "id": one.id,
                "verb": one.verb,
                "subject": one.subject,
                "service": _service(one),
                "cause": one.cause,
                "needs": list(one.needs),
                **({"changes": _dump_changes(one.changes)} if isinstance(one, CreateContainer) and one.changes else {}),
            }
            for one in plan
        ],
        "warnings": [one.render() for one in plan.warnings],
    }


def _dump_changes(changes: Sequence[FieldChange]) -> list[dict[str, str]]:
    return [{"path": one.path, "old": one.old, "new": one.new} for one in changes]


def _service(one: Operation) -> str:
    service = getattr(one, "service", "")
    return service if isinstance(service, str) else str(service.name)


def _subject(one: Operation) -> str:
    if isinstance(one, WaitFor):
        return f"{one.service}: {one.condition.removeprefix('service_').replace('_', ' ')}"
    return one.subject


def _sign(one: Operation) -> tuple[str, str]:
    if isinstance(one, CreateContainer) and one.replaces:
        return "~", _YELLOW
    if isinstance(one, RemoveContainer | RemoveNetwork | RemoveVolume | KillContainer):
        return "-", _RED
    if isinstance(one, StopContainer | RestartContainer):
        return "~", _YELLOW
    if isinstance(one, WaitFor):
        return ".", ""
    return "+", _GREEN
