"""``up`` with its output attached: follow what the containers write, stop them in order on Ctrl-C, kill on a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from orchestrator.actions.converge import converge_in_time, tell_interrupted
from orchestrator.actions.goals import edit_want
from orchestrator.events import Event, Sink
from orchestrator.model import Stack
from orchestrator.record import Record
from orchestrator.supervision.client import Outcome, Session

if TYPE_CHECKING:
    from orchestrator.goal import Goal
    from orchestrator.state import Container

ALIVE = ("running", "paused", "restarting")

STOPPING = "Gracefully stopping... (press Ctrl+C again to force)"
KILLING = "Killing..."


class UpResult(Record):
    """How an attached ``up`` ended."""

    outcome: Outcome
    exit_code: int = 0
    interrupted: bool = False


class AttachedUp:
    """One attached ``up``. `sink` takes every event, `watched` are the services whose end ends the command."""

    def __init__(
        self,
        session: Session,
        goal: Goal,
        *,
        sink: Sink,
        watched: Collection[str],
        remark: Callable[[str], None],
        query_status: Callable[[str], dict[str, object] | None],
        observe: Callable[[], Iterable[Container]],
        exit_code_from: str = "",
        on_ready: Callable[[], None] = lambda: None,
        on_converged: Callable[[], None] = lambda: None,
        on_stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self._session = session
        self._goal = goal
        self._sink = sink
        self._watched = watched
        self._remark = remark
        self._query_status = query_status
        self._observe = observe
        self._told: set[str] = set()
        self._exit_code_from = exit_code_from
        self._on_ready = on_ready
        self._on_converged = on_converged
        self._on_stopping = on_stopping
        self._codes: dict[str, int] = {}
        self._aborted: int | None = None

    def run(self, *, timeout: float | None = None) -> UpResult:
        """Bring the services up and stay until they have ended, or the user has had enough. Raises StackError."""
        outcome = Outcome(converged=False)
        try:
            outcome = converge_in_time(self._session, self._goal, self._hear, timeout)
            if self._aborted is None:
                self._on_ready()
            if not outcome.converged:
                if self._goal.abort_on_exit:
                    self._stop()
                return UpResult(outcome=outcome, exit_code=1)
            self._on_converged()
            if not self._ended():
                self._session.follow(self._hear, until=self._is_over)
            self._tell_missed()
        except KeyboardInterrupt:
            self._on_ready()
            self._stop()
            return UpResult(outcome=outcome, exit_code=130, interrupted=True)
        return UpResult(outcome=outcome, exit_code=self._choose_exit_code())

    def _stop(self) -> None:
        """Stop what was asked for, in order, and leave its dependencies; Ctrl-C meanwhile kills it; another one gives
        up waiting."""
        self._remark(STOPPING)
        self._on_stopping()
        self._sink = tell_interrupted(self._sink)
        services = tuple(name for name in self._goal.wants if name in self._watched)
        timeout = self._goal.stop_timeout
        try:
            goal = edit_want(self._goal.stack, self._goal, services, "stopped", time.time(), timeout=timeout)
            self._session.converge(goal, self._hear)
        except KeyboardInterrupt:
            self._remark(KILLING)
            goal = edit_want(self._goal.stack, self._goal, services, "stopped", time.time(), timeout=0)
            self._session.converge(goal, self._hear)

    def _hear(self, event: Event) -> None:
        if event.kind == "container" and event.action == "die":
            self._told.add(event.subject)
            self._codes[event.service] = int(event.details.get("exit_code") or 0)
        elif event.kind == "container" and event.action == "restart":
            self._told.discard(event.subject)
        elif event.kind == "message" and event.action == "abort":
            self._aborted = int(event.details.get("exit_code") or 0)
            self._remark("Aborting on container exit...")
            self._on_stopping()
        self._sink(event)
        if event.kind == "operation" and event.phase == "done" and event.verb.endswith("container"):
            self._take_note(event)

    def _take_note(self, event: Event) -> None:
        """Tell of an end that was asked for: the supervisor tells only of those that it did not bring about itself."""
        if event.verb in ("start container", "restart container"):
            self._told.discard(event.subject)
        elif event.verb == "stop container":
            for one in self._observe():
                if one.name == event.subject and one.status == "exited":
                    self._tell_end(one)

    def _tell_missed(self) -> None:
        """Tell of ends whose events were still on their way when it was seen that all had ended."""
        since = self._goal.issued_at
        found = [
            one
            for one in self._observe()
            if one.status == "exited" and one.finished_at >= since and one.service in self._goal.wants
        ]
        for one in sorted(found, key=lambda one: (one.finished_at, one.name)):
            self._tell_end(one)
            code = one.exit_code or 0
            if self._aborted is None and self._goal.abort_on_exit and (code or self._goal.abort_on_exit == "any"):
                self._aborted = code

    def _tell_end(self, one: Container) -> None:
        if one.name not in self._told:
            details = {"container_id": one.id, "exit_code": one.exit_code or 0}
            event = Event(time=one.finished_at, kind="container", subject=one.name, action="die")
            self._hear(event.replace(service=one.service, details=details))

    def _is_over(self, event: Event) -> bool:
        telling = event.kind == "converged" or (event.kind == "container" and event.action in ("die", "give-up"))
        return telling and self._ended()

    def _ended(self) -> bool:
        status = self._query_status(self._goal.stack.name)
        if status is None:
            return True
        containers = status["containers"]
        assert isinstance(containers, dict)
        return bool(status["settled"]) and not any(
            one["service"] in self._watched and one["status"] in ALIVE for one in containers.values()
        )

    def _choose_exit_code(self) -> int:
        if self._exit_code_from:
            return self._codes.get(self._exit_code_from, 0)
        return self._aborted or 0


def choose_attached(
    stack: Stack,
    wanted: Sequence[str],
    named: Sequence[str],
    *,
    attach: Sequence[str] = (),
    no_attach: Sequence[str] = (),
    dependencies: bool = False,
) -> frozenset[str]:
    """Return the services whose output is shown. `wanted` are those brought up, `named` those the user named.

    Raises NoSuchService for a name in `attach` or `no_attach` that the stack does not have.
    """
    from orchestrator.actions.names import select_services

    for names in (attach, no_attach):
        if names:
            select_services(names, stack.services)
    if attach:
        chosen = set(attach)
    else:
        base = wanted if dependencies or not named else named
        chosen = {name for name in base if stack.services[name].attach}
    return frozenset(chosen - set(no_attach))
