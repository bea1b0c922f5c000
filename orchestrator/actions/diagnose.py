"""``doctor``, beyond the machine itself: projects that nobody looks after, and what is in the way of this folder's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.engines.base import Finding
from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine
    from orchestrator.model import Port, Stack
    from orchestrator.state import Container


def diagnose_projects(engine: Engine) -> Iterator[Finding]:
    """Say which projects run without a supervisor: nothing of them is restarted, probed or found by name."""
    from orchestrator.supervision.client import query_status

    count = 0
    for name in engine.projects():
        alive = [one for one in engine.observe(name).containers if one.alive]
        if not alive:
            continue
        count += 1
        try:
            hosted = query_status(name) is not None
            reason, hint = "nobody supervises it", f"`stack -p {name} up -d` takes it over"
        except EngineError as error:
            hosted, reason = False, f"its supervisor does not answer: {error.message}"
            hint = "let it go on, or kill it: its containers go on, and its keeper starts another one"
        if not hosted:
            yield Finding(
                name="project",
                state="warning",
                detail=f"{name}: {reason}; restart policies, health checks and names rest",
                hint=hint,
            )
    if count:
        yield Finding(name="projects", state="ok", detail=f"{count} with running containers")


def diagnose_stack(engine: Engine, stack: Stack) -> Iterator[Finding]:
    """Say what of the stack of this folder cannot be here: attributes, and ports that somebody else has."""
    for one in engine.check(stack):
        state = "missing" if one.severity == "error" else "warning"
        place = f"{one.location[0].rpartition('/')[2]}:{one.location[1]}: " if one.location else ""
        yield Finding(name="stack file", state=state, detail=f"{place}{one.message}", hint=one.hint)  # type: ignore[arg-type]
    taken = [one for name in sorted(stack.services) for one in _find_taken(engine, stack, name)]
    yield from taken
    ports = sum(len(list(_list_fixed(one))) for service in stack.services.values() for one in service.ports)
    if ports and not taken:
        yield Finding(name="ports", state="ok", detail=f"all {ports} published ports are free or this project's own")


def _find_taken(engine: Engine, stack: Stack, service: str) -> Iterator[Finding]:
    from orchestrator.engines.native.network.host_ports import check_port_free

    holders = _list_holders(engine)
    for port in stack.services[service].ports:
        for number in _list_fixed(port):
            if port.protocol not in ("tcp", "udp"):
                continue
            known = holders.get((number, port.protocol))
            if known is not None and known.project == stack.name:
                continue
            try:
                holder = check_port_free(port.host_ip or "", number, port.protocol)
            except EngineError as error:
                yield Finding(name="port", state="warning", detail=f"{service}: {error.message}", hint=error.hint)
                continue
            if holder is not None:
                who = f"{known.name} of project {known.project}" if known is not None else holder
                yield Finding(
                    name="port",
                    state="warning",
                    detail=f"{number}/{port.protocol}, which {service} publishes, is taken by {who}",
                    hint="publish another port, or stop what holds this one; `up --isolate` finds free ones",
                )


def _list_holders(engine: Engine) -> dict[tuple[int, str], Container]:
    found = {}
    for name in engine.projects():
        for one in engine.observe(name).containers:
            if one.alive:
                found.update({(bound.host_port, bound.protocol): one for bound in one.bindings if bound.host_port})
    return found


def _list_fixed(port: Port) -> Iterator[int]:
    """The host port that a service asks for; of a range any may be free, so none is looked at."""
    if port.published and port.published.isdecimal() and int(port.published):
        yield int(port.published)
