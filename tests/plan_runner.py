"""Runs plans one operation after the other on the fake engine, and checks at each step what must never happen."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.digest import config_hash
from orchestrator.engines.fake import FakeEngine
from orchestrator.errors import EngineError
from orchestrator.goal import Goal
from orchestrator.graph import resolve_dependencies
from orchestrator.plan import (
    BuildImage,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    Operation,
    Plan,
    PullImage,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    RestartContainer,
    RunHooks,
    RunInit,
    RunProvider,
    Settle,
    StartContainer,
    StopContainer,
    WaitFor,
)
from orchestrator.reconcile import reconcile
from orchestrator.reconcile.providers import is_provided
from orchestrator.state import Container


def starts_first(goal: Goal, service: str) -> bool:
    """True where new containers of the service shall run before the old ones are stopped."""
    known = goal.stack.services.get(service)
    deploy = (known.config.get("deploy") if known is not None else None) or {}
    config = deploy.get("rollback_config" if goal.rolling_back else "update_config") or {}
    return bool(config.get("order") == "start-first")


class Crash(Exception):
    """The process died here."""


class Clock:
    """Time that goes on by itself, a little with each look."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


class Runner:
    """One project on one fake engine. `pick` chooses which of the ready operations is next (an index)."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.engine = FakeEngine(self.clock)
        self.pick: Callable[[int], int] = lambda _count: 0
        self.crash_after: int | None = None
        self.failed: dict[str, EngineError] = {}
        self.tell: Callable[[str], object] = lambda _text: None
        self.provided: dict[str, dict[str, float]] = {}
        self.prepared: dict[str, float] = {}
        """When which ``pre_start`` container ended well, by its name."""

    def plan(self, goal: Goal) -> Plan:
        """What `goal` asks for now."""
        observed = self.engine.observe(goal.stack.name, goal.stack).replace(provided=self.provided)
        return reconcile(goal, observed, self.clock())

    def converge(self, goal: Goal, passes: int = 4) -> list[Plan]:
        """Plan and run until a plan is empty; return the plans that were not."""
        plans: list[Plan] = []
        for _ in range(passes):
            plan = self.plan(goal)
            if not plan:
                return plans
            plans.append(plan)
            self.run(goal, plan)
            if self.failed:
                return plans
        raise AssertionError("the plans do not lead to the goal:\n" + "\n".join(one.render() for one in plans))

    def run(self, goal: Goal, plan: Plan) -> None:
        """Run one plan; a failed operation cancels what needs it, and nothing else."""
        self.failed = {}
        self.tell(f"{self.states(goal.stack.name)}\n{dict(goal.wants)} at {goal.issued_at}\n{plan.render()}")
        done: set[str] = set()
        waiting = {one.id: one for one in plan}
        assert len(waiting) == len(plan), "ids are unique"
        for place, one in enumerate(plan):
            assert {other.id for other in plan.operations[:place]} >= set(one.needs), "prerequisites come first"
        lost: set[str] = set()
        while waiting:
            for one in list(waiting.values()):
                if any(need in lost for need in one.needs):
                    del waiting[one.id]
                    soft = isinstance(one, WaitFor) and not one.required
                    (done if soft else lost).add(one.id)
            ready = [one for one in waiting.values() if done.issuperset(one.needs)]
            if not ready:
                assert not waiting
                return
            one = ready[self.pick(len(ready)) % len(ready)]
            del waiting[one.id]
            if self.crash_after is not None:
                if self.crash_after == 0:
                    raise Crash
                self.crash_after -= 1
            try:
                self.perform(goal, one)
                done.add(one.id)
            except EngineError as error:
                self.failed[one.id] = error
                lost.add(one.id)
            if isinstance(one, StartContainer | RestartContainer):
                self.check_replica(goal, one)

    def perform(self, goal: Goal, one: Operation) -> None:
        """One operation, one engine call."""
        engine, project = self.engine, goal.stack.name
        assert one.cause, f"{one.id} has no cause"
        match one:
            case PullImage():
                engine.pull_image(one.reference)
            case BuildImage():
                engine.build_image(goal.stack, one.service)
            case CreateNetwork():
                engine.create_network(project, one.network)
            case RemoveNetwork():
                engine.remove_network(project, one.name)
            case CreateVolume():
                engine.create_volume(project, one.volume)
            case RemoveVolume():
                engine.remove_volume(project, one.name)
            case CreateContainer():
                engine.create_container(goal.stack, one)
            case StartContainer():
                self.check_dependencies(goal, one.service)
                engine.start_container(self.find(project, one.container_name))
            case StopContainer():
                engine.stop_container(one.container_id, timeout=one.timeout, hold=one.hold)
            case RestartContainer():
                self.check_dependencies(goal, one.service)
                engine.stop_container(one.container_id, hold=False)
                engine.start_container(one.container_id)
            case RemoveContainer():
                engine.remove_container(one.container_id, volumes=one.volumes)
            case RenameContainer():
                engine.rename_container(one.container_id, one.new_name, one.number)
            case RunHooks():
                pass
            case RunInit():
                assert any(c.name == one.beside for c in engine.observe(project).containers), f"no {one.beside} yet"
                self.prepared[one.subject] = self.clock()
            case RunProvider():
                self.provided.setdefault(one.action, {})[one.service.name] = self.clock()
            case Settle():
                for container in engine.observe(project).containers:
                    if container.name in one.containers and container.alive:
                        engine.record_health(container.id, "healthy")
            case WaitFor():
                self.wait(goal, one)
            case _:
                raise AssertionError(one)

    def wait(self, goal: Goal, one: WaitFor) -> None:
        """Let come true what is waited for."""
        for container in self.engine.observe(goal.stack.name).of_service(one.service):
            if one.condition == "service_healthy" and container.alive:
                self.engine.record_health(container.id, "healthy")
            elif one.condition == "service_completed_successfully" and container.alive:
                self.engine.exit(container.id, 0)
        if not self.holds(goal, one.service, one.condition) and one.required:
            raise EngineError(f"{one.service} is not {one.condition}")

    def holds(self, goal: Goal, service: str, condition: str) -> bool:
        """True when the condition holds for as many replicas as there shall be, made as the stack says."""
        wanted = config_hash(goal.stack.services[service], goal.stack)
        good: Callable[[Container], bool] = {
            "service_started": lambda one: one.started_at > 0,
            "service_healthy": lambda one: one.alive and one.health == "healthy",
            "service_completed_successfully": lambda one: one.status == "exited" and one.exit_code == 0,
        }[condition]
        replicas = self.engine.observe(goal.stack.name).of_service(service)
        return sum(good(one) for one in replicas if one.config_hash == wanted) >= goal.replicas(service)

    def check_dependencies(self, goal: Goal, service: str) -> None:
        """Nothing starts before what it depends on is as it has to be."""
        for dependency in resolve_dependencies(goal.stack.services[service]).values():
            if is_provided(goal.stack.services.get(dependency.service) or goal.stack.services[service]):
                continue
            wanted = goal.wants.get(dependency.service) == "running" and dependency.service in goal.stack.services
            if wanted and dependency.required:
                holds = self.holds(goal, dependency.service, dependency.condition)
                assert holds, f"{service} starts before {dependency.service} is {dependency.condition}"

    def check_replica(self, goal: Goal, started: StartContainer | RestartContainer) -> None:
        """A replica that was just started runs once, but where the file asks for the new one to start first: then two
        run for a while. Those of others may run twice still, as a former file has asked for."""
        containers = self.engine.observe(goal.stack.name).containers
        key = started.container_id if isinstance(started, RestartContainer) else started.container_name
        replica = next(one.replica for one in containers if key in (one.id, one.name))
        count = sum(1 for one in containers if one.alive and not one.oneoff and one.replica == replica)
        most = 2 if starts_first(goal, replica[0]) else 1
        assert count <= most, f"{started.container_name} runs {count} times"

    def find(self, project: str, name: str) -> str:
        """The id of the container with this name."""
        return next(one.id for one in self.engine.observe(project).containers if one.name == name)

    def states(self, project: str = "app") -> dict[str, str]:
        """Status by container name."""
        return {one.name: one.status for one in self.engine.observe(project).containers}
