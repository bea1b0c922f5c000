"""The fake engine in bad weather: containers die, operations fail, probes say no; and it checks what must never be."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from plan_runner import starts_first

from orchestrator.digest import config_hash
from orchestrator.engines.base import Change, ExecRequest, ExecResult
from orchestrator.engines.fake import FakeEngine
from orchestrator.errors import EngineError
from orchestrator.goal import Goal
from orchestrator.graph import resolve_dependencies
from orchestrator.plan import Plan
from orchestrator.reconcile.providers import is_provided

if TYPE_CHECKING:
    from orchestrator.model import Stack
    from orchestrator.plan import CreateContainer
    from orchestrator.state import Container, HealthStatus, ObservedState

POLICY = "; restart policy "
"""What the cause of every start by a restart policy holds."""


class Watcher:
    """Tells of ends at once, in the one thread that there is."""

    def __init__(self, project: str, notify: Callable[[Change], None]) -> None:
        self.project = project
        self.tell = notify


class WeatherEngine(FakeEngine):
    """`fail` is the chance that an operation fails, `crash` that a container which starts will die by itself."""

    def __init__(self, chance: random.Random, clock: Callable[[], float], tell: Callable[[str], None]) -> None:
        super().__init__(clock)
        self._chance = chance
        self._say = tell
        self.fail = self.crash = self.sick = 0.0
        self.executing: Goal | None = None
        """The goal whose plan is being carried out."""
        self.answered: set[str] = set()
        """Provided services whose provider has answered."""
        self.replaced: set[str] = set()
        """Containers that the plan being carried out replaces by others which start first."""
        self._healthy: set[str] = set()
        self._completed: set[str] = set()
        self._started: set[str] = set()
        self._init_done: dict[str, float] = {}
        self.hookless: set[str] = set()
        """Containers whose last start by an operation has not been followed by their hooks."""
        self.starts: list[tuple[str, str]] = []
        self.before = self._maybe_fail

    # Bad weather

    def _maybe_fail(self, operation: str, resource: str) -> None:
        if self.fail and self._chance.random() < self.fail:
            self._say(f"    {operation} {resource} fails")
            raise EngineError(f"no {operation} in this weather", resource=resource, operation=operation)

    def observe(self, project: str, stack: Stack | None = None) -> ObservedState:
        """What is there; in bad weather it sometimes cannot be seen."""
        if self.fail and self._chance.random() < self.fail / 5:
            raise EngineError("nothing can be seen in this weather", operation="observe")
        return super().observe(project, stack)

    def look(self, goal: Goal) -> ObservedState:
        """What is there, in any weather."""
        return super().observe(goal.stack.name, goal.stack)

    def watch(self, project: str, notify: Callable[[Change], None]) -> Callable[[], None]:
        """Tell of every end."""
        watcher: Any = Watcher(project, notify)
        self._watches.append(watcher)
        return lambda: self._watches.remove(watcher) if watcher in self._watches else None

    def forget_watches(self) -> None:
        """Whoever watched has been killed."""
        self._watches.clear()

    def exec_captured(self, container: Container, request: ExecRequest, *, timeout: float) -> ExecResult:
        """A probe or a hook: fine, or not."""
        one = self._find(container.id)
        if not one.state.alive:
            raise EngineError(f"{one.state.name} is not running", operation="exec")
        bad = self._chance.random() < self.sick
        if request.command == ("post", "start") and not bad:
            self.hookless.discard(container.id)
        return ExecResult(exit_code=1 if bad else 0, output="bad weather\n" if bad else "")

    # What is checked

    def note_plan(self, goal: Goal, plan: Plan) -> None:
        """A plan for `goal` begins."""
        self.executing = goal
        self._say("\n".join(f"      {line}" for line in plan.render().splitlines()))
        for one in plan:
            assert one.cause, f"{one.id} has no cause"

    def create_container(self, stack: Stack, request: CreateContainer) -> str:
        """Create; the name says which ``pre_start`` container it is."""
        made = super().create_container(stack, request)
        self._say(f"    create {request.container_name} {made[:12].lstrip('0')}")
        return made

    def start_container(self, container_id: str, *, cause: str = "") -> None:
        """Start, after a look at whether that may be."""
        state = self._find(container_id).state
        self._say(f"    start {state.name} {container_id[:12].lstrip('0')} ({cause})")
        if not state.alive:
            assert cause, f"{state.name} is started without a cause"
            self._check_twins(state)
            if POLICY not in cause and not state.oneoff:
                self._check_order(state)
        super().start_container(container_id, cause=cause)
        if state.alive:
            return
        self.starts.append((state.name, cause))
        self._started.add(container_id)
        if POLICY not in cause:
            self._healthy.discard(container_id)
            self._completed.discard(container_id)
            self._note_hooks(state)
        self._plan_end(container_id)

    def _note_hooks(self, state: Container) -> None:
        service = self.executing.stack.services.get(state.service) if self.executing is not None else None
        if service is not None and service.post_start and not state.oneoff:
            self.hookless.add(state.id)
        else:
            self.hookless.discard(state.id)

    def _plan_end(self, container_id: str) -> None:
        one = self._find(container_id)
        kind = one.service.environment.get("KIND")
        code = 1 if self._chance.random() < self.crash else 0
        if one.state.oneoff or kind == "job" or code:
            loop = asyncio.get_running_loop()
            started = one.state.started_at
            loop.call_later(self._chance.uniform(0, 3), self._end_run, container_id, started, code)

    def _end_run(self, container_id: str, started_at: float, code: int) -> None:
        one = self._containers.get(container_id)
        if one is not None and one.state.alive and one.state.started_at == started_at:
            self.exit(container_id, code)

    def _end(self, one: Any, code: int, *, oom_killed: bool = False) -> None:
        if one.state.alive:
            self._say(f"    {one.state.name} {one.state.id[:12].lstrip('0')} ends with {code}")
            if code == 0:
                self._completed.add(one.state.id)
                if one.state.oneoff:
                    self._init_done[one.state.name] = self._clock()
        super()._end(one, code, oom_killed=oom_killed)

    def record_health(self, container_id: str, health: HealthStatus | None) -> None:
        """Remember whoever was healthy once."""
        if health == "healthy":
            self._healthy.add(container_id)
        super().record_health(container_id, health)

    def _check_twins(self, state: Container) -> None:
        """One replica never runs twice, except while the file asks for the new one to start first."""
        if state.oneoff:
            return
        twins = [
            one.state
            for one in self._containers.values()
            if one.state.alive and not one.state.oneoff and one.state.replica == state.replica
        ]
        assert not twins or (len(twins) == 1 and self._starts_first(state)), f"{state.name} would run twice: {twins}"

    def _starts_first(self, state: Container) -> bool:
        assert self.executing is not None
        return starts_first(self.executing, state.service)

    def _check_order(self, state: Container) -> None:
        """Nothing starts before what it depends on has been as it has to be, nor before its ``pre_start``."""
        goal = self.executing
        assert goal is not None, f"{state.name} starts without a plan"
        service = goal.stack.services.get(state.service)
        if service is None:
            return
        for dependency in resolve_dependencies(service).values():
            other = goal.stack.services.get(dependency.service)
            if other is None or not dependency.required or goal.wants.get(dependency.service) != "running":
                continue
            if is_provided(other):
                assert other.name in self.answered, f"{state.name} starts before {other.name} is provided"
                continue
            good = self._count_good(goal, other.name, dependency.condition)
            wanted = goal.replicas(other.name)
            assert good >= wanted, (
                f"{state.name} starts before {other.name} is {dependency.condition}: {good} of {wanted}"
            )
        self._check_init(goal, state)

    def _count_good(self, goal: Goal, name: str, condition: str) -> int:
        marks = {
            "service_started": self._started,
            "service_healthy": self._healthy,
            "service_completed_successfully": self._completed,
        }[condition]
        wanted = config_hash(goal.stack.services[name], goal.stack, goal.file_digests)
        return sum(
            1
            for key, one in self._containers.items()
            if one.state.service == name
            and not one.state.oneoff
            and key in marks
            and (goal.recreate == "never" or one.state.config_hash == wanted)
        )

    def _check_init(self, goal: Goal, state: Container) -> None:
        hooks = goal.stack.services[state.service].config.get("pre_start") or ()
        others = [
            key
            for key, one in self._containers.items()
            if one.state.service == state.service and key != state.id and not one.state.oneoff and key in self._started
        ]
        if state.id in self._started or others:
            return
        for index in range(len(hooks)):
            name = f"app-{state.service}-pre_start-{index}"
            assert name in self._init_done, f"{state.name} starts before {name} has ended well"
