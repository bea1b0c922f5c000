"""What a goal would do: observe, reconcile, and stop there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engines.base import Engine
    from orchestrator.errors import Diagnostic
    from orchestrator.goal import Goal
    from orchestrator.model import Stack
    from orchestrator.plan import Plan


def plan_goal(engine: Engine, goal: Goal, now: float) -> Plan:
    """Return the operations that would bring the project to `goal`, with their causes. Raises ModelError."""
    from orchestrator.reconcile import reconcile

    check_stack(engine, goal)
    observed = engine.observe(goal.stack.name, goal.stack)
    return reconcile(goal, observed, now)


def check_stack(engine: Engine, goal: Goal) -> None:
    """Refuse a stack with attributes that the engine cannot honour. Raises ModelError with all of them."""
    found = [*engine.check(goal.stack), *_check_hooks(engine, goal.stack)]
    if any(one.severity == "error" for one in found):
        raise ModelError(found)
    for one in found:
        engine.on_warning(one)


def _check_hooks(engine: Engine, stack: Stack) -> Iterator[Diagnostic]:
    """What the engine cannot honour of what ``pre_start`` containers say themselves, at its line."""
    for name, service in stack.services.items():
        hooks = service.config.get("pre_start")
        if not hooks:
            continue
        from orchestrator.source import render_path
        from orchestrator.spec.pre_start import list_init_services

        for index, (own, shaped) in enumerate(zip(hooks, list_init_services(service), strict=True)):
            outer = render_path(("services", name)) + "."
            inner = render_path(("services", name, "pre_start", index)) + "."
            alone = stack.replace(services={name: shaped}, networks={}, volumes={}, secrets={}, configs={})
            for one in engine.check(alone):
                attribute = one.path.removeprefix(outer).partition(".")[0].partition("[")[0]
                if attribute in own:
                    place = stack.sources.locate(("services", name, "pre_start", index, attribute))
                    yield one._replace(path=one.path.replace(outer, inner, 1), location=place)
