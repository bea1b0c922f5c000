"""``stack stop``"""

from __future__ import annotations

from orchestrator.actions.lifecycle import find_unknown, prepare_stop
from orchestrator.cli.converging import converge_with_progress
from orchestrator.cli.declare import DRY_RUN, TIMEOUT, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.marking import tell_lines


@declare("stop", TIMEOUT, DRY_RUN)
def command(invocation: Invocation, services: tuple[str, ...], timeout: int | None) -> None:
    """Stop services; their containers stay and can be started again."""
    project = invocation.identify(services)
    engine = invocation.engine()
    goal = prepare_stop(engine, project, services, timeout=timeout)
    if goal is None:
        return
    if goal.wants:
        converge_with_progress(invocation, goal, "stop")
    if not invocation.dry_run:
        tell = tell_lines()
        for one in find_unknown(project, engine, goal, services):
            tell(one, "Stopping")
            engine.stop_container(one.id, timeout=timeout)
            tell(one, "Stopped")
