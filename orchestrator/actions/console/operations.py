"""What a key does to a project: a new goal for its supervisor, or one call of the engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from orchestrator.actions.console.rows import Row
from orchestrator.actions.goals import UpOptions, edit_want
from orchestrator.actions.lifecycle import find_unknown, prepare_down, prepare_restart, prepare_start, prepare_stop
from orchestrator.actions.names import select_services
from orchestrator.actions.plan import check_stack, plan_goal
from orchestrator.actions.project import Project, recall_goal, stack_for_goal
from orchestrator.errors import Conflict, NotFound, OperationFailed, StackError, UsageError
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine
    from orchestrator.goal import Goal
    from orchestrator.plan import Plan
    from orchestrator.state import Container
    from orchestrator.supervision.client import Outcome

Whole = Literal["up", "down", "remove orphans"]
"""What concerns the whole project, and is asked about first."""


class Proposal(Record):
    """What would be done to the whole project: the goal, and the plan that leads there."""

    verb: Whole
    goal: Goal
    plan: Plan


class Operations:
    """Everything that can be done. All methods block, may be called from any thread, and raise StackError.

    `load` loads the project (naming a service switches its profile on); `own` raises Conflict if the project belongs to
    another folder; `converge` brings it to a goal.
    """

    def __init__(
        self,
        engine: Engine,
        load: Callable[[Sequence[str]], Project],
        own: Callable[[Project], None],
        converge: Callable[[Goal], Outcome],
    ) -> None:
        self._engine = engine
        self._load, self._own, self._converge = load, own, converge
        self._lock = threading.Lock()
        self._scales: dict[str, int] = {}
        self._scaling: set[str] = set()

    def start(self, row: Row) -> str:
        """Start what there is of a service, or create it. Returns what was done."""
        project = self._load((row.service,) if row.disabled else ())
        if row.containers:
            goal = prepare_start(self._engine, project, (row.service,), wait=False)
            if row.service not in goal.stack.services:
                raise _unknown(row.service, "start")
            self._reach(goal)
            return f"{row.service} was started"
        self._bring_up(project, UpOptions(services=(row.service,)))
        return f"{row.service} is up"

    def stop(self, row: Row) -> str:
        """Stop the containers of a service."""
        if not row.alive:
            raise Conflict(f"{row.service} does not run", resource=row.service, operation="stop")
        project = self._load(())
        if row.kind == "oneoff":
            return self._stop_directly(row.containers)
        goal = prepare_stop(self._engine, project, (row.service,), timeout=None)
        if goal is not None and goal.wants:
            self._reach(goal)
        unknown = find_unknown(project, self._engine, goal, (row.service,)) if goal is not None else ()
        if unknown:
            self._stop_directly(unknown)
        return f"{row.service} has stopped"

    def _stop_directly(self, containers: Sequence[Container]) -> str:
        for one in containers:
            self._engine.stop_container(one.id)
        return f"{', '.join(one.name for one in containers)}: stopped"

    def restart(self, row: Row) -> str:
        """Restart the containers of a service, and those that ask to be restarted with it."""
        goal = prepare_restart(self._engine, self._load(()), (row.service,), timeout=None, dependents=True)
        if goal is None or not goal.wants.keys() & goal.stack.services.keys():
            raise _unknown(row.service, "restart")
        self._reach(goal)
        return f"{row.service} was restarted"

    def kill(self, row: Row) -> str:
        """Send SIGKILL to the containers of a row; their restart policy decides what becomes of them."""
        chosen = [one for one in row.containers if one.alive]
        if not chosen:
            raise Conflict(f"{row.label} does not run", resource=row.label, operation="kill")
        for one in chosen:
            self._engine.kill_container(one.id, "SIGKILL")
        return f"{row.label} was killed"

    def pause(self, row: Row) -> str:
        """Freeze the containers of a row; if all of them are frozen, let them go on."""
        alive = [one for one in row.containers if one.alive]
        if not alive:
            raise Conflict(f"{row.label} does not run", resource=row.label, operation="pause")
        paused = any(one.status != "paused" for one in alive)
        for one in alive:
            if (one.status == "paused") != paused:
                self._engine.pause_container(one.id, paused=paused)
        return f"{row.label} is paused" if paused else f"{row.label} goes on"

    def rebuild(self, row: Row) -> str:
        """Build a service's image again, and replace its containers if it became another one."""
        project = self._load((row.service,) if row.disabled else ())
        stack = project.stack
        if stack is None:
            raise _no_file(project)
        if row.service not in stack.services:
            raise UsageError(f"{row.service} is not in the stack file: there is nothing to build")
        if stack.services[row.service].build is None:
            raise UsageError(
                f"{row.service} has no build: it runs the image {stack.services[row.service].image}",
                hint="`r` restarts it; `u` brings up what has changed",
            )
        self._bring_up(project, UpOptions(services=(row.service,), build="always"))
        return f"{row.service} was built again"

    def scale(self, service: str, present: int, step: int) -> str | None:
        """Run one replica more or less than are wanted; None if another call for the service sees to it.

        `present` is how many there are, for the first call.
        """
        with self._lock:
            wanted = self._scales.get(service, present) + step
            if wanted < 0:
                raise UsageError(f"{service} has no replica that could go")
            self._scales[service] = wanted
            if service in self._scaling:
                # Keys come faster than containers: whoever is at it goes on to the newest number.
                return None
            self._scaling.add(service)
        reached = present
        try:
            while True:
                with self._lock:
                    wanted = self._scales[service]
                    if reached == wanted:
                        self._scaling.discard(service)
                        del self._scales[service]
                        return f"{service}: {wanted} {'replica' if wanted == 1 else 'replicas'}"
                self._scale_to(service, wanted)
                reached = wanted
        except BaseException:
            with self._lock:
                self._scaling.discard(service)
                self._scales.pop(service, None)
            raise

    def _scale_to(self, service: str, wanted: int) -> None:
        project = self._load(())
        if project.stack is None:
            raise _no_file(project)
        self._bring_up(project, UpOptions(services=(service,), scale={service: wanted}))

    # The whole project

    def propose(self, verb: Whole) -> Proposal | None:
        """What `verb` would do; None if there is nothing to do."""
        project = self._load(())
        goal = self._find_goal(verb, project)
        if goal is None:
            return None
        plan = plan_goal(self._engine, goal, time.time())
        return Proposal(verb=verb, goal=goal, plan=plan) if plan else None

    def _find_goal(self, verb: Whole, project: Project) -> Goal | None:
        if verb == "up":
            return self._prepare_up(project, UpOptions())
        if verb == "down":
            return prepare_down(
                self._engine,
                project,
                (),
                timeout=None,
                remove_orphans=False,
                remove_volumes=False,
                remove_images="none",
            )
        if project.stack is None:
            raise _no_file(project)
        # The file decides who is an orphan, not what was brought up last; nothing else is touched.
        previous = recall_goal(project.name)
        goal = edit_want(stack_for_goal(project, previous), previous, (), "stopped", time.time())
        return goal.replace(stack=project.stack, remove_orphans=True)

    def perform(self, proposal: Proposal) -> str:
        """Do what was proposed, from what is there now."""
        goal = proposal.goal
        if proposal.verb == "up":
            self._own(self._load(()))
            self._engine.require_access(starting=True)
        self._reach(goal.replace(issued_at=time.time()))
        if proposal.verb == "down":
            from orchestrator.actions.folders import forget_isolated

            forget_isolated(goal.stack.directory)
        words = {"up": "is up", "down": "is down", "remove orphans": "has no orphans any more"}
        return f"{goal.stack.name} {words[proposal.verb]}"

    def _prepare_up(self, project: Project, options: UpOptions) -> Goal:
        from orchestrator.actions.prepare_up import prepare_up

        if project.stack is None:
            raise _no_file(project)
        select_services(options.services, project.stack.services, disabled=project.stack.disabled)
        return prepare_up(project, options)

    def _bring_up(self, project: Project, options: UpOptions) -> None:
        goal = self._prepare_up(project, options)
        self._own(project)
        self._engine.require_access(starting=True)
        check_stack(self._engine, goal)
        self._reach(goal)

    def _reach(self, goal: Goal) -> None:
        outcome = self._converge(goal)
        if outcome.converged:
            return
        if not outcome.failures:
            raise OperationFailed("the goal was not reached")
        first = outcome.failures[0]
        message = first.message
        if first.exit_code is not None and "exit" not in message:
            message += f" (exit code {first.exit_code})"
        if first.service and first.service not in message:
            message = f"{first.service}: {message}"
        more = len(outcome.failures) - 1
        if more:
            message += f" (and {more} more)"
        raise OperationFailed(message, hint=first.hint or (first.log[-1] if first.log else ""))


def _no_file(project: Project) -> StackError:
    return UsageError(
        f"project {project.name} is known by its name alone: there is no stack file to bring up",
        hint="begin `stack ui` in its folder, or with -f FILE",
    )


def _unknown(service: str, operation: str) -> StackError:
    return NotFound(
        f"{service} cannot be {operation}ed: the stack that was brought up last does not have it",
        resource=service,
        operation=operation,
        hint="`o` removes containers that the stack file does not name; `u` brings up what it has",
    )
