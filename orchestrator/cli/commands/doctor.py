"""``stack doctor``"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

import click

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import format_option, stack_command
from orchestrator.engines.base import Engine, Finding
from orchestrator.errors import UsageError

_MARKS = {"ok": ("✔", "32"), "warning": ("!", "33"), "missing": ("✘", "31")}


@stack_command("doctor")
@format_option("table or json.")
@click.option("--fix", is_flag=True, help="Put right what stack can: what crashes left behind, and wrong rights.")
@click.pass_obj
def command(invocation: Invocation, form: str | None, fix: bool) -> int:
    """Show what this machine has and lacks, and how to get it. Exit code 1 when something needed is missing."""
    if form not in (None, "table", "json"):
        raise UsageError(f"--format: there is no format {form}", hint="there are table and json")
    engine = invocation.engine()
    findings = [*engine.diagnose(fix=fix)]
    told = {one.detail for one in findings}
    findings += (one for one in _look_around(invocation, engine) if one.detail not in told)
    if form == "json":
        rows = [{"name": one.name, "state": one.state, "detail": one.detail, "hint": one.hint} for one in findings]
        sys.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(render_findings(findings, colour=invocation.colour(sys.stdout)))
    return 1 if any(one.state == "missing" for one in findings) else 0


def _look_around(invocation: Invocation, engine: Engine) -> Iterator[Finding]:
    """What the projects of this machine, and the stack file of this folder, say beyond the machine itself."""
    from orchestrator.actions.diagnose import diagnose_projects, diagnose_stack
    from orchestrator.actions.project import load_project
    from orchestrator.errors import EngineError, FileMissing, StackError

    try:
        yield from diagnose_projects(engine)
    except EngineError as error:
        yield Finding(name="projects", state="missing", detail=error.message, hint=error.hint)
    try:
        stack = load_project(invocation.project).stack
    except FileMissing as error:
        if invocation.project.files:
            yield Finding(name="stack file", state="missing", detail=error.message, hint=error.hint)
        return
    except StackError as error:
        yield Finding(
            name="stack file", state="missing", detail=error.render().splitlines()[0], hint="`stack config` tells more"
        )
        return
    if stack is None:
        return
    try:
        yield from diagnose_stack(engine, stack)
    except EngineError as error:
        yield Finding(name="stack file", state="missing", detail=error.message, hint=error.hint)


def render_findings(findings: Sequence[Finding], *, colour: bool) -> str:
    """Render findings as aligned lines, each hint below its finding."""
    width = max((len(one.name) for one in findings), default=0)
    text = ""
    for one in findings:
        mark, shade = _MARKS[one.state]
        sign = f"\x1b[{shade}m{mark}\x1b[0m" if colour else mark
        text += f"{sign} {one.name.ljust(width)}  {one.state.ljust(7)}  {one.detail}".rstrip() + "\n"
        if one.hint and one.state != "ok":
            text += f"  {' ' * width}  hint: {one.hint}\n"
    missing = sum(1 for one in findings if one.state == "missing")
    warnings = sum(1 for one in findings if one.state == "warning")
    if missing:
        return text + f"\n{missing} missing, {warnings} to look at\n"
    return text + ("\neverything needed is here\n" if not warnings else f"\nusable, {warnings} to look at\n")
