"""The supervisor's answer to a command that asks for the goal it gave last once more: nothing to do, or ask in full.

Whatever the goal in full would look at is looked at: containers and their processes, images behind names, networks and
volumes, warnings. Only what the command itself reads, the stack file and what it names, is for the command to compare.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from orchestrator.control_loop.conditions import ConditionFailed, judge_condition
from orchestrator.errors import StackError
from orchestrator.reconcile import reconcile
from orchestrator.reconcile.providers import is_provided

if TYPE_CHECKING:
    from orchestrator.control_loop.loop import Loop
    from orchestrator.events import Event, Phase
    from orchestrator.goal import Goal
    from orchestrator.plan import Plan
    from orchestrator.supervision.control_server import Connection

_PHASES: Final[tuple[Phase, ...]] = ("started", "done")

_ONCE: Final = (
    *("recreate_before", "restart_before", "rerun_before", "renew_volumes_before", "build_before"),
    *("prepare", "oneoffs", "abort_on_exit", "rolling_back", "down"),
)
"""Wishes of a goal that mean something to be done, each time they are asked for."""

_MENDING: Final = ("network-mended", "network-lost", "firewall-mended")

_KEPT: Final = 20
"""How many warnings wait to be heard."""


class Confirmation:
    """Knows the loop's goal by the token that its command gave it, and answers for it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept: list[Event] = []
        self.token = ""
        """Empty when the goal is not just what a command has asked for."""

    def keep(self, warning: Event) -> None:
        """Keep a warning that nobody listens to for whoever gives a goal next, if it says that something was mended."""
        if str(warning.details.get("code", "")).startswith(_MENDING) and len(self._kept) < _KEPT:
            self._kept.append(warning)

    def take_kept(self) -> list[Event]:
        """The warnings that nobody has heard so far."""
        kept, self._kept = self._kept, []
        return kept

    def answer(self, connection: Connection, token: str, moment: float) -> None:
        """Answer ``confirm``: is everything as the goal of `token` wants it when it is asked for again at `moment`?"""
        task = asyncio.create_task(self._answer(connection, token, moment))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, connection: Connection, token: str, moment: float) -> None:
        goal = self._loop.held_goal
        plan = None
        if goal is not None and token == self.token != "":
            try:
                plan = await self._rehearse(goal, moment)
            except StackError:
                # The goal in full meets it again, and tells of it.
                plan = None
        if goal is None or plan is None or self._loop.held_goal is not goal or token != self.token:
            connection.send({"confirmed": False})
            return
        connection.listens = True
        self._tell(goal, plan)
        connection.send({"confirmed": True})

    async def _rehearse(self, goal: Goal, moment: float) -> Plan | None:
        """Plan the goal as if it had been given at `moment`; None unless nothing is to be done, awaited or told."""
        if any(getattr(goal, name) for name in _ONCE) or any(is_provided(one) for one in goal.stack.services.values()):
            return None
        observed = await self._loop.look(goal)
        again = goal.replace(issued_at=moment, refresh_before=dict.fromkeys(goal.refresh_before, moment))
        plan = reconcile(again, observed, now=moment)
        # What was mended on the way is told by the goal in full.
        return None if plan or plan.warnings or self._kept or not self._is_ready(goal) else plan

    def _is_ready(self, goal: Goal) -> bool:
        """Whether everything that ``--wait`` waits for is there."""
        board = self._loop.board
        try:
            return all(
                judge_condition(condition, name, board.of_service(name), probed=board.probed(name), strict=True)
                for name, condition in self._loop.catalog.choose_conditions(goal).items()
            )
        except ConditionFailed:
            return False

    def _tell(self, goal: Goal, plan: Plan) -> None:
        """Tell what a goal tells for which nothing had to be done."""
        teller = self._loop.teller
        teller.tell_left_alone(plan)
        awaited = self._loop.board.list_replicas(self._loop.catalog.choose_conditions(goal))
        for phase in _PHASES:
            for service, name in awaited:
                teller.tell_container("await container", service, name, phase)
        teller.tell_converged(self._loop.project)
