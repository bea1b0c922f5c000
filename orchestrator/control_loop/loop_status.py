"""What a loop tells of itself, as plain data: for ``why``, ``ps`` and the control socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.control_loop.conditions import Board
    from orchestrator.control_loop.executor import Execution
    from orchestrator.control_loop.health_runner import HealthRunner
    from orchestrator.goal import Goal


def describe_goal(goal: Goal | None) -> dict[str, Any]:
    """What is wanted."""
    return {
        "wants": dict(goal.wants) if goal else {},
        "down": goal.down if goal else False,
        "issued_at": goal.issued_at if goal else 0.0,
    }


def describe_execution(execution: Execution | None) -> dict[str, Any]:
    """What is under way, and what waits for what."""
    running = [
        {"id": one.id, "verb": one.verb, "subject": one.subject, "cause": one.cause}
        for one in (execution.running if execution else ())
    ]
    pending = execution.pending() if execution else {}
    return {"running": running, "pending": {key: list(needs) for key, needs in pending.items()}}


def describe_board(board: Board, health: HealthRunner) -> dict[str, Any]:
    """What each container does, and what its probes said."""
    return {
        "health": {one.name: found for one in board.all() if (found := health.history(one.id))},
        "containers": {
            one.name: {"service": one.service, "status": one.status, "health": one.health} for one in board.all()
        },
    }
