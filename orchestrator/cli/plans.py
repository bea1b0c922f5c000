"""Plans on the screen, for ``plan`` and ``--dry-run``."""

from __future__ import annotations

from typing import Any

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

_GREEN, _RED, _YELLOW, _DIM = "32", "31", "33", "2"


def render_plan(plan: Plan, project: str, *, colour: bool = False) -> str:
    """Render each operation with its cause, one below the other; the cause's parts are indented."""
    if not plan:
        return f"project {project}: nothing to do\n"
    count = len(plan.operations)
    lines = [f"project {project}: {count} operation{'' if count == 1 else 's'}", ""]
    for one in plan:
        sign, shade = _sign(one)
        head = f"  {sign} {one.verb} {_subject(one)}"
        lines.append(f"\x1b[{shade}m{head}\x1b[0m" if colour and shade else head)
        for part in one.cause.replace("; ", "\n").splitlines():
            lines.append(f"\x1b[{_DIM}m      {part}\x1b[0m" if colour else f"      {part}")
    return "\n".join(lines) + "\n"


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
            }
            for one in plan
        ],
        "warnings": [one.render() for one in plan.warnings],
    }


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
