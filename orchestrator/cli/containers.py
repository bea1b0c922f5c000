"""Containers in `ps`'s words: status, ports, and the fields of ``--format``."""

from __future__ import annotations

import shlex
from typing import Any

from orchestrator.actions.list_containers import describe_ports, mounts, publishers
from orchestrator.cli.quantities import render_duration, render_moment, shorten
from orchestrator.state import Container


def render_status(container: Container, now: float) -> str:
    """``Up 5 minutes (healthy)``, ``Exited (0) 3 seconds ago``, ``Created``."""
    status = container.status
    if status in ("running", "paused"):
        text = f"Up {render_duration(now - container.started_at)}"
        if status == "paused":
            return f"{text} (Paused)"
        if container.health:
            health = f"health: {container.health}" if container.health == "starting" else container.health
            text += f" ({health})"
        return text
    if status in ("exited", "restarting"):
        ago = render_duration(now - container.finished_at)
        return f"{status.capitalize()} ({container.exit_code or 0}) {ago} ago"
    return {"created": "Created", "removing": "Removal In Progress", "dead": "Dead"}[status]


def describe_container(container: Container, now: float, *, trunc: bool = True) -> dict[str, Any]:
    """The fields that ``ps --format`` knows, with Compose's names."""
    command = " ".join(container.command) if len(container.command) < 2 else shlex.join(container.command)
    if trunc:
        command = shorten(command, 20)
    quoted = command.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return {
        "Command": f'"{quoted}"',
        "CreatedAt": render_moment(container.created_at),
        "ExitCode": container.exit_code or 0,
        "Health": container.health or "",
        "ID": container.id[:12] if trunc else container.id,
        "Image": container.image,
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(container.labels.items())),
        "LocalVolumes": str(len(container.volumes)),
        "Mounts": ",".join(mounts(container)),
        "Name": container.name,
        "Names": container.name,
        "Networks": ",".join(one.network for one in container.endpoints),
        "Ports": describe_ports(container),
        "Project": container.project,
        "Publishers": publishers(container),
        "RunningFor": f"{render_duration(now - container.created_at)} ago",
        "Service": container.service,
        "State": container.status,
        "Status": render_status(container, now),
    }
