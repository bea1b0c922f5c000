"""Container names that a file gives out twice: nothing wrong to read, but nothing that can run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.errors import CannotRun, Diagnostic, Severity
from orchestrator.model import Stack


def find_shared_names(stack: Stack, services: Iterable[str] = (), *, severity: Severity = "error") -> list[Diagnostic]:
    """Return a diagnostic for each of `services` (all without any) whose container name another has before it."""
    holders: dict[str, str] = {}
    found: list[Diagnostic] = []
    if not any(service.container_name for service in stack.services.values()):
        return found

    def find_line(name: str) -> tuple[int, str]:
        location = stack.sources.locate(("services", name))
        return (location.line if location else 0, name)

    for name in sorted(services or stack.services, key=find_line):
        own = stack.services[name].container_name
        if not own:
            continue
        holder = holders.setdefault(own, name)
        if holder != name:
            found.append(
                Diagnostic(
                    "duplicate-name",
                    f'container name "{own}" is already in use by {holder}: only one of them can run',
                    stack.sources.locate(("services", name, "container_name")),
                    f"services.{name}.container_name",
                    "give each its own name, or none",
                    severity,
                )
            )
    return found


def check_container_names(stack: Stack, services: Iterable[str], scale: Mapping[str, int]) -> None:
    """Raise CannotRun if `services` cannot run side by side because of their container names.

    `scale` holds the numbers of replicas that the command line asks for.
    """
    wanted = {name for name in services if scale.get(name, stack.services[name].scale) > 0}
    found = find_shared_names(stack, wanted) if wanted else []
    for name, count in sorted(scale.items()):
        if count > 1 and stack.services[name].container_name:
            found.append(
                Diagnostic(
                    "conflicting-attributes",
                    f"container_name is one name, but {count} containers of {name} are asked for",
                    stack.sources.locate(("services", name, "container_name")),
                    f"services.{name}.container_name",
                    "remove container_name",
                )
            )
    if found:
        raise CannotRun(found)
