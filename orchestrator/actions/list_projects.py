"""All projects of this machine, as ``ls`` shows them."""

from __future__ import annotations

import time
from collections import Counter

from orchestrator.actions.containers import mark_restarting
from orchestrator.actions.project import recall_goal
from orchestrator.engines.base import Engine
from orchestrator.record import Record


class ProjectSummary(Record):
    """One project: how many containers are in which state, and where its files are."""

    name: str
    status: str
    running: bool
    files: tuple[str, ...] = ()


def list_projects(engine: Engine, *, every: bool = False) -> tuple[ProjectSummary, ...]:
    """Return the projects that have running containers; with `every` those that have any."""
    found = []
    for name in sorted(engine.projects()):
        observed = mark_restarting(engine.observe(name), time.time())
        containers = [one for one in observed.containers if not one.oneoff]
        counts = Counter(one.status for one in containers)
        running = any(one.alive for one in containers)
        if not (running or (every and containers)):
            continue
        goal = recall_goal(name)
        found.append(
            ProjectSummary(
                name=name,
                status=", ".join(f"{status}({count})" for status, count in sorted(counts.items())),
                running=running,
                files=goal.stack.files if goal else (),
            )
        )
    return tuple(found)
