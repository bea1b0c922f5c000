"""The dependency graph of services: order, cycles, reach. Plain dictionaries, because it stands on the road of `up`.

What only explains a stack (:func:`find_critical_path`) uses networkx, imported there and then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING

from orchestrator.errors import Diagnostic, ModelError
from orchestrator.model import Dependency

if TYPE_CHECKING:
    from orchestrator.model import Service
    from orchestrator.source import SourceMap


def shared_services(service: Service) -> tuple[str, ...]:
    """Services whose containers this one's are built upon: namespaces (``network_mode``, ``ipc``, ``pid``) and
    ``volumes_from``. They have to exist first, and a new one of theirs asks for a new one of this."""
    found = set(namespace_services(service))
    for entry in service.volumes_from:
        if not entry.startswith("container:"):
            found.add(entry.partition(":")[0])
    return tuple(sorted(found))


def describe_sharing(service: Service, name: str) -> str:
    """What a container of `service` has of one of service `name`'s."""
    modes = {"network namespace": service.network_mode, "IPC namespace": service.ipc, "PID namespace": service.pid}
    return next((what for what, mode in modes.items() if mode == f"service:{name}"), "volume")


def namespace_services(service: Service) -> tuple[str, ...]:
    """Services whose namespaces this one joins."""
    modes = (service.network_mode, service.ipc, service.pid)
    return tuple(sorted({mode.partition(":")[2] for mode in modes if mode and mode.startswith("service:")}))


def resolve_dependencies(service: Service) -> dict[str, Dependency]:
    """Return what `service` depends on, by name: ``depends_on`` and what links, namespaces and volumes_from imply."""
    found = dict(service.depends_on)
    for name in namespace_services(service):
        found.setdefault(name, Dependency(service=name, restart=True))
    for link in service.links:
        name = link.partition(":")[0]
        found.setdefault(name, Dependency(service=name, restart=True))
    for name in shared_services(service):
        found.setdefault(name, Dependency(service=name))
    return dict(sorted(found.items()))


class Graph:
    """Names and what each of them needs. Names that are needed and not there themselves are left out."""

    def __init__(self, needs: Mapping[str, Iterable[str]]) -> None:
        self.needs: dict[str, tuple[str, ...]] = {
            name: tuple(sorted({one for one in needs[name] if one in needs})) for name in sorted(needs)
        }
        self.needed_by: dict[str, list[str]] = {name: [] for name in self.needs}
        for name, wanted in self.needs.items():
            for one in wanted:
                self.needed_by[one].append(name)

    @classmethod
    def of_services(cls, services: Mapping[str, Service]) -> Graph:
        """The graph of a stack's services."""
        return cls({name: resolve_dependencies(service) for name, service in services.items()})

    def order(self) -> tuple[str, ...]:
        """Every name after all that it needs, alphabetically where that leaves a choice. ModelError on a cycle."""
        waiting = {name: len(wanted) for name, wanted in self.needs.items()}
        ready = [name for name, count in waiting.items() if count == 0]
        heapify(ready)
        ordered: list[str] = []
        while ready:
            name = heappop(ready)
            ordered.append(name)
            for dependent in self.needed_by[name]:
                waiting[dependent] -= 1
                if waiting[dependent] == 0:
                    heappush(ready, dependent)
        if len(ordered) < len(self.needs):
            raise ModelError([describe_cycle(self.find_cycle())])
        return tuple(ordered)

    def find_cycle(self) -> tuple[str, ...]:
        """Return one shortest cycle through the first name that is on any (``("a", "b", "a")``), or () without one."""
        for start in self.needs:
            came_from: dict[str, str] = {}
            queue = [start]
            for name in queue:
                for wanted in self.needs[name]:
                    if wanted == start:
                        back = [start, name]
                        while name != start:
                            name = came_from[name]
                            back.append(name)
                        return tuple(reversed(back))
                    if wanted not in came_from:
                        came_from[wanted] = name
                        queue.append(wanted)
        return ()

    def dependencies(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return everything that `names` need, directly or not, without `names` themselves; sorted."""
        return self._reach(names, self.needs)

    def dependents(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return everything that needs `names`, directly or not, without `names` themselves; sorted."""
        return self._reach(names, self.needed_by)

    def _reach(self, names: Iterable[str], edges: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
        start = set(names)
        seen = set(start)
        queue = sorted(start)
        for name in queue:
            fresh = [one for one in edges.get(name, ()) if one not in seen]
            seen.update(fresh)
            queue.extend(fresh)
        return tuple(sorted(seen - start))


def describe_cycle(cycle: tuple[str, ...], sources: SourceMap | None = None) -> Diagnostic:
    """The diagnostic of a dependency cycle, at the ``depends_on`` that opens it."""
    first, second = cycle[0], cycle[1]
    path = ("services", first, "depends_on", second)
    return Diagnostic(
        "dependency-cycle",
        f"services need each other in a circle: {' -> '.join(cycle)}",
        location=sources.locate(path) if sources is not None else None,
        path=f"services.{first}.depends_on.{second}",
        hint="take one of these dependencies away",
    )


Edge = tuple[str, str]
"""A service and one that it needs."""


def list_edges(services: Mapping[str, Service]) -> dict[Edge, Dependency]:
    """Return every dependency among `services`, sorted; what is not among them is left out."""
    return {
        (name, wanted): dependency
        for name in sorted(services)
        for wanted, dependency in resolve_dependencies(services[name]).items()
        if wanted in services
    }


def find_implied(edges: Mapping[Edge, Dependency]) -> set[Edge]:
    """Return the edges of an acyclic graph that say nothing new: others lead there, and wait for no less.

    ``web`` needs ``db`` healthy is implied by ``web`` needs ``api``, which needs ``db`` healthy, but not by an ``api``
    that needs ``db`` started. Optional dependencies imply nothing and are never implied.
    """
    firm = {edge: dependency for edge, dependency in edges.items() if dependency.required}
    needs: dict[str, list[str]] = {}
    for name, wanted in firm:
        needs.setdefault(name, []).append(wanted)
        needs.setdefault(wanted, [])
    # Sets of names as bits of one number: networkx.transitive_reduction takes seconds where this takes milliseconds.
    reach: dict[str, int] = {}
    bit: dict[str, int] = {}
    for name in Graph(needs).order():
        bit[name] = 1 << len(bit)
        reach[name] = 0
        for wanted in needs[name]:
            reach[name] |= bit[wanted] | reach[wanted]
    waiting: dict[tuple[str, str], int] = {}
    for (name, wanted), dependency in firm.items():
        key = (wanted, dependency.condition)
        waiting[key] = waiting.get(key, 0) | bit[name]
    implied = set()
    for (name, wanted), dependency in firm.items():
        if dependency.condition == "service_started":
            new = not any(reach[other] & bit[wanted] for other in needs[name])
        else:
            new = not reach[name] & waiting[wanted, dependency.condition]
        if not new:
            implied.add((name, wanted))
    return implied


def find_critical_path(
    edges: Mapping[Edge, Dependency], services: Mapping[str, Service]
) -> tuple[tuple[str, ...], float]:
    """Return the chain that keeps an acyclic stack waiting longest, first started first, and its least seconds.

    Waiting for a healthy service takes until its first health check at least; where nothing takes time, the longest
    chain counts. Empty without edges.
    """
    if not edges:
        return (), 0.0
    import networkx as nx

    graph = nx.DiGraph()
    for (name, wanted), dependency in edges.items():
        graph.add_edge(wanted, name, seconds=_least_wait(services[wanted], dependency))
    for _, _, data in graph.edges(data=True):
        # A step without a known duration still is a step.
        data["weight"] = data["seconds"] + 1e-6
    path = nx.dag_longest_path(graph, weight="weight")
    seconds = sum(graph.edges[one, other]["seconds"] for one, other in pairwise(path))
    return tuple(path), float(seconds)


def _least_wait(service: Service, dependency: Dependency) -> float:
    probe = service.healthcheck
    if dependency.condition != "service_healthy" or probe is None:
        return 0.0
    interval = 30.0 if probe.interval is None else probe.interval
    if probe.start_period:
        return min(interval, 5.0 if probe.start_interval is None else probe.start_interval)
    return interval


def find_waves(names: Iterable[str], edges: Iterable[Edge]) -> dict[str, int]:
    """Return for each name how many others have to start one after another before it: 0 needs nothing."""
    needs: dict[str, list[str]] = {name: [] for name in names}
    for name, wanted in edges:
        needs[name].append(wanted)
    waves: dict[str, int] = {}
    for name in Graph(needs).order():
        waves[name] = max((waves[wanted] + 1 for wanted in needs[name]), default=0)
    return waves
