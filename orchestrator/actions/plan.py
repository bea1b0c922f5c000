"""What a goal would do: observe, reconcile, and stop there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import ModelError

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine
    from orchestrator.goal import Goal
    from orchestrator.plan import Plan


def plan_goal(engine: Engine, goal: Goal, now: float) -> Plan:
    """Return the operations that would bring the project to `goal`, with their causes. Raises ModelError."""
    from orchestrator.reconcile import reconcile

    check_stack(engine, goal)
    observed = engine.observe(goal.stack.name, goal.stack)
    return reconcile(goal, observed, now)


def check_stack(engine: Engine, goal: Goal) -> None:
    """Refuse a stack with attributes that the engine cannot honour. Raises ModelError with all of them."""
    found = engine.check(goal.stack)
    if any(one.severity == "error" for one in found):
        raise ModelError(found)
    for one in found:
        engine.on_warning(one)
