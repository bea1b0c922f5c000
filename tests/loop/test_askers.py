"""Who is told how a goal ends, and who still hears of what happens after it was given up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from test_process import stack_of

from orchestrator.goal import Goal
from orchestrator.supervision.askers import Asker, Askers


def connect(*, subscribed: bool = False) -> Any:
    said: list[dict[str, Any]] = []
    return SimpleNamespace(listens=True, subscribed=subscribed, said=said, send=said.append)


def ask(connection: Any, request: int, **wants: Any) -> Asker:
    return Asker(connection, request, Goal(stack=stack_of("app", "web"), wants=wants))


def answers(connection: Any) -> list[tuple[int, bool]]:
    return [(one["settled"]["request"], one["settled"]["superseded"]) for one in connection.said if "settled" in one]


def test_a_client_whose_newer_goal_counts_goes_on_listening() -> None:
    askers, client = Askers(), connect()
    first, second = ask(client, 1, app="running"), ask(client, 2, app="stopped")
    askers.supersede(first.goal, first)
    askers.supersede(second.goal, second)
    assert answers(client) == [(1, True)]
    assert client.listens


def test_who_waits_for_nothing_more_hears_nothing_more_unless_it_asked_to() -> None:
    askers, waiting, watching, other = Askers(), connect(), connect(subscribed=True), connect()
    for client in (waiting, watching):
        for request in (1, 2):
            one = ask(client, request, app="running")
            askers.supersede(one.goal, one)
    newer = ask(other, 3, app="stopped")
    askers.supersede(newer.goal, newer)
    assert answers(waiting) == answers(watching) == [(1, True), (2, True)]
    assert (waiting.listens, watching.listens, other.listens) == (False, True, True)


def test_who_waits_for_something_else_too_goes_on_listening() -> None:
    askers, client, other = Askers(), connect(), connect()
    for one in (ask(client, 1, app="running"), ask(client, 2, web="running")):
        askers.add(one)
    newer = ask(other, 3, app="stopped", web="running")
    askers.supersede(newer.goal, newer)
    assert answers(client) == [(1, True)]
    assert client.listens
    # Given to a predecessor before, and no longer what is wanted.
    assert askers.give_up(ask(client, 4, app="running"), newer.goal)
    assert client.listens
    assert not askers.give_up(ask(client, 5, web="running"), newer.goal)
