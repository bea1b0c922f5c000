"""``stack ls``"""

from __future__ import annotations

import json
import sys

from orchestrator.actions.list_projects import list_projects
from orchestrator.cli.declare import FORMAT, Option, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.errors import UsageError

_HEADER = {"Name": "NAME", "Status": "STATUS", "ConfigFiles": "CONFIG FILES"}


@declare(
    "ls",
    Option("-a", "--all", "every", flag=True, help="Stopped projects too."),
    Option("-q", "--quiet", flag=True, help="Only names."),
    Option("--filter", "filters", multiple=True, metavar="name=TEXT", help="Only projects whose name has this text."),
    FORMAT,
    rest="",
)
def command(invocation: Invocation, every: bool, quiet: bool, filters: tuple[str, ...], form: str | None) -> None:
    """List the projects on this machine."""
    parts = []
    for text in filters:
        name, equals, value = text.partition("=")
        if name != "name" or not equals:
            raise UsageError(f"--filter: cannot read {text!r}", hint="write name=TEXT")
        parts.append(value)
    found = [one for one in list_projects(invocation.engine(), every=every) if all(part in one.name for part in parts)]
    rows = [{"Name": one.name, "Status": one.status, "ConfigFiles": ",".join(one.files)} for one in found]
    if quiet:
        sys.stdout.write("".join(f"{row['Name']}\n" for row in rows))
    elif form == "json":
        sys.stdout.write(json.dumps(rows, separators=(",", ":"), ensure_ascii=False) + "\n")
    elif form in (None, "table"):
        from orchestrator.cli.table import render_table

        sys.stdout.write(render_table(list(_HEADER.values()), [list(row.values()) for row in rows]))
    else:
        from orchestrator.cli.template import render_rows

        sys.stdout.write(render_rows(form, _HEADER, rows))
