"""The draft of a plan: what was decided so far, and the operations written down so far."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Literal, TypeVar

from orchestrator.errors import Diagnostic, ModelError, NotFound
from orchestrator.graph import Graph
from orchestrator.plan import Plan
from orchestrator.reconcile.images import list_builders

if TYPE_CHECKING:
    from orchestrator.goal import Goal, Want
    from orchestrator.model import Network, Service, Volume
    from orchestrator.plan import Operation
    from orchestrator.source import Path
    from orchestrator.state import Container, ObservedState

Resource = TypeVar("Resource", "Network", "Volume")

Action = Literal["keep", "create", "recreate", "start", "restart", "stop", "remove"]

NO_USER = "the file declares it, and all resources were asked for"
"""The cause of a network or volume that no service uses."""

_MISSING_CODES = frozenset({"external-network-missing", "external-volume-missing", "image-missing"}) | {
    "shared-container-missing"
}


class Replica:
    """One container that is there or shall be, and what is to become of it.

    `name` is what it shall be called. `tag` tells a second container of the same number apart in operation ids.
    `stop_first` asks for a recreation that frees what the old container holds before the new one is made.
    """

    __slots__ = ("action", "cause", "container", "name", "number", "renew_volumes", "service", "stop_first", "tag")

    def __init__(
        self,
        service: str,
        number: int,
        name: str,
        container: Container | None = None,
        action: Action = "keep",
        cause: str = "",
        tag: str = "",
    ) -> None:
        self.service = service
        self.number = number
        self.name = name
        self.container = container
        self.action: Action = action
        self.cause = cause
        self.tag = tag
        self.renew_volumes = False
        self.stop_first = False

    @property
    def fresh(self) -> bool:
        """Whether a container starts for the first time."""
        if self.action in ("create", "recreate"):
            return True
        return self.action == "start" and self.container is not None and not self.container.started_at

    @property
    def label(self) -> str:
        """What operation ids call it: ``web-1``."""
        return f"{self.service}-{self.number}" + (f" ({self.tag})" if self.tag else "")

    @property
    def ends(self) -> bool:
        """True when it shall not run any more after the plan."""
        return self.action in ("stop", "remove")

    @property
    def starts(self) -> bool:
        """True when the plan starts it."""
        return self.action in ("create", "recreate", "start", "restart")

    @property
    def alive(self) -> bool:
        """True when it is there and has processes now."""
        return self.container is not None and self.container.alive


class Draft:
    """The inputs of one reconciliation, its decisions, and the operations so far."""

    def __init__(self, goal: Goal, observed: ObservedState, now: float) -> None:
        self.goal = goal
        self.stack = goal.stack
        self.observed = observed
        self.now = now
        self.graph = Graph.of_services(goal.stack.services)
        self.replicas: dict[str, list[Replica]] = {}
        """What becomes of the containers, by service; orphans and one-off containers included."""
        self.held: frozenset[str] = frozenset()
        """Services that are left alone for now: they wait for a provider's answer, or are provided themselves."""
        self.waiting_for_answers: frozenset[str] = frozenset()
        self.questions: dict[str, str] = {}
        """What providers are asked for in this plan: the action, by service."""
        self.restart_moments: dict[str, float] = {}
        """The moment before which the service's containers must not have been started: asked for, or inherited."""
        self.builders: dict[str, Service] = {} if goal.build == "never" else list_builders(goal.stack)
        """The services that build, by the image that each makes."""
        self.remade_networks: dict[str, str] = {}
        """Networks that are removed and created again, by engine name, each with the cause."""
        self.renewed_volumes: dict[str, str] = {}
        """Volumes that are removed with their data and created again, by engine name, each with the cause."""
        self._operations: dict[str, Operation] = {}
        self._warnings: list[Diagnostic] = []
        self._errors: list[Diagnostic] = []

    def want(self, service: str) -> Want:
        """What the goal wants of a service's containers now."""
        if service in self.held:
            return "untouched"
        return self.goal.wants.get(service, "untouched")

    def present_services(self) -> list[Service]:
        """The services that shall have containers, one-off containers among them, by name."""
        return [
            service
            for name, service in sorted(self.stack.services.items())
            if name in self.goal.prepare or (self.want(name) in ("running", "created") and self.goal.replicas(name) > 0)
        ]

    def unused(self, declared: Mapping[str, Resource], uses: Callable[[Service], Collection[str]]) -> list[Resource]:
        """The networks or volumes that no service uses: the stack only has them if all resources were asked for."""
        if any(want in ("stopped", "absent") for want in self.goal.wants.values()):
            return []
        used = {key for service in self.stack.services.values() for key in uses(service)}
        return [declared[key] for key in sorted(declared.keys() - used)]

    def all_replicas(self) -> list[Replica]:
        """Every replica decided on so far, by service and number."""
        return [one for name in sorted(self.replicas) for one in self.replicas[name]]

    def add(self, operation: Operation) -> str:
        """Write an operation down, unless it stands there already; return its id."""
        self._operations.setdefault(operation.id, operation)
        return operation.id

    def __contains__(self, operation_id: object) -> bool:
        return operation_id in self._operations

    def operations(self) -> tuple[Operation, ...]:
        """The operations so far, in the order in which they were written down."""
        return tuple(self._operations.values())

    def await_others(self, operation: Operation, needs: Iterable[str]) -> None:
        """Have an operation that stands in the draft wait for `needs`, and no others."""
        self._operations[operation.id] = operation.replace(needs=tuple(sorted(needs)))

    def present(self, operation_ids: Iterable[str]) -> tuple[str, ...]:
        """The ids that stand in the draft, each once, sorted."""
        return tuple(sorted({one for one in operation_ids if one in self._operations}))

    def warn(self, code: str, message: str, path: Path = (), hint: str = "") -> None:
        """Tell the user something that stops nothing."""
        self._warnings.append(self._diagnostic(code, message, path, hint, "warning"))

    def refuse(self, code: str, message: str, path: Path = (), hint: str = "") -> None:
        """Note why this goal cannot be planned; :meth:`finish` raises it."""
        found = self._diagnostic(code, message, path, hint, "error")
        if found not in self._errors:
            self._errors.append(found)

    def _diagnostic(
        self, code: str, message: str, path: Path, hint: str, severity: Literal["error", "warning"]
    ) -> Diagnostic:
        from orchestrator.source import render_path

        location = self.stack.sources.locate(path) if path else None
        return Diagnostic(code, message, location=location, path=render_path(path), hint=hint, severity=severity)

    def finish(self) -> Plan:
        """Return the plan, or raise what was refused."""
        if self._errors:
            if all(one.code in _MISSING_CODES for one in self._errors):
                missing = NotFound(self._errors[0].message, hint=self._errors[0].hint, operation="plan")
                missing.diagnostics = tuple(self._errors)
                raise missing
            raise ModelError(self._errors)
        return Plan(
            operations=self._sorted_operations(),
            warnings=tuple(self._warnings),
            running=self._left_alone("running", alive=True),
            resting=self._left_alone("stopped", alive=False),
            completed=self._left_alone("running", alive=False),
        )

    def _left_alone(self, want: Want, *, alive: bool) -> tuple[tuple[str, str], ...]:
        return tuple(
            (one.service, one.name)
            for one in self.all_replicas()
            if one.action == "keep" and one.container and one.alive is alive and self.want(one.service) == want
        )

    def _sorted_operations(self) -> tuple[Operation, ...]:
        """Every operation after its prerequisites, otherwise in the order in which they were written down."""
        ids = list(self._operations)
        place = {operation_id: index for index, operation_id in enumerate(ids)}
        waiting = [len(one.needs) for one in self._operations.values()]
        unlocks: list[list[int]] = [[] for _ in ids]
        for index, one in enumerate(self._operations.values()):
            for need in one.needs:
                unlocks[place[need]].append(index)
        ready = [index for index, count in enumerate(waiting) if count == 0]
        heapify(ready)
        ordered: list[Operation] = []
        while ready:
            index = heappop(ready)
            ordered.append(self._operations[ids[index]])
            for later in unlocks[index]:
                waiting[later] -= 1
                if waiting[later] == 0:
                    heappush(ready, later)
        if len(ordered) < len(ids):
            stuck = sorted(set(ids) - {one.id for one in ordered})
            raise AssertionError(f"the plan has a circle: {stuck}")
        return tuple(ordered)


def group_oneoffs(service: str) -> str:
    """Where a draft has the one-off containers of a service that go: beside its replicas."""
    return f"{service} run"


def describe_age(seconds: float) -> str:
    """Say how long ago something was, in one unit: ``3 min ago``."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"
