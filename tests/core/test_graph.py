"""The dependency graph: order, cycles, reach."""

from __future__ import annotations

import pytest
from stacks import bind_stack

from orchestrator.errors import ModelError
from orchestrator.graph import Graph, resolve_dependencies


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
