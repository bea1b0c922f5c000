"""Plans as text. Each case is a story of steps on the fake engine; the golden file holds the plan of every step.

A step's ``up`` is a stack (services, networks, volumes, disabled); a step without one goes on with the last. ``goal``
sets fields of the goal, where a list of services stands for "each of them, now". ``exit`` lets containers end by
themselves after the step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from plan_runner import Runner
from stacks import bind_stack

from orchestrator.errors import StackError
from orchestrator.goal import Goal
from orchestrator.model import Stack

CASES = sorted(path.parent for path in (Path(__file__).parent / "plan").glob("*/case.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_plan(case: Path, compare_golden: Callable[[Path, str], None]) -> None:
    story = yaml.safe_load((case / "case.yaml").read_text())
    runner = Runner()
    for reference, fields in story.get("images", {}).items():
        runner.engine.publish_image(reference, **(fields or {}))
    stack = Stack(name="app")
    text = ""
    for number, step in enumerate(story["steps"], start=1):
        if "up" in step:
            stack = bind_stack(**step["up"])
        goal = bind_goal(stack, step.get("goal", {}), runner.clock())
        text += f"== step {number}: {step['about']}\n" + render(runner, goal)
        for name, code in step.get("exit", {}).items():
            runner.engine.exit(runner.find("app", name), code)
    compare_golden(case / "plan.txt", text)


def render(runner: Runner, goal: Goal) -> str:
    try:
        plan = runner.plan(goal)
    except StackError as error:
        return error.render() + "\n\n"
    warnings = "".join(one.render() + "\n" for one in plan.warnings)
    runner.converge(goal)
    return warnings + (plan.render() or "(nothing to do)\n") + "\n"


def bind_goal(stack: Stack, fields: dict[str, Any], now: float) -> Goal:
    values = dict(fields)
    for name in ("recreate_before", "restart_before", "renew_volumes_before", "build_before", "refresh_before"):
        if name in values:
            values[name] = dict.fromkeys(values[name], now)
    values.setdefault("wants", dict.fromkeys(stack.services, "running"))
    return Goal(stack=stack, issued_at=now, **values)
