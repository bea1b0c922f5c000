"""The control loop of one project: observe -> reconcile -> execute -> wait for a change -> again.

Everything that happens comes in as an event: a new goal, a container's end, a probe's finding, a timer that is due.
Between events nothing runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from orchestrator.control_loop.catalog import Catalog
from orchestrator.control_loop.conditions import Board, ConditionFailed
from orchestrator.control_loop.executor import Execution, PlanOutcome, Progress
from orchestrator.control_loop.failures import Failure, describe_failure, explain_unexpected
from orchestrator.control_loop.health_runner import HealthRunner
from orchestrator.control_loop.loop_status import describe_board, describe_execution, describe_goal
from orchestrator.control_loop.perform import Performer
from orchestrator.control_loop.providers import Answers
from orchestrator.control_loop.restarting import Restarter
from orchestrator.control_loop.rollback import plan_rollback
from orchestrator.control_loop.telling import Teller
from orchestrator.control_loop.tending import Tender
from orchestrator.errors import EngineError, StackError
from orchestrator.events import Sink
from orchestrator.goal import Goal, Want
from orchestrator.plan import Operation, Plan
from orchestrator.reconcile import reconcile
from orchestrator.reconcile.providers import inject_environment, is_provided
from orchestrator.record import Record
from orchestrator.superseding import merge_goals
from orchestrator.workers import Workers

if TYPE_CHECKING:
    from orchestrator.engines.base import Change, Engine
    from orchestrator.state import Container, ObservedState

PASSES = 4
"""How often one goal is planned before the loop admits that the plans do not lead there."""


LOOKS = 5
"""How often the loop looks again because a restart policy started something meanwhile."""


class Settled(Record):
    """How a goal ended: reached, or given up with `failures`."""

    converged: bool
    failures: tuple[Failure, ...] = ()


class Loop:
    """Converges one project to its goal and keeps it there. Lives on one event loop; `emit` is called on it."""

    def __init__(
        self,
        engine: Engine,
        project: str,
        emit: Sink,
        *,
        on_settled: Callable[[Settled], None],
        on_idle: Callable[[], None],
        on_edit: Callable[[Goal], None] = lambda _goal: None,
        on_plan: Callable[[Plan], None] = lambda _plan: None,
        clock: Callable[[], float] = time.time,
        workers: Workers | None = None,
    ) -> None:
        self.engine = engine
        self.project = project
        self.goal: Goal | None = None
        self._emit = emit
        self.teller = Teller(emit, clock)
        self._clock = clock
        self._on_settled = on_settled
        self._on_idle = on_idle
        self._on_edit = on_edit
        self._on_plan = on_plan
        self._fresh = False
        self._reached = True
        self._wake = asyncio.Event()
        self._execution: Execution | None = None
        self._performer: Performer | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._end_watch: Callable[[], None] | None = None
        self._turning = False
        self._leaving = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._last: Settled | None = None
        self._good: Goal | None = None
        self._ran: dict[str, str] = {}
        self._gave_up: Settled | None = None
        self.answers = Answers()
        self.workers = workers or Workers()
        self.board = Board()
        self.catalog = Catalog(self.board)
        self.board.probed = lambda service: self.catalog.find_check(service) is not None
        self.health = HealthRunner(engine, self.board, self.workers, emit, clock, self.catalog.find_own_check)
        self.restarter = Restarter(
            engine, self.board, self.workers, emit, clock, self.catalog.find_policy, self._check_idle
        )
        self.board.listeners.append(self._follow_health)
        self.tender = Tender(
            self.board, self.restarter, emit, clock, self._observe, self._after_exits, self._remove_ended
        )

    def submit(self, goal: Goal) -> None:
        """Edit the goal: what runs of the old plan comes to its end, what is pending is dropped."""
        if self.goal is not None and not self._reached:
            goal = merge_goals(self.goal, goal)
        self._gave_up = None
        self._take(goal)
        self._fresh, self._reached = True, False
        if self._execution is not None:
            self._execution.drop_pending("the goal was changed")
        if self._performer is not None:
            self._performer.builders.call_off(goal)
            self._performer.fetchers.call_off(goal)
        self.answers.call_off(goal)
        if self._waiting is not None:
            self._waiting.cancel()
        if goal.stop_timeout == 0 and self._performer is not None:
            for container_id in tuple(self._performer.stopping):
                self._spawn(self._performer.kill(container_id))
        self._wake.set()

    def adopt(self, goal: Goal) -> None:
        """Take over a goal that was reached before: supervise, and change nothing."""
        self._take(goal)
        self._good = goal
        self._wake.set()

    def stop(self) -> None:
        """End supervision; running operations come to their end, containers go on."""
        self._leaving = True
        if self._execution is not None:
            self._execution.drop_pending("the supervisor is stepping down")
        if self._performer is not None:
            self._performer.builders.call_off(None)
            self._performer.fetchers.call_off(None)
        self.answers.call_off(None)
        if self._waiting is not None:
            self._waiting.cancel()
        self._wake.set()

    @property
    def idle(self) -> bool:
        """True when nothing is left to supervise and nothing is to be done."""
        busy = self._fresh or self._turning or self._wake.is_set()
        return not (busy or len(self.restarter) or self.tender.busy or any(one.alive for one in self.board.all()))

    @property
    def reached(self) -> bool:
        """True when the goal was reached, or given up."""
        return self._reached

    @property
    def converged(self) -> bool:
        """True when the goal was reached."""
        return self._reached and self._last is not None and self._last.converged

    @property
    def held_goal(self) -> Goal | None:
        """The goal, if it was reached and nothing is under way that may change what runs."""
        busy = self._fresh or self._turning or self._leaving or self._wake.is_set() or self.tender.busy
        return self.goal if self.converged and not busy else None

    async def look(self, goal: Goal) -> ObservedState:
        """Observe what is there, and host and tend it as at the beginning of a turn."""
        await self._serve(goal)
        since = self.board.now()
        observed = await self._observe(goal)
        self.tender.absorb(observed, since)
        return observed

    async def run(self) -> None:
        """Run until :meth:`stop`."""
        tending = asyncio.create_task(self.tender.run())
        try:
            while not self._leaving:
                await self._wake.wait()
                self._wake.clear()
                if self.goal is not None and not self._leaving:
                    await self._turn(self.goal)
                self._check_idle()
        finally:
            tending.cancel()
            self.restarter.stop()
            self.health.stop()
            if self._end_watch is not None:
                await self.workers.run("work", self._end_watch)
            self.workers.rest()

    async def _turn(self, goal: Goal) -> None:
        self._turning = True
        fresh, self._fresh = self._fresh, False
        try:
            if self._end_watch is None:
                self._end_watch = await self._watch()
                if not fresh:
                    await self._serve(goal)
                    since = self.board.now()
                    self.tender.adopt(await self._observe(goal), since, goal.issued_at)
            settled = await self._converge(goal) if fresh else None
        except StackError as error:
            settled = Settled(converged=False, failures=(await self._report(error, None),))
        except Exception as error:
            unexpected = explain_unexpected(error, self.project)
            settled = Settled(converged=False, failures=(await self._report(unexpected, None),))
        finally:
            self._turning = False
        if settled is not None and not self._fresh and not self._leaving:
            self._settle(settled)

    def _settle(self, settled: Settled) -> None:
        if not settled.converged and self._turn_back(settled):
            return
        if self._gave_up is not None:
            # The way back has ended; what the command asked for has failed all the same.
            settled, self._gave_up = self._gave_up.replace(failures=self._gave_up.failures + settled.failures), None
        elif settled.converged:
            self._good = self.goal
        self._last = settled
        self._reached = True
        if settled.converged:
            self.teller.tell_converged(self.project)
        self._on_settled(settled)

    def _turn_back(self, settled: Settled) -> bool:
        """Begin the way back to the last goal that was reached, where the goal or a service asks for that."""
        assert self.goal is not None
        moved = self.catalog.list_moved(self._good.stack, self._ran) if self._good is not None else {}
        back = plan_rollback(self.goal, self._good, settled.failures, moved, self._clock())
        if back is None:
            return False
        self.teller.tell_turning_back(self.project, back)
        self._gave_up = settled
        self._take(back)
        self._on_edit(back)
        self._fresh = True
        self._wake.set()
        return True

    async def _watch(self) -> Callable[[], None]:
        hear = asyncio.get_running_loop().call_soon_threadsafe

        def notify(change: Change) -> None:
            # The watch may speak once more while the loop is being closed.
            with contextlib.suppress(RuntimeError):
                hear(self.tender.notice, change)

        return await self.workers.run("work", lambda: self.engine.watch(self.project, notify))

    def _take(self, goal: Goal) -> None:
        self.goal = goal
        self.catalog.learn_stack(goal.stack)

    async def _serve(self, goal: Goal) -> None:
        # In a worker: taking containers over can wait for one that is coming to its end, and that for this loop.
        running = asyncio.get_running_loop()
        await self.workers.run("work", lambda: self.engine.serve(goal.stack, running))

    async def _observe(self, goal: Goal | None = None) -> ObservedState:
        stack = goal.stack if goal else None
        observed = await self.workers.run("work", lambda: self.engine.observe(self.project, stack))
        self.catalog.learn_images(observed)
        return observed

    async def _converge(self, goal: Goal) -> Settled | None:
        """Return how it ended, or None when another goal cut in."""
        await self._serve(goal)
        await self._calm(goal)
        before: set[str] = set()
        asked, again = goal, 0
        for _attempt in range(PASSES + sum(1 for one in goal.stack.services.values() if is_provided(one))):
            goal = asked.replace(stack=inject_environment(asked.stack, self.answers.by_service))
            observed = (await self._look(goal)).replace(provided=self.answers.moments)
            if self._fresh or self._leaving:
                return None
            if not before and not goal.rolling_back:
                self._ran = {one.service: one.image_id for one in observed.containers if one.alive and not one.oneoff}
            self.health.refresh()
            plan = reconcile(goal, observed, now=self._clock())
            if not before:
                self.teller.warn(plan)
                self.teller.tell_left_alone(plan)
            if not plan:
                return await self._await_wanted(goal)
            ids = {one.id for one in plan}
            # Once, because somebody else may have undone it: killed or removed what had just been started.
            again += ids <= before
            if again > 1:
                break
            before |= ids
            outcome, failures = await self._execute(goal, plan)
            if outcome.dropped or self._fresh or self._leaving:
                return None
            # A one-off container whose command has gone concerns nobody any more.
            if outcome.failed and {one.code for one in failures} != {"caller-gone"}:
                return Settled(converged=False, failures=failures)
        told = f"done, and to be done again each time: {', '.join(sorted(ids))}"
        hint = "`stack events --since 1m` shows whether something else changes the project"
        raise EngineError(told, resource=self.project, operation="converge", hint=hint)

    async def _look(self, goal: Goal) -> ObservedState:
        """Observe at a moment when no restart policy starts anything: the plan would not know that it runs."""
        for _attempt in range(LOOKS):
            begun = await self.restarter.quiet()
            since = self.board.now()
            observed = await self._observe(goal)
            if begun == self.restarter.begun:
                break
        self.tender.absorb(observed, since)
        return observed

    async def _calm(self, goal: Goal) -> None:
        """Drop restart timers of what is not to run, and have it remembered that the user wants it so."""
        for one in self.board.all():
            ours = one.oneoff or one.service in goal.stack.services or one.service in goal.stack.disabled
            gone = goal.down and (goal.remove_orphans or ours)
            want = "absent" if gone else goal.wants.get(one.service, "untouched")
            if one.status == "restarting" and want in ("stopped", "absent"):
                self.restarter.cancel(one.id)
                await self.board.released(one.id)
                await self.workers.run(
                    "stop",
                    lambda key=one.id: self.engine.stop_container(key, timeout=0, hold=True),  # type: ignore[misc]
                )

    async def _execute(self, goal: Goal, plan: Plan) -> tuple[PlanOutcome, tuple[Failure, ...]]:
        ours = (self.board, self.workers, self._emit, self._clock, self.catalog.images)
        performer = Performer(self.engine, goal.stack, *ours, build_options=goal.build_options, answers=self.answers)
        self._on_plan(plan)
        reports: list[asyncio.Task[Failure]] = []

        async def perform(operation: Operation, progress: Progress) -> None:
            try:
                await performer(operation, progress)
            except StackError as error:
                reports.append(self._spawn(self._report(error, operation)))
                raise

        self._performer, self._execution = (
            performer,
            Execution(
                plan,
                perform,
                self._emit,
                clock=self._clock,
                parallel=goal.parallel,
                foresee=performer.look_ahead,
            ),
        )
        try:
            with self.tender.expecting(plan) as expected:
                outcome = await self._execution.run()
                expected.update(outcome.succeeded)
                await performer.withdraw(outcome.succeeded)
        finally:
            self._performer = self._execution = None
        return outcome, tuple([await one for one in reports])

    async def _await_wanted(self, goal: Goal) -> Settled | None:
        """Wait for what ``--wait`` asks; the first certain failure ends it."""
        if not goal.wait_for or goal.down:
            return Settled(converged=True)
        conditions = self.catalog.choose_conditions(goal)
        awaited = self.board.list_replicas(conditions)
        for service, name in awaited:
            self.teller.tell_container("await container", service, name, "started")
        self._waiting = asyncio.create_task(self.board.wait_all(conditions, strict=True))
        try:
            await self._waiting
        except asyncio.CancelledError:
            if self._fresh or self._leaving:
                return None
            raise
        except ConditionFailed as failure:
            return Settled(converged=False, failures=(await self._report(failure, None),))
        finally:
            self._waiting = None
        for service, name in awaited:
            self.teller.tell_container("await container", service, name, "done")
        return Settled(converged=True)

    async def _report(self, error: StackError, operation: Operation | None) -> Failure:
        failure = await describe_failure(error, operation, self.engine, self.board, self.workers)
        culprit = getattr(error, "container", None)
        if culprit is not None and culprit.health == "unhealthy" and (said := self.health.last_words(culprit.id)):
            failure = failure.replace(hint=f"its health check said: {said}")
        self._emit(failure.to_event(self._clock()))
        return failure

    def _after_exits(self, exits: list[tuple[str, int]]) -> None:
        """Told of containers (service, exit code) that ended by themselves."""
        goal = self.goal
        if goal is not None and goal.abort_on_exit:
            culprits = [
                code for service, code in exits if service in goal.wants and (code != 0 or goal.abort_on_exit == "any")
            ]
            if culprits:
                self._abort(goal, culprits[0])
        self._check_idle()

    async def _remove_ended(self, container_id: str) -> None:
        await self.workers.run("stop", lambda: self.engine.await_caller(container_id))
        await self.workers.run("work", lambda: self.engine.remove_container(container_id, volumes=True))

    def _abort(self, goal: Goal, exit_code: int) -> None:
        self.teller.tell_abort(self.project, exit_code)
        wants: dict[str, Want] = dict.fromkeys(goal.wants, "stopped")
        self.submit(Goal(stack=goal.stack, wants=wants, issued_at=self._clock(), scale=goal.scale))
        self._on_edit(self.goal or goal)

    def _follow_health(self, before: Container | None, after: Container | None) -> None:
        if after is None or after.oneoff or after.status != "running" or after.health != "unhealthy":
            return
        service = self.catalog.find_service(after.service) if before is None or before.health != "unhealthy" else None
        if service is not None and service.restart_unhealthy:
            self._spawn(self._end_unhealthy(after))

    async def _end_unhealthy(self, container: Container) -> None:
        if await self.restarter.end_unhealthy(container):
            # The engine tells only of ends that it did not bring about itself.
            self.tender.notice_gone(container.id)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _check_idle(self) -> None:
        if self.idle:
            self._on_idle()

    def status(self) -> dict[str, Any]:
        """What ``why`` and ``ps`` may want to know, as JSON-able data."""
        return {
            **describe_goal(self.goal),
            **describe_execution(self._execution),
            **describe_board(self.board, self.health),
            "settled": self._reached,
            "failures": [one.to_json() for one in (self._last.failures if self._last else ())],
            "restarts": self.restarter.timers(),
            "left_alone": self.restarter.left_alone(),
        }
