"""Circles among dependencies, each edge with the place that it was written at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.spec.positions import Map, Problems


def check_cycles(active: Map, problems: Problems) -> None:
    """Report every circle among the dependencies of the active services."""
    edges = {
        name: [other for other in service.get("depends_on") or () if other in active]
        for name, service in active.items()
    }
    for cycle in find_cycles(edges):
        steps = []
        for index, name in enumerate(cycle):
            following = cycle[(index + 1) % len(cycle)]
            mark = active[name]["depends_on"].marks[following][0]
            steps.append(f"{name} -> {following} ({problems.locate(mark) or 'implied'})")
        first = active[cycle[0]]["depends_on"]
        problems.report(
            "dependency-cycle",
            f"services depend on each other in a circle: {', '.join(steps)}",
            first.marks[cycle[1 % len(cycle)]][0],
            ("services", cycle[0], "depends_on", cycle[1 % len(cycle)]),
            "remove one of these dependencies",
        )


def find_cycles(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return one cycle for every back edge of a depth-first walk; each begins at its first name in order of `edges`."""
    done: set[str] = set()
    cycles: list[list[str]] = []
    order = {name: index for index, name in enumerate(edges)}
    for start in edges:
        if start in done:
            continue
        trail = [start]
        on_trail = {start: 0}
        stack = [iter(edges[start])]
        while stack:
            target = next(stack[-1], None)
            if target is None:
                stack.pop()
                name = trail.pop()
                del on_trail[name]
                done.add(name)
            elif target in on_trail:
                loop = trail[on_trail[target] :]
                first = min(range(len(loop)), key=lambda index: order[loop[index]])
                cycles.append([*loop[first:], *loop[:first]])
            elif target not in done:
                on_trail[target] = len(trail)
                trail.append(target)
                stack.append(iter(edges[target]))
    return cycles
