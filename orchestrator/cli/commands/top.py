"""``stack top``"""

from __future__ import annotations

import sys
import time

from orchestrator.cli.declare import DRY_RUN, declare
from orchestrator.cli.invocation import Invocation
from orchestrator.engines.base import ProcessFacts

_HEADER = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")


@declare("top", DRY_RUN)
def command(invocation: Invocation, services: tuple[str, ...]) -> None:
    """Show the processes of the services' containers."""
    from orchestrator.actions.usage import list_processes
    from orchestrator.cli.table import render_columns

    now = time.time()
    names: dict[int, str] = {}
    for container, processes in list_processes(invocation.engine(), invocation.recognize(), services):
        rows = [describe_process(one, now, names) for one in processes]
        sys.stdout.write(f"{container.name}\n{render_columns(_HEADER, rows)}\n")


def describe_process(one: ProcessFacts, now: float, names: dict[int, str]) -> tuple[str, ...]:
    """The columns of ``ps -ef``; `names` remembers the names of users."""
    if one.uid not in names:
        names[one.uid] = _name_user(one.uid)
    age = max(now - one.started_at, 1e-3)
    share = min(99, int(one.cpu_seconds / age * 100))
    minutes, seconds = divmod(int(one.cpu_seconds), 60)
    spent = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    moment = render_start(one.started_at, now)
    return (names[one.uid], str(one.pid), str(one.parent), str(share), moment, one.terminal, spent, one.command)


def render_start(moment: float, now: float) -> str:
    """``14:42`` for today, ``Nov22`` for this year, ``2025`` before, as ``ps`` has it."""
    there, today = time.localtime(moment), time.localtime(now)
    if there.tm_year != today.tm_year:
        return str(there.tm_year)
    return time.strftime("%H:%M" if there.tm_yday == today.tm_yday else "%b%d", there)


def _name_user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
