"""Containers in `ps`'s words: status, ports, and the fields of ``--format``."""

from __future__ import annotations

from orchestrator.actions.list_containers import describe_ports, mounts, publishers
from orchestrator.cli.quantities import render_duration, render_moment, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from orchestrator.state import Container

_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-")


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


def describe_command(container: Container, *, trunc: bool = True) -> str:
    """What the container runs, in quotes."""
    words = container.command
    command = " ".join(words) if len(words) < 2 else " ".join([quote_word(word) for word in words])
    if trunc:
        command = shorten(command, 20)
    escaped = command.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def quote_word(word: str) -> str:
    """What ``shlex.quote`` gives; importing it costs more than a table of containers."""
    if word and _SAFE.issuperset(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def describe_briefly(container: Container, now: float, *, trunc: bool = True) -> dict[str, Any]:
    """The fields that are columns of ``ps``."""
    return {
        "Command": describe_command(container, trunc=trunc),
        "Image": container.image,
        "Name": container.name,
        "Ports": describe_ports(container),
        "RunningFor": f"{render_duration(now - container.created_at)} ago",
        "Service": container.service,
        "Status": render_status(container, now),
    }


def describe_container(container: Container, now: float, *, trunc: bool = True) -> dict[str, Any]:
    """The fields that ``ps --format`` knows, with Compose's names."""
    fields = {
        **describe_briefly(container, now, trunc=trunc),
        "CreatedAt": render_moment(container.created_at),
        "ExitCode": container.exit_code or 0,
        "Health": container.health or "",
        "ID": container.id[:12] if trunc else container.id,
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(container.labels.items())),
        "LocalVolumes": str(len(container.volumes)),
        "Mounts": ",".join(mounts(container)),
        "Names": container.name,
        "Networks": ",".join(one.network for one in container.endpoints),
        "Project": container.project,
        "Publishers": publishers(container),
        # As Docker Compose has it, which does not ask for it either: it would have to be counted.
        "Size": "0B",
        "State": container.status,
    }
    return {name: fields[name] for name in sorted(fields)}
