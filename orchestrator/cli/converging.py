"""Commands that hand over a goal: progress on the screen, failures in full, ``--dry-run``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from orchestrator.cli.diagnostics import report_diagnostics, uses_colour
from orchestrator.errors import Diagnostic, OperationFailed
from orchestrator.plan import StartContainer
from orchestrator.source import render_path

if TYPE_CHECKING:
    from orchestrator.cli.invocation import Invocation
    from orchestrator.control_loop.failures import Failure
    from orchestrator.engines.base import Engine
    from orchestrator.goal import Goal
    from orchestrator.model import Stack
    from orchestrator.supervision.client import Outcome


def converge_with_progress(
    invocation: Invocation,
    goal: Goal,
    title: str,
    *,
    timeout: float | None = None,
    engine: Callable[[], Engine] | None = None,
    check: bool = False,
    hide: Iterable[str] = (),
) -> Outcome | None:
    """Bring the project to `goal`, or with ``--dry-run`` show what that would do. Raises OperationFailed, Interrupted.

    `engine` is given where Ctrl-C is to call off what has not been begun; with `check` the engine is asked whether it
    can honour the whole stack; `hide` are verbs that are not shown. Returns how it ended, None for a dry run.
    """
    if invocation.dry_run:
        show_plan(invocation, goal, running=title in ("up", "scale"))
        return None
    goal = invocation.limit(goal)
    from orchestrator.actions.converge import converge_goal
    from orchestrator.cli.progress import LEFT_ALONE, leave_out

    told = {"up": "keep container", "scale": "keep container", "stop": "rest container"}.get(title)
    hide = (*hide, *(LEFT_ALONE - {told}))
    if check:
        from orchestrator.actions.plan import check_stack

        opened = invocation.engine()
        opened.require_access(starting=True)
        check_stack(opened, goal)
    with invocation.screen(title) as screen:
        outcome = converge_goal(
            goal, leave_out(screen, hide), prepared=invocation.prepared, timeout=timeout, engine=engine
        )
    if not outcome.converged:
        raise report_failures(outcome.failures, goal.stack)
    return outcome


def show_plan(invocation: Invocation, goal: Goal, *, start: bool = True, running: bool = False) -> None:
    """Tell what bringing the project to `goal` would do; without `start` up to the point where things are started.

    `running` tells what is left alone, too. Raises OperationFailed after each failure that can be foreseen is shown.
    """
    from orchestrator.actions.plan import plan_goal
    from orchestrator.actions.rehearse import foresee_failures
    from orchestrator.cli.rehearsal import rehearse_plan

    engine = invocation.engine()
    plan = plan_goal(engine, goal, time.time())
    report_diagnostics(plan.warnings)
    done = [one for one in plan if start or not isinstance(one, StartContainer)]
    errors = foresee_failures(engine, goal.stack, done)
    for key in [key for key, error in errors.items() if error.code == "registry-unreachable"]:
        # Whether the image is there is not known; the rest is worth telling without a network, too.
        unasked = errors.pop(key)
        report_diagnostics([Diagnostic(unasked.code, unasked.message, hint=unasked.hint, severity="warning")])
    rehearse_plan(invocation, plan, start=start, running=running, failures=errors)
    if errors:
        from orchestrator.control_loop.failures import describe_error

        raise report_failures([describe_error(errors[one.id], one) for one in plan if one.id in errors], goal.stack)


def report_failures(failures: Iterable[Failure], stack: Stack) -> OperationFailed:
    """Write each failure with its place, its exit code and the end of its log; return the error to raise."""
    from orchestrator.control_loop.failures import resolve_attribute

    for one in failures:
        if one.rendered:
            print(one.rendered, file=sys.stderr)
            write_lines(one.excerpt, "")
            if one.log:
                write_lines(one.log, "last output:")
            continue
        path = resolve_attribute(one, stack)
        message = one.message.removeprefix(f"{render_path(path)}: ")
        if one.service and one.service not in message and message == one.message:
            message = f"service {one.service}: {message}"
        if one.exit_code is not None and "exit" not in message:
            message += f" (exit code {one.exit_code})"
        place = stack.sources.locate(path) if path else None
        report_diagnostics([Diagnostic(one.code, message, place, render_path(path), one.hint)])
        if one.log:
            write_lines(one.log, f"last lines of {one.container or one.service}:")
    # Everything has been said: the error carries only the exit code.
    return OperationFailed("")


def write_lines(lines: Iterable[str], title: str) -> None:
    """Write lines that somebody else has written below a title, set off from ours."""
    colour = uses_colour(sys.stderr)
    if title:
        print(f"  {title}", file=sys.stderr)
    for line in lines:
        text = f"    | {line}" if title else f"  {line}"
        print(f"\x1b[2m{text}\x1b[0m" if colour else text, file=sys.stderr)
