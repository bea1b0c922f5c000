"""``stack ui``"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from orchestrator.cli.declare import declare
from orchestrator.cli.invocation import Invocation
from orchestrator.errors import Conflict, UsageError

if TYPE_CHECKING:
    from orchestrator.actions.console.console import Console
    from orchestrator.actions.project import Project


@declare("ui", rest="")
def command(invocation: Invocation) -> int:
    """Show the project on the whole screen: services, output, what they use; one key for each thing to do."""
    if not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        raise UsageError("`stack ui` needs a terminal", hint="`stack ps` and `stack logs` write lines for programs")
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        raise UsageError(
            f"the terminal (TERM={os.environ.get('TERM', '')}) cannot move its cursor",
            hint="`stack ps`, `stack logs -f` and `stack stats` write lines",
        )
    if invocation.dry_run:
        raise UsageError("`stack ui` has no dry run", hint="`u`, `d` and `o` show their plan and ask")
    return run_ui(invocation)


def run_ui(invocation: Invocation) -> int:
    """Run the interface until it is left; its exit code."""
    # Before textual is imported: mistakes in the file are told like everywhere else, and at once.
    project = invocation.identify()
    invocation.agree(project)
    engine = invocation.engine()
    if not invocation.colour(sys.stderr):
        os.environ["NO_COLOR"] = "1"
    import threading

    from orchestrator.actions.console.console import Console, converge_apart, load_for_console
    from orchestrator.actions.folders import check_owner
    from orchestrator.cli.ui.acting import StackApp
    from orchestrator.supervision.client import query_status

    def own(one: Project) -> None:
        if one.stack is not None:
            check_owner(one.stack, invocation.project)
        if one.remote != project.remote:
            raise Conflict(
                "what the stack names has changed since you agreed to it", hint="leave, and begin again to be asked"
            )

    def open_console(app: Any) -> Console:
        return Console(
            engine,
            project,
            app,
            load=load_for_console(invocation.project, project),
            own=own,
            converge=lambda goal: converge_apart(invocation.limit(goal)),
            query_status=query_status,
        )

    app = StackApp(open_console, encoding=sys.stderr.encoding or "ascii")
    # What the engine has to say would be written across the screen.
    engine.on_warning = lambda one: app.later(lambda: app.notify(one.render(), severity="warning", markup=False))
    # Python would write the traceback of a thread across the screen.
    threading.excepthook = lambda lost: app.later(lambda: app.fail(lost.exc_value))
    app.run()
    if app.fault is not None:
        raise app.fault
    return app.return_code or 0
