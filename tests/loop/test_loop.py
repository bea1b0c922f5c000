"""The loop in one process, over containers that are files."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from disk_engine import DiskEngine

from orchestrator.control_loop.loop import Loop, Settled
from orchestrator.engines.base import ExecResult
from orchestrator.errors import Conflict
from orchestrator.events import Event
from orchestrator.goal import Goal, Want
from orchestrator.model import Dependency, Probe, RestartPolicy, Service, Stack
from orchestrator.state import Container


def service(name: str, image: str = "img", **fields: Any) -> Service:
    return Service(name=name, image=image, config={"image": image}, **fields)


def stack_of(*services: Service) -> Stack:
    return Stack(name="demo", services={one.name: one for one in services})


def running(stack: Stack, **fields: Any) -> Goal:
    return Goal(stack=stack, **{"wants": dict.fromkeys(stack.services, "running"), "issued_at": time.time(), **fields})


def down(stack: Stack) -> Goal:
    wants: dict[str, Want] = dict.fromkeys(stack.services, "absent")
    return Goal(stack=stack, wants=wants, issued_at=time.time(), down=True, remove_orphans=True)


class Scene:
    """A loop, and what it told."""

    def __init__(self, engine: DiskEngine) -> None:
        self.engine = engine
        self.events: list[Event] = []
        self.settled: list[Settled] = []
        self.idle = 0
        self._changed = asyncio.Event()
        self.loop = Loop(
            cast("Any", engine),
            "demo",
            self._tell,
            on_settled=self._settle,
            on_idle=self._rest,
        )
        self.loop.board.listeners.append(lambda _before, _after: self._changed.set())

    def _tell(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    def _settle(self, settled: Settled) -> None:
        self.settled.append(settled)
        self._changed.set()

    def _rest(self) -> None:
        self.idle += 1
        self._changed.set()

    async def until(self, done: Callable[[], Any]) -> Any:
        try:
            async with asyncio.timeout(10):
                while not (found := done()):
                    # What only the engine sees is not told: look again after a while, too.
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), 0.02)
        except TimeoutError:
            raise AssertionError(f"in vain: {self.loop.status()}, {self.events}") from None
        return found

    async def converge(self, goal: Goal) -> Settled:
        before = len(self.settled)
        self.loop.submit(goal)
        await self.until(lambda: len(self.settled) > before)
        return self.settled[-1]

    def told(self, kind: str, action: str = "") -> list[Event]:
        return [one for one in self.events if one.kind == kind and action in ("", one.action)]

    def status(self, name: str) -> str:
        return self.engine.find(name).status


def play(engine: DiskEngine, scenario: Callable[[Scene], Awaitable[None]]) -> None:
    async def run() -> None:
        scene = Scene(engine)
        task = asyncio.create_task(scene.loop.run())
        try:
            await scenario(scene)
            assert not task.done()
        finally:
            scene.loop.stop()
            await task

    asyncio.run(run())


def test_a_goal_is_reached_and_a_second_look_finds_nothing_to_do(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        stack = stack_of(service("db"), service("web", depends_on={"db": Dependency(service="db")}))
        assert (await scene.converge(running(stack))).converged
        assert scene.status("demo-web-1") == "running"
        starts = disk.calls(prefix="start")
        assert starts == ["start demo-db-1", "start demo-web-1"]
        assert (await scene.converge(running(stack))).converged
        assert disk.calls(prefix="start") == starts
        assert len(scene.told("converged")) == 2
        assert (await scene.converge(down(stack))).converged
        assert disk.load() == []
        await scene.until(lambda: scene.idle)

    play(disk, scenario)


def test_a_container_that_dies_is_restarted_by_its_policy_and_only_then(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        stack = stack_of(service("app", restart=RestartPolicy(condition="always")), service("job"))
        await scene.converge(running(stack))
        disk.end_container("demo-job-1", 1)
        disk.end_container("demo-app-1", 7)
        await scene.until(lambda: scene.told("container", "restart"))
        assert scene.status("demo-app-1") == "running"
        assert scene.status("demo-job-1") == "exited"
        died = {one.subject: one.details["exit_code"] for one in scene.told("container", "die")}
        assert died == {"demo-app-1": 7, "demo-job-1": 1}
        assert "exited with code 7" in scene.told("container", "restart-in")[0].message
        assert disk.find("demo-app-1").restart_count == 1

    play(disk, scenario)


def test_a_restart_policy_gives_up_after_its_attempts(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        policy = RestartPolicy(condition="on-failure", max_attempts=2, delay=0.01)
        stack = stack_of(service("app", "crash", restart=policy))
        await scene.converge(running(stack))
        gave_up = await scene.until(lambda: scene.told("container", "give-up"))
        assert "gave up after 2 restarts" in gave_up[0].message
        assert disk.calls(prefix="start") == ["start demo-app-1"] * 3
        await scene.until(lambda: scene.idle)

    play(disk, scenario)


def test_stopping_a_service_in_its_back_off_cancels_the_restart_for_good(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        stack = stack_of(service("app", restart=RestartPolicy(condition="always", delay=3600)))
        await scene.converge(running(stack))
        disk.end_container("demo-app-1", 1)
        await scene.until(lambda: scene.told("container", "restart-in"))
        assert scene.loop.status()["restarts"][0]["container"] == "demo-app-1"
        assert not scene.loop.idle
        await scene.converge(running(stack, wants={"app": "stopped"}))
        assert scene.loop.status()["restarts"] == []
        assert disk.find("demo-app-1").hold
        await scene.until(lambda: scene.idle)

    play(disk, scenario)


def test_dependents_start_when_the_probe_succeeds(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        answers = [1, 1, 0]
        disk.healthy = lambda _one: ExecResult(exit_code=answers.pop(0) if answers else 0, output="not yet\n")
        probe = Probe(test=("CMD", "check"), interval=0.01, retries=5)
        stack = stack_of(
            service("db", healthcheck=probe),
            service("web", depends_on={"db": Dependency(service="db", condition="service_healthy")}),
        )
        assert (await scene.converge(running(stack))).converged
        statuses = [one.action for one in scene.told("health")]
        assert statuses == ["starting", "healthy"]
        history = scene.loop.status()["health"]["demo-db-1"]
        assert [one["success"] for one in history["log"][:3]] == [False, False, True]
        assert history["log"][0]["output"] == "not yet\n"
        assert disk.find("demo-db-1").health == "healthy"

    play(disk, scenario)


def test_an_unhealthy_dependency_fails_its_dependents_and_nothing_else(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        disk.healthy = lambda one: ExecResult(exit_code=1, output="refused\n")
        probe = Probe(test=("CMD-SHELL", "check"), interval=0.01, retries=2)
        stack = stack_of(
            service("db", healthcheck=probe),
            service("web", depends_on={"db": Dependency(service="db", condition="service_healthy")}),
            service("other"),
        )
        settled = await scene.converge(running(stack))
        assert not settled.converged
        messages = [one.message for one in settled.failures]
        assert messages == ["dependency failed to start: container demo-db-1 is unhealthy"]
        assert settled.failures[0].log == ("demo-db-1 says so",)
        assert scene.status("demo-other-1") == "running"
        assert scene.status("demo-web-1") == "created"
        assert scene.told("health")[-1].message == "refused"

    play(disk, scenario)


def test_a_predecessors_verdict_of_a_containers_health_is_asked_for_again(disk: DiskEngine) -> None:
    probe = Probe(test=("CMD-SHELL", "check"), interval=0.01, retries=2)
    db = service("db", healthcheck=probe)
    web = service("web", depends_on={"db": Dependency(service="db", condition="service_healthy")})

    async def fall_ill(scene: Scene) -> None:
        disk.healthy = lambda _one: ExecResult(exit_code=1, output="refused\n")
        await scene.converge(running(stack_of(db)))
        await scene.until(lambda: disk.find("demo-db-1").health == "unhealthy")

    async def recover(scene: Scene) -> None:
        disk.healthy = lambda _one: ExecResult(exit_code=0, output="fine\n")
        assert (await scene.converge(running(stack_of(db, web)))).converged
        assert disk.find("demo-db-1").health == "healthy"

    async def stay_ill(scene: Scene) -> None:
        settled = await scene.converge(running(stack_of(db, web)))
        # It takes one probe to be sure, not as many as at first.
        assert [one.message for one in settled.failures] == [
            "dependency failed to start: container demo-db-1 is unhealthy"
        ]
        assert scene.loop.health.history(disk.find("demo-db-1").id)["failing_streak"] >= 3  # type: ignore[index]

    play(disk, fall_ill)
    play(disk, stay_ill)
    play(disk, recover)


def test_a_dependency_that_dies_before_it_is_healthy_is_not_waited_for(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        probe = Probe(test=("CMD", "check"), interval=3600)
        stack = stack_of(
            service("db", "crash", healthcheck=probe),
            service("web", depends_on={"db": Dependency(service="db", condition="service_healthy")}),
        )
        settled = await scene.converge(running(stack))
        assert [(one.exit_code, one.service) for one in settled.failures] == [(3, "db")]
        assert "exited (3) before it was healthy" in settled.failures[0].message

    play(disk, scenario)


def test_a_one_shot_dependency_has_to_succeed(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        def stack(image: str) -> Stack:
            needs = {"job": Dependency(service="job", condition="service_completed_successfully")}
            return stack_of(service("job", image), service("web", depends_on=needs))

        assert (await scene.converge(running(stack("oneshot")))).converged
        assert scene.status("demo-web-1") == "running"
        await scene.converge(down(stack("oneshot")))
        settled = await scene.converge(running(stack("crash")))
        assert "didn't complete successfully: exit 3" in settled.failures[0].message

    play(disk, scenario)


def test_an_optional_dependency_that_fails_is_a_warning(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        needs = {"job": Dependency(service="job", condition="service_completed_successfully", required=False)}
        stack = stack_of(service("job", "crash"), service("web", depends_on=needs))
        assert (await scene.converge(running(stack))).converged
        assert "optional dependency" in scene.told("warning")[0].message

    play(disk, scenario)


def test_a_refused_start_is_reported_with_its_exit_code_and_log_and_not_tried_again(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        stack = stack_of(service("bad", "refused"), service("good"))
        settled = await scene.converge(running(stack))
        assert not settled.converged
        failure = settled.failures[0]
        assert (failure.service, failure.exit_code, failure.log) == ("bad", 127, ("demo-bad-1 says so",))
        assert scene.told("error")[0].details["exit_code"] == 127
        assert scene.status("demo-good-1") == "running"
        assert disk.calls(prefix="start demo-bad") == ["start demo-bad-1"]

    play(disk, scenario)


def test_wait_reports_an_exit_at_once_and_succeeds_when_all_are_ready(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        probe = Probe(test=("CMD", "check"), interval=0.01)
        stack = stack_of(service("web", healthcheck=probe), service("plain"))
        assert (await scene.converge(running(stack, wait_for=("plain", "web")))).converged
        assert disk.find("demo-web-1").health == "healthy"
        await scene.converge(down(stack))
        slow = Probe(test=("CMD", "check"), interval=3600)
        stack = stack_of(service("web", healthcheck=slow), service("dies"))
        scene.loop.submit(running(stack, wait_for=("dies", "web")))
        await scene.until(lambda: [one for one in disk.load() if one.name == "demo-dies-1" and one.alive])
        disk.end_container("demo-dies-1", 5)
        await scene.until(lambda: len(scene.settled) == 3)
        assert [one.message for one in scene.settled[-1].failures] == ["container demo-dies-1 exited (5)"]

    play(disk, scenario)


def test_a_newer_goal_cuts_the_older_plan_short(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        slow = Probe(test=("CMD", "check"), interval=3600)
        stack = stack_of(
            service("db", healthcheck=slow),
            service("web", depends_on={"db": Dependency(service="db", condition="service_healthy")}),
        )
        scene.loop.submit(running(stack))
        await scene.until(lambda: scene.loop.status()["pending"] == {"start web-1": ["wait db healthy"]})
        assert [one["id"] for one in scene.loop.status()["running"]] == ["wait db healthy"]
        assert (await scene.converge(down(stack))).converged
        assert len(scene.settled) == 1
        assert disk.load() == []

    play(disk, scenario)


def test_two_goals_about_different_services_are_both_reached(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        stack = stack_of(service("a"), service("b"))
        scene.loop.submit(running(stack, wants={"a": "running"}))
        assert (await scene.converge(running(stack, wants={"b": "running"}))).converged
        assert {one.name: one.status for one in disk.load()} == {"demo-a-1": "running", "demo-b-1": "running"}

    play(disk, scenario)


def test_abort_on_failure_stops_the_others_and_tells_the_exit_code(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        stack = stack_of(service("app"), service("job"))
        await scene.converge(running(stack, abort_on_exit="failure"))
        disk.end_container("demo-job-1", 4)
        await scene.until(lambda: len(scene.settled) == 2)
        assert scene.told("message", "abort")[0].details["exit_code"] == 4
        assert scene.status("demo-app-1") == "exited"
        await scene.until(lambda: scene.idle)

    play(disk, scenario)


def test_abort_concerns_only_what_was_asked_for(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        stack = stack_of(service("app"), service("job"), service("other"), service("bystander"))
        await scene.converge(running(stack))
        await scene.converge(running(stack, wants={"app": "running", "job": "running"}, abort_on_exit="any"))
        disk.end_container("demo-bystander-1", 3)
        await scene.until(lambda: scene.status("demo-bystander-1") == "exited")
        disk.end_container("demo-job-1", 4)
        await scene.until(lambda: len(scene.settled) == 3)
        assert [one.details["exit_code"] for one in scene.told("message", "abort")] == [4]
        assert (scene.status("demo-app-1"), scene.status("demo-other-1")) == ("exited", "running")

    play(disk, scenario)


def test_an_exit_that_the_plan_brought_about_concerns_no_policy(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        policy = RestartPolicy(condition="always", delay=0.0)
        stack = stack_of(service("app", restart=policy))
        await scene.converge(running(stack))
        first = disk.find("demo-app-1").id
        changed = stack_of(service("app", "img2", restart=policy))
        await scene.converge(running(changed))
        assert [(one.image, one.status) for one in disk.load()] == [("img2", "running")]
        assert disk.find("demo-app-1").id != first
        assert not scene.told("container", "restart-in")
        assert all(one.details["expected"] for one in scene.told("container", "die"))

    play(disk, scenario)


@pytest.mark.parametrize("held", [False, True])
def test_adoption_restarts_only_what_ended_while_nobody_watched(disk: DiskEngine, held: bool) -> None:
    stack = stack_of(service("app", restart=RestartPolicy(condition="always")), service("job"), service("lasting"))
    goal = running(stack)

    async def before(scene: Scene) -> None:
        await scene.converge(goal)

    async def after(scene: Scene) -> None:
        scene.loop.adopt(goal)
        if held:
            await scene.until(lambda: scene.loop.board.get(disk.find("demo-lasting-1").id) or scene.idle)
        else:
            await scene.until(lambda: scene.told("container", "restart"))
        assert scene.status("demo-app-1") == ("exited" if held else "running")
        assert disk.calls(prefix="start demo-lasting") == ["start demo-lasting-1"]

    play(disk, before)
    disk.end_container("demo-app-1", 1, tell=False)
    disk.end_container("demo-job-1", 0, tell=False)
    if held:
        one: Container = disk.find("demo-app-1")
        disk.save(one.replace(hold=True))
    play(disk, after)


def test_the_check_of_an_image_counts_even_if_the_image_is_pulled_by_the_same_plan(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        disk.image_checks["remote-db"] = Probe(test=("CMD", "check"), interval=0.01)
        stack = stack_of(
            service("db", "remote-db"),
            service("web", depends_on={"db": Dependency(service="db", condition="service_healthy")}),
        )
        scene.loop.submit(running(stack))
        await scene.until(lambda: "start demo-web-1" in disk.calls())
        assert disk.calls(prefix="pull") == ["pull remote-db"]
        assert [one.action for one in scene.told("health")] == ["starting", "healthy"]

    play(disk, scenario)


def test_a_start_that_fails_under_a_restart_policy_is_tried_again(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        stack = stack_of(service("app", restart=RestartPolicy(condition="always", delay=0.01)))
        await scene.converge(running(stack))
        disk.refused.add("demo-app-1")
        disk.end_container("demo-app-1", 1)
        await scene.until(lambda: len(scene.told("container", "restart-failed")) >= 2)
        disk.refused.clear()
        await scene.until(lambda: scene.told("container", "restart"))
        assert scene.status("demo-app-1") == "running"

    play(disk, scenario)


def test_a_stop_without_patience_kills_what_is_still_being_stopped(disk: DiskEngine) -> None:
    async def scenario(scene: Scene) -> None:
        stack = stack_of(service("app", "stubborn"))
        await scene.converge(running(stack))
        scene.loop.submit(running(stack, wants={"app": "stopped"}))
        await scene.until(lambda: disk.calls(prefix="stop"))
        assert (await scene.converge(running(stack, wants={"app": "stopped"}, stop_timeout=0))).converged
        assert scene.status("demo-app-1") == "exited"
        assert disk.calls(prefix="kill")

    play(disk, scenario)


def test_an_end_is_not_forgotten_when_the_engine_cannot_be_observed(
    disk: DiskEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.control_loop.tending.RETRY_AFTER", 0.01)

    async def scenario(scene: Scene) -> None:
        stack = stack_of(service("app", restart=RestartPolicy(condition="always", delay=0.01)))
        await scene.converge(running(stack))
        disk.blind = True
        disk.end_container("demo-app-1", 1)
        await asyncio.sleep(0.05)
        assert not scene.loop.idle
        disk.blind = False
        await scene.until(lambda: scene.told("container", "restart"))

    play(disk, scenario)


def test_a_service_that_left_the_stack_keeps_its_policy_until_it_is_removed(disk: DiskEngine) -> None:
    old = stack_of(service("app", "img"), service("kept"))
    new = stack_of(service("kept"))

    async def before(scene: Scene) -> None:
        await scene.converge(running(old))

    play(disk, before)
    one = disk.find("demo-app-1")
    disk.save(one.replace(config={"image": "img", "restart": "always"}))
    goal_time = time.time()
    play(disk, lambda scene: _end_while_watched(scene, disk, new, goal_time))


async def _end_while_watched(scene: Scene, disk: DiskEngine, stack: Stack, issued_at: float) -> None:
    scene.loop.adopt(running(stack, issued_at=issued_at))
    await scene.until(lambda: scene.loop.board.find("demo-app-1"))
    disk.end_container("demo-app-1", 1)
    await scene.until(lambda: scene.told("container", "restart"))
    assert scene.status("demo-app-1") == "running"


def test_what_somebody_undoes_is_done_once_more_and_then_told(
    disk: DiskEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, left = disk.start_container, [1]

    def undo(container_id: str, **words: Any) -> None:
        start(container_id, **words)
        if left[0]:
            left[0] -= 1
            disk.remove_container(container_id)

    async def scenario(scene: Scene) -> None:
        stack = stack_of(service("web"))
        monkeypatch.setattr(disk, "start_container", undo)
        assert (await scene.converge(running(stack))).converged
        assert scene.status("demo-web-1") == "running"
        left[0] = 99
        ended = await scene.converge(running(stack, recreate_before={"web": time.time()}))
        assert "to be done again each time" in ended.failures[0].message
        assert left[0] > 90

    play(disk, scenario)


def test_a_one_off_container_whose_command_has_gone_fails_no_other_goal(
    disk: DiskEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = disk.start_container

    class CallerGone(Conflict):
        code = "caller-gone"

    def refuse(container_id: str, **words: Any) -> None:
        if disk.find(container_id).oneoff:
            disk.save(disk.find(container_id).replace(finished_at=time.time()))
            raise CallerGone("nobody waits")
        start(container_id, **words)

    async def scenario(scene: Scene) -> None:
        monkeypatch.setattr(disk, "start_container", refuse)
        stack = stack_of(service("web"))
        disk.save(
            Container(
                id="f" * 64,
                name="demo-web-run-1",
                project="demo",
                service="web",
                number=1,
                image="img",
                image_id="sha256:img",
                status="created",
                oneoff=True,
            )
        )
        assert (await scene.converge(running(stack, oneoffs=("f" * 64,)))).converged
        assert scene.status("demo-web-1") == "running"

    play(disk, scenario)
