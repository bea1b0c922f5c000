"""``stack why``"""

from __future__ import annotations

import json
import sys
import time

import click

from orchestrator.actions.containers import known_services
from orchestrator.actions.explain import explain_service
from orchestrator.actions.names import select_services
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import format_option, stack_command
from orchestrator.errors import UsageError


@stack_command("why")
@click.argument("service")
@format_option("text or json.")
@click.pass_obj
def command(invocation: Invocation, service: str, form: str | None) -> None:
    """Show what holds a service back, or what became of it."""
    if form not in (None, "text", "json"):
        raise UsageError(f"--format: there is no format {form}", hint="there are text and json")
    from orchestrator.supervision.client import query_status

    project = invocation.recognize()
    engine = invocation.engine()
    select_services([service], known_services(project, engine.observe(project.name)))
    status = query_status(project.name)
    if form == "json":
        sys.stdout.write(json.dumps(status, indent=2, ensure_ascii=False) + "\n")
        return
    found = explain_service(engine, project.name, service, status, time.time())
    sys.stdout.write("".join(f"{line}\n" for line in found.sentences))
