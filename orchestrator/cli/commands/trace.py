"""``stack trace``"""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

import click

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import format_option, stack_command
from orchestrator.errors import NotFound, UsageError

if TYPE_CHECKING:
    from orchestrator.timeline import Timeline

_LEAST_BAR, _MOST_BAR = 20, 100


@stack_command("trace")
@format_option("text, json, or chrome (for the tracing page of a browser, or Perfetto).")
@click.pass_obj
def command(invocation: Invocation, form: str | None) -> None:
    """Show what the last command that changed something did, when, and what it took its time from."""
    from orchestrator.supervision.control import Place
    from orchestrator.supervision.tracing import read_timeline
    from orchestrator.timeline import render_chrome_trace

    if form not in (None, "text", "json", "chrome"):
        raise UsageError(f"--format: there is no format {form}", hint="there are text, json and chrome")
    project = invocation.recognize()
    timeline = read_timeline(Place.of(project.name))
    if timeline is None:
        raise NotFound(
            f"nothing was recorded of project {project.name} since this machine was started",
            resource=project.name,
            operation="trace",
            hint="bring it up with: stack up",
        )
    if form in ("json", "chrome"):
        data = timeline.to_json() if form == "json" else render_chrome_trace(timeline)
        sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
        return
    sys.stdout.write(_render_text(timeline, colour=invocation.colour(sys.stdout)))


def _render_text(timeline: Timeline, *, colour: bool) -> str:
    from orchestrator.timeline import find_critical_path, render_bars

    names = max((len(one.id) for one in timeline.spans), default=0)
    width = min(_MOST_BAR, max(_LEAST_BAR, shutil.get_terminal_size((100, 24)).columns - names - 14))
    lines = []
    for key, bar, seconds, critical in render_bars(timeline, width):
        line = f"{key.ljust(names)} |{bar}| {_render_time(seconds)}"
        lines.append(f"\x1b[1m{line}\x1b[0m" if colour and critical else line)
    path = find_critical_path(timeline)
    end = "reached" if timeline.converged else "not reached"
    lines.append("")
    lines.append(f"{end} after {_render_time(timeline.ended - timeline.began)}; what it waited for:")
    lines += [f"  {_render_time(one.seconds):>8}  {one.id}  ({one.cause})" for one in path]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _render_time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
