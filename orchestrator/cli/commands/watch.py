"""``stack watch``"""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

from orchestrator.cli.declare import DRY_RUN, Option, declare
from orchestrator.cli.invocation import Invocation


@declare(
    "watch",
    Option("--no-up", flag=True, help="Do not build and start the services first."),
    Option("--prune/--no-prune", flag=True, default=True, help="Remove the images that rebuilds replace."),
    Option("--quiet", flag=True, help="No progress of builds."),
    DRY_RUN,
)
def command(invocation: Invocation, services: tuple[str, ...], no_up: bool, prune: bool, quiet: bool) -> int:
    """Follow the files that develop.watch names: copy them into containers, restart or build services again."""
    from orchestrator.actions.goals import UpOptions
    from orchestrator.actions.names import select_services
    from orchestrator.actions.prepare_up import prepare_up
    from orchestrator.actions.watch import Watcher, WatchOptions, describe_rules
    from orchestrator.actions.watch_rules import list_watch_rules
    from orchestrator.cli.converging import converge_with_progress, show_plan
    from orchestrator.cli.watching import Converger

    project = invocation.load_to_act(services)
    assert project.stack is not None
    select_services(services, project.stack.services, disabled=project.stack.disabled)
    rules = list_watch_rules(project.stack, services, invocation.warn)
    goal = None if no_up else prepare_up(project, UpOptions(services=services))
    if invocation.dry_run:
        if goal is not None:
            show_plan(invocation, goal)
        for one in describe_rules(rules):
            print(f"watch {one['path']} for {one['service']}: {one['action']} {one.get('target', '')}".rstrip())
        return 0
    engine = invocation.engine()
    engine.require_access(starting=True)
    converger = Converger(invocation, quiet=quiet)
    # Before anything is built: what changes meanwhile counts.
    options = WatchOptions(prune=prune, verbose=invocation.progress == "plain")
    watcher = Watcher(engine, project, rules, say=_say, converge=converger, options=options)
    try:
        if goal is not None:
            hide = ("build image",) if quiet else ()
            converge_with_progress(invocation, goal, "up", engine=invocation.engine, check=True, hide=hide)
        signal.signal(signal.SIGTERM, _interrupt)
        watcher.run()
    finally:
        watcher.close()
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
