"""Running a command in a container that runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from orchestrator.actions.containers import find_replica
from orchestrator.actions.project import Project
from orchestrator.engines.base import Engine, ExecRequest
from orchestrator.errors import Conflict


def run_exec(engine: Engine, project: Project, service: str, request: ExecRequest, *, index: int | None = None) -> int:
    """Run `request` in a replica of `service` with this process's stdio; return its exit code.

    Raises NoSuchService, NotFound (nothing runs), Conflict (the container is paused).
    """
    container = find_replica(engine, project, service, index)
    if container.status == "paused":
        raise Conflict(
            f"container {container.name} is paused",
            resource=container.name,
            operation="exec",
            hint=f"`stack unpause {service}` lets it go on",
        )
    return engine.exec_attached(container, request)


def parse_environment(words: Sequence[str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read ``-e`` words: ``NAME=VALUE``, or ``NAME`` for a variable of ours (left out if we do not have it)."""
    have = os.environ if environ is None else environ
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            found[name] = value
        elif name in have:
            found[name] = have[name]
    return found
