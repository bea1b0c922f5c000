"""``stack ps``"""

from __future__ import annotations

import os
import sys
import time

from orchestrator.actions.containers import choose_containers, mark_restarting
from orchestrator.actions.list_containers import observe_briefly
from orchestrator.cli.argv import may_take_shortcuts
from orchestrator.cli.containers import describe_briefly, describe_container
from orchestrator.cli.declare import FORMAT, Option, declare
from orchestrator.cli.table import render_listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.cli.invocation import Invocation

_HEADER = {
    "Name": "NAME",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "Service": "SERVICE",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
}


@declare(
    "ps",
    Option("-a", "--all", "every", flag=True, help="Stopped containers too."),
    Option("-q", "--quiet", flag=True, help="Only container ids."),
    Option("--services", "only_services", flag=True, help="Only service names."),
    Option("--status", "statuses", multiple=True, metavar="STATUS", help="Only containers with this status."),
    Option("--filter", "filters", multiple=True, metavar="status=STATUS", help="Only containers that match."),
    Option("--no-trunc", flag=True, help="Do not shorten."),
    Option("--orphans/--no-orphans", flag=True, default=True, help="Containers of services that the file lacks."),
    FORMAT,
)
def command(
    invocation: Invocation,
    services: tuple[str, ...],
    every: bool,
    quiet: bool,
    only_services: bool,
    statuses: tuple[str, ...],
    filters: tuple[str, ...],
    no_trunc: bool,
    orphans: bool,
    form: str | None,
) -> None:
    """List the project's containers."""
    statuses = (*statuses, *(_parse_filter(one) for one in filters))
    form = form or _find_format()
    project = invocation.recognize()
    now = time.time()
    # What a table shows can be had without the engine, whose import takes most of the time.
    brief = form in (None, "table") and may_take_shortcuts()
    observed = observe_briefly(project.name) if brief else None
    briefly = observed is not None
    if observed is None:
        observed = invocation.engine().observe(project.name)
    observed = mark_restarting(observed, now)
    containers = choose_containers(
        project,
        observed,
        services,
        every=every,
        statuses=statuses,
        oneoff=every,
        orphans=orphans,
    )
    write = sys.stdout.write
    if quiet:
        write("".join(f"{one.id}\n" for one in containers))
        return
    if only_services:
        names = sorted({one.service for one in containers})
        write("".join(f"{name}\n" for name in names))
        return
    describe = describe_briefly if briefly else describe_container
    rows = [describe(one, now, trunc=not no_trunc) for one in containers]
    write(render_listing(form, _HEADER, rows))


def _find_format() -> str | None:
    """``psFormat`` of docker's client configuration."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    try:
        with open(os.path.join(folder, "config.json"), "rb") as file:
            text = file.read()
    except OSError:
        return None
    if b"psFormat" not in text:
        return None
    import json

    try:
        found = json.loads(text).get("psFormat")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and found else None


def _parse_filter(text: str) -> str:
    name, equals, value = text.partition("=")
    if not equals or name not in ("status",):
        from orchestrator.actions.names import suggest_names
        from orchestrator.errors import UsageError

        raise UsageError(
            f"--filter: cannot read {text!r}", hint=suggest_names(name, ["status"]) or "write status=running"
        )
    return value
