"""The dependency graph: order, cycles, reach."""

from __future__ import annotations

import random

import pytest
from stacks import bind_stack

from orchestrator.errors import ModelError
from orchestrator.graph import Graph, find_critical_path, find_implied, find_waves, resolve_dependencies
from orchestrator.graph.layout import BENDS, GAP, ROW, lay_out
from orchestrator.model import Dependency, Probe, Service


def test_order_is_dependencies_first_and_otherwise_alphabetical() -> None:
    graph = Graph({"web": ["db", "cache"], "db": [], "cache": ["db"], "admin": []})
    assert graph.order() == ("admin", "db", "cache", "web")


def test_names_that_are_not_there_are_left_out() -> None:
    assert Graph({"web": ["gone"]}).order() == ("web",)


@pytest.mark.parametrize(
    ("needs", "cycle"),
    [
        ({"a": ["b"], "b": ["c"], "c": ["a"], "x": ["a"]}, ("a", "b", "c", "a")),
        ({"a": ["a"]}, ("a", "a")),
        ({"a": ["b", "d"], "b": ["c"], "c": ["a"], "d": ["a"]}, ("a", "d", "a")),
    ],
)
def test_a_cycle_is_named(needs: dict[str, list[str]], cycle: tuple[str, ...]) -> None:
    graph = Graph(needs)
    assert graph.find_cycle() == cycle
    with pytest.raises(ModelError, match=" -> ".join(cycle)):
        graph.order()


def test_there_is_no_cycle_in_a_diamond() -> None:
    assert Graph({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}).find_cycle() == ()


def test_reach_goes_both_ways() -> None:
    graph = Graph({"a": ["b"], "b": ["c"], "c": [], "x": ["c"]})
    assert graph.dependencies(["a"]) == ("b", "c")
    assert graph.dependents(["c"]) == ("a", "b", "x")


def test_dependencies_are_also_implied() -> None:
    stack = bind_stack(
        {
            "a": {"network_mode": "service:b", "links": ["c:alias"], "volumes_from": ["d:ro", "container:other"]},
            **dict.fromkeys("bcd"),
        }
    )
    found = resolve_dependencies(stack.services["a"])
    assert {name: one.restart for name, one in found.items()} == {"b": True, "c": True, "d": False}


def test_a_long_chain_is_no_trouble() -> None:
    chain = {f"s{n:05}": [f"s{n - 1:05}"] for n in range(1, 5000)} | {"s00000": []}
    graph = Graph(chain)
    assert graph.order()[0] == "s00000"
    assert len(graph.dependents(["s00000"])) == 4999


def make_edges(chance: random.Random, count: int) -> dict[tuple[str, str], Dependency]:
    """A random acyclic graph of plain dependencies."""
    names = [f"s{number:02}" for number in range(count)]
    return {
        (one, other): Dependency(service=other)
        for at, one in enumerate(names)
        for other in names[:at]
        if chance.random() < 0.25
    }


def test_plain_dependencies_are_reduced_as_networkx_does() -> None:
    nx = pytest.importorskip("networkx")
    for seed in range(20):
        edges = make_edges(random.Random(seed), 14)
        reduced = nx.transitive_reduction(nx.DiGraph(list(edges)))
        assert edges.keys() - find_implied(edges) == set(reduced.edges)


def test_what_waits_for_more_or_less_firmly_is_not_implied() -> None:
    def need(name: str, **more: object) -> Dependency:
        return Dependency(service=name, **more)  # type: ignore[arg-type]

    healthy = {"condition": "service_healthy"}
    edges = {("web", "api"): need("api"), ("web", "db"): need("db", **healthy), ("api", "db"): need("db")}
    assert find_implied(edges) == set()
    assert find_implied({**edges, ("api", "db"): need("db", **healthy)}) == {("web", "db")}
    assert find_implied({**edges, ("web", "db"): need("db")}) == {("web", "db")}
    # What may be missing implies nothing.
    assert find_implied({**edges, ("web", "db"): need("db"), ("web", "api"): need("api", required=False)}) == set()


def test_the_critical_path_counts_health_checks_before_steps() -> None:
    services = {name: Service(name=name) for name in "abcd"}
    services["slow"] = Service(name="slow", healthcheck=Probe(interval=20.0))
    services["quick"] = Service(name="quick", healthcheck=Probe(interval=20.0, start_period=60.0))
    chain = {(one, other): Dependency(service=other) for one, other in ("ab", "bc", "cd")}
    assert find_critical_path(chain, services) == (("d", "c", "b", "a"), 0.0)
    for name, seconds in (("slow", 20.0), ("quick", 5.0)):
        edges = {**chain, ("a", name): Dependency(service=name, condition="service_healthy")}
        assert find_critical_path(edges, services) == ((name, "a"), seconds)
    assert find_critical_path({}, services) == ((), 0.0)


def test_a_layout_keeps_boxes_apart_and_lines_going_down() -> None:
    for seed in range(10):
        edges = make_edges(random.Random(seed), 12)
        names = [f"s{number:02}" for number in range(12)]
        widths = {name: 60.0 + 10 * len(name) * (seed % 3) for name in names}
        layout = lay_out(names, edges, widths)
        assert layout.places.keys() == set(names)
        waves = find_waves(names, edges)
        for (one, other), way in layout.lines.items():
            assert len(way) == waves[one] - waves[other] + 1
            assert [way[0], way[-1]] == [layout.places[one], layout.places[other]]
            assert [round(way[at + 1][1] - way[at][1], 6) for at in range(len(way) - 1)] == [ROW] * (len(way) - 1)
        for one in names:
            x, y = layout.places[one]
            assert x - widths[one] / 2 > -0.01
            assert x + widths[one] / 2 < layout.width + 0.01
            assert y < layout.height
            for other in names:
                other_x, other_y = layout.places[other]
                if one < other and abs(y - other_y) < 1:
                    assert abs(x - other_x) > (widths[one] + widths[other]) / 2 + min(GAP, BENDS) - 0.01
