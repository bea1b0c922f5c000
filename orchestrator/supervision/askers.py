"""The commands that wait for a supervisor's goal to be reached, and what each of them is told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.control_loop.failures import Failure
from orchestrator.superseding import explain_superseding, list_overridden

if TYPE_CHECKING:
    from orchestrator.control_loop.loop import Settled
    from orchestrator.goal import Goal
    from orchestrator.supervision.control_server import Connection


class Asker(NamedTuple):
    """One command: its connection, the number of its request there, and what it asked for."""

    connection: Connection
    request: int
    goal: Goal


class Askers:
    """Those that wait, the newest last."""

    def __init__(self) -> None:
        self._waiting: list[Asker] = []

    def add(self, one: Asker) -> None:
        """Have a command told how the goal that now counts ends."""
        self._waiting.append(one)

    def forget(self, connection: Connection) -> None:
        """A client is gone."""
        self._waiting = [one for one in self._waiting if one.connection is not connection]

    def supersede(self, newer: Goal, by: Asker) -> None:
        """Have `by` told how `newer` ends, and answer at once those that ask for something that it does not fulfil."""
        waiting = [*self._waiting, by]
        lost = [(one, list_overridden(one.goal, newer)) for one in self._waiting]
        self._waiting = [one for one in waiting if not any(other is one and told for other, told in lost)]
        for one, overridden in lost:
            if overridden:
                self._refuse(one, overridden)

    def give_up(self, one: Asker, newer: Goal) -> bool:
        """Answer a command whose goal `newer` does not fulfil; False for one that may wait with it."""
        overridden = list_overridden(one.goal, newer)
        if overridden:
            self._refuse(one, overridden)
        return bool(overridden)

    def _refuse(self, one: Asker, overridden: tuple[str, ...]) -> None:
        failure = Failure(
            code="superseded", message=explain_superseding(overridden), hint="run it again if it is what you want"
        )
        one.connection.send({"event": failure.to_event(time.time()).to_json()})
        if not any(other.connection is one.connection for other in self._waiting):
            # What happens next is for others, unless it has asked for all that happens.
            one.connection.listens = one.connection.subscribed
        answer = {"converged": False, "superseded": True, "failures": [failure.to_json()]}
        one.connection.send({"settled": {"request": one.request, **answer}})

    def answer(self, settled: Settled) -> None:
        """Tell everybody how the goal ended."""
        waiting, self._waiting = self._waiting, []
        failures = [failure.to_json() for failure in settled.failures]
        for one in waiting:
            answer = {"converged": settled.converged, "superseded": one is not waiting[-1], "failures": failures}
            one.connection.send({"settled": {"request": one.request, **answer}})
