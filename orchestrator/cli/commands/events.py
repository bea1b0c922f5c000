"""``stack events``"""

from __future__ import annotations

import json
import sys
import time

from orchestrator.actions.follow_events import follow_events
from orchestrator.actions.moments import parse_moment
from orchestrator.cli.declare import DRY_RUN, Option, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.engines.base import ContainerEvent


@declare(
    "events",
    Option("--json", "as_json", flag=True, help="One JSON object a line."),
    Option("--since", metavar="TIME", help="From this time on: 10m, 2026-11-23T08:00:00Z ... (default: now)."),
    Option("--until", metavar="TIME", help="Up to this time (default: until Ctrl-C)."),
    DRY_RUN,
)
def command(
    invocation: Invocation, services: tuple[str, ...], as_json: bool, since: str | None, until: str | None
) -> None:
    """Show what happens to the containers of services."""
    now = time.time()
    first, last = parse_moment(since, now, "--since"), parse_moment(until, now, "--until")
    render = render_json if as_json else render_text
    for event in follow_events(invocation.engine(), invocation.recognize(), services, since=first, until=last):
        sys.stdout.write(render(event) + "\n")
        sys.stdout.flush()


def render_text(event: ContainerEvent) -> str:
    """``2026-11-23 14:42:12.666144 container start ID (image=busybox, name=shop-web-1)``."""
    seconds, rest = divmod(event.time, 1_000_000_000)
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    attributes = ", ".join(f"{name}={value}" for name, value in sorted(event.attributes.items()))
    return f"{moment}.{rest // 1000:06d} container {event.action} {event.container} ({attributes})"


def render_json(event: ContainerEvent) -> str:
    """The same as JSON, with Compose's field names."""
    seconds, rest = divmod(event.time, 1_000_000_000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    data = {
        "action": event.action,
        "attributes": dict(sorted(event.attributes.items())),
        "id": event.container,
        "service": event.service,
        "time": f"{moment}.{rest:09d}Z",
        "type": "container",
    }
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)
