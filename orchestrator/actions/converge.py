"""Handing a goal to the project's supervisor and waiting until it is reached."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.errors import Interrupted, Unavailable
from orchestrator.supervision.client import Outcome, Session

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine
    from orchestrator.events import Event, Sink
    from orchestrator.goal import Goal
    from orchestrator.supervision.launch import Prepared


class WaitTimedOut(Unavailable):
    """``--wait-timeout`` has passed; the supervisor goes on with the goal."""

    code = "wait-timed-out"


def converge_goal(
    goal: Goal,
    sink: Sink,
    *,
    prepared: Prepared | None = None,
    timeout: float | None = None,
    engine: Callable[[], Engine] | None = None,
) -> Outcome:
    """Bring a project to `goal`; the supervisor goes on if anything is left to supervise.

    Ctrl-C: if something was to be started (and `engine` is given), what has not been begun is not begun; Interrupted
    is raised. Raises WaitTimedOut after `timeout` seconds.
    """
    with Session(goal.stack.name, prepared=prepared) as session:
        try:
            outcome = converge_in_time(session, goal, sink, timeout)
        except KeyboardInterrupt:
            if engine is None:
                raise Interrupted("interrupted", hint="the supervisor goes on with it in the background") from None
            raise call_off(session, goal, engine(), sink) from None
        session.finish()
        return outcome


def converge_in_time(session: Session, goal: Goal, sink: Sink, timeout: float | None) -> Outcome:
    """Converge within `timeout` seconds. Raises WaitTimedOut, which names what is not ready."""
    began = time.monotonic()
    try:
        return session.converge(goal, sink, timeout=timeout)
    except Unavailable as error:
        if timeout is None or time.monotonic() - began < timeout:
            raise
        late = name_unready(goal)
        if "is created" in late:
            late = f"timeout waiting for dependencies: {late}"
        raise WaitTimedOut(
            f"application not healthy after {timeout:g}s" + (f": {late}" if late else ""),
            resource=goal.stack.name,
            operation="wait",
            hint="`stack ps -a` and `stack logs` tell more; the services go on",
        ) from error


def call_off(session: Session, goal: Goal, engine: Engine, sink: Sink) -> Interrupted:
    """Begin nothing more of `goal`; return the error to raise, which says how far it came."""
    from orchestrator.actions.goals import edit_interrupted
    from orchestrator.superseding import explain_interruption

    project = goal.stack.name
    session.converge(edit_interrupted(goal, engine.observe(project), time.time()), tell_interrupted(sink))
    again = "run it again to go on from here; `stack down` removes what is there"
    return Interrupted(explain_interruption(goal, engine.observe(project)), hint=again)


def tell_interrupted(sink: Sink) -> Sink:
    """Return a sink that says of what is not begun any more that this is the user's doing."""

    def pass_on(event: Event, /) -> None:
        sink(event.replace(message="interrupted") if event.phase == "cancelled" else event)

    return pass_on


def name_unready(goal: Goal) -> str:
    """Say which of the services that are waited for are not there yet; empty if nobody knows."""
    from orchestrator.supervision.client import query_status

    status = query_status(goal.stack.name)
    if status is None:
        return ""
    late = []
    for name in goal.wait_for:
        found = [one for one in status["containers"].values() if one["service"] == name]
        if not found:
            late.append(f"{name} has not been created")
        for one in found:
            if one["status"] != "running":
                late.append(f"{name} is {one['status']}")
            elif one["health"] and one["health"] != "healthy":
                late.append(f"{name} is {one['health']}")
    return ", ".join(late)
