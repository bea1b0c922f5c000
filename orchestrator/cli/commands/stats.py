"""``stack stats``"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from orchestrator.cli.declare import DRY_RUN, FORMAT, Option, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.quantities import render_binary_size, render_rate_size, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.actions.usage import UsageRow

_HEADER = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_FIRST_LOOK = 0.5
_NEXT_LOOK = 1.0
"""Seconds between two looks: a rate has to be measured over some time."""

_HOME = "\x1b[H\x1b[J"


@declare(
    "stats",
    Option("-a", "--all", "every", flag=True, help="Containers that do not run, too."),
    Option("--no-stream", flag=True, help="Show it once."),
    Option("--no-trunc", flag=True, help="Do not shorten."),
    FORMAT,
    DRY_RUN,
)
def command(
    invocation: Invocation, services: tuple[str, ...], every: bool, no_stream: bool, no_trunc: bool, form: str | None
) -> None:
    """Show what the containers use, again and again until Ctrl-C."""
    from orchestrator.actions.usage import measure_usage

    looks = [_FIRST_LOOK]

    def wait() -> None:
        time.sleep(looks.pop() if looks else _NEXT_LOOK)

    live = not no_stream and sys.stdout.isatty()
    for rows in measure_usage(invocation.engine(), invocation.recognize(), services, wait, every=every):
        text = render_usage(rows, form, trunc=not no_trunc)
        sys.stdout.write(f"{_HOME}{text}" if live else text)
        sys.stdout.flush()
        if no_stream:
            return


def render_usage(rows: Sequence[UsageRow], form: str | None, *, trunc: bool) -> str:
    """Render one look by ``--format``."""
    described = [describe_usage(one, trunc=trunc) for one in rows]
    if form == "json":
        import json

        return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in described)
    if form in (None, "", "table"):
        from orchestrator.cli.table import render_table

        return render_table(list(_HEADER.values()), [[row[name] for name in _HEADER] for row in described])
    from orchestrator.cli.template import render_rows

    return render_rows(form, _HEADER, described)


def describe_usage(row: UsageRow, *, trunc: bool) -> dict[str, Any]:
    """The fields that ``stats --format`` knows, with Docker's names."""
    one, usage = row.container, row.usage
    short = one.id[:12] if trunc else one.id
    return {
        "BlockIO": f"{render_rate_size(usage.read)} / {render_rate_size(usage.written)}",
        "CPUPerc": f"{row.cpu:.2f}%",
        "Container": short,
        "ID": short,
        "MemPerc": f"{row.memory_share:.2f}%",
        "MemUsage": f"{render_binary_size(usage.memory)} / {render_binary_size(usage.memory_limit)}",
        "Name": shorten(one.name, 64) if trunc else one.name,
        "NetIO": f"{render_rate_size(usage.received)} / {render_rate_size(usage.sent)}",
        "PIDs": str(usage.pids),
    }
