"""``stack logs``"""

from __future__ import annotations

import sys
import time

from orchestrator.actions.containers import short_name
from orchestrator.actions.moments import parse_moment, parse_tail
from orchestrator.actions.read_logs import LogOptions, choose_logs, read_logs
from orchestrator.cli.declare import INDEX, Option, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.logview import LogView
from orchestrator.errors import UsageError


@declare(
    "logs",
    Option("-f", "--follow", flag=True, help="Go on as long as the containers do."),
    Option("-t", "--timestamps", flag=True, help="Show when each line was written."),
    Option("-n", "--tail", default="all", metavar="LINES", help="So many lines from the end of each (default: all)."),
    Option("--since", metavar="TIME", help="From this time on: 10m, 2026-11-23T08:00:00Z ..."),
    Option("--until", metavar="TIME", help="Up to this time."),
    Option("--no-color", flag=True, help="No colours."),
    Option("--no-log-prefix", flag=True, help="No names before the lines."),
    INDEX,
)
def command(
    invocation: Invocation,
    services: tuple[str, ...],
    follow: bool,
    timestamps: bool,
    tail: str,
    since: str | None,
    until: str | None,
    no_color: bool,
    no_log_prefix: bool,
    index: int | None,
) -> None:
    """Show what containers have written."""
    now = time.time()
    if index is not None and len(services) != 1:
        raise UsageError("--index needs the name of one service")
    options = LogOptions(
        services=services,
        follow=follow,
        tail=parse_tail(tail),
        since=parse_moment(since, now, "--since"),
        until=parse_moment(until, now, "--until"),
        index=index,
    )
    project = invocation.recognize()
    engine = invocation.engine()
    containers = choose_logs(engine, project, options)
    colour = invocation.colour(sys.stdout) and not no_color
    view = LogView(colour=colour, prefix=not no_log_prefix, timestamps=timestamps)
    view.announce(short_name(one) for one in containers)
    if follow:
        from orchestrator.actions.follow_logs import LogFollower

        LogFollower(engine, project, options, lambda name, line: view.write_line(name, line, flush=True)).run(
            containers
        )
        return
    for name, line in read_logs(engine, containers, options):
        view.write_line(name, line)
