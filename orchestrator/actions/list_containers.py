"""Containers as ``ps`` shows them: fields with Compose's names."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from orchestrator.state import Binding, Container, ObservedState


def observe_briefly(project: str) -> ObservedState | None:
    """What a table of a project's containers shows, without an engine; None where only the engine can tell.

    Of each container everything but its endpoints, labels and volumes is as the engine says it; of its configuration
    only what it exposes is there.
    """
    import os

    if (os.environ.get("STACK_ENGINE") or "native") != "native":
        return None
    from orchestrator.engines.native.listing import list_briefly

    return list_briefly(project)


def describe_ports(container: Container) -> str:
    """``0.0.0.0:8080->80/tcp, [::]:8080->80/tcp``; neighbouring ports are written as one range, exposed ones last."""
    shown = []
    published = {(one.container_port, one.protocol) for one in container.bindings}
    for first, last in _group_bindings(container.bindings):
        host = f"[{first.host_ip}]" if ":" in first.host_ip else first.host_ip
        outer, inner = _range(first.host_port, last.host_port), _range(first.container_port, last.container_port)
        shown.append(f"{host}:{outer}->{inner}/{first.protocol}")
    shown += [f"{port}/{protocol}" for port, protocol in _exposed(container) if (port, protocol) not in published]
    return ", ".join(shown)


def _exposed(container: Container) -> list[tuple[int, str]]:
    """The ports under ``expose`` with their protocols, each of a range by itself."""
    found = set()
    for one in container.config.get("expose") or ():
        ports, _, protocol = str(one).partition("/")
        first, _, last = ports.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found |= {(port, protocol or "tcp") for port in range(int(first), int(last or first) + 1)}
    return sorted(found)


def publishers(container: Container) -> list[dict[str, Any]]:
    """The published ports as Compose's JSON has them, then those that are only exposed."""
    published = {(one.container_port, one.protocol) for one in container.bindings}
    exposed = [one for one in _exposed(container) if one not in published]
    return [
        {
            "URL": one.host_ip,
            "TargetPort": one.container_port,
            "PublishedPort": one.host_port,
            "Protocol": one.protocol,
        }
        for one in _sorted_bindings(container.bindings)
    ] + [{"URL": "", "TargetPort": port, "PublishedPort": 0, "Protocol": protocol} for port, protocol in exposed]


def mounts(container: Container) -> list[str]:
    """Sources of what is mounted: volume names, host paths."""
    binds = [
        str(one.get("source"))
        for one in container.config.get("volumes") or ()
        if isinstance(one, dict) and one.get("type") == "bind"
    ]
    return [*container.volumes.values(), *binds]


def _sorted_bindings(bindings: Sequence[Binding]) -> list[Binding]:
    return sorted(bindings, key=lambda one: (":" in one.host_ip, one.host_ip, one.protocol, one.container_port))


def _group_bindings(bindings: Sequence[Binding]) -> list[tuple[Binding, Binding]]:
    groups: list[tuple[Binding, Binding]] = []
    for one in _sorted_bindings(bindings):
        if groups:
            first, last = groups[-1]
            follows = (one.host_ip, one.protocol) == (last.host_ip, last.protocol) and (
                one.host_port - last.host_port == one.container_port - last.container_port == 1
            )
            if follows:
                groups[-1] = (first, one)
                continue
        groups.append((one, one))
    return groups


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
