"""Builds in the loop: what they tell, how they are called off, what a failure says."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.actions.goals import UpOptions, edit_interrupted, edit_up, edit_want
from orchestrator.control_loop.building import LOG_LIMIT, BuildRelay
from orchestrator.control_loop.loop import Loop, Settled
from orchestrator.engines.base import BuildEvent, load_build_events
from orchestrator.engines.fake import FakeEngine
from orchestrator.errors import Diagnostic, EngineError, NotFound
from orchestrator.events import Event
from orchestrator.goal import BuildOptions, Goal
from orchestrator.model import Build, Service, Stack
from orchestrator.source import Location
from orchestrator.state import ImageFacts


class SlowBuilds(FakeEngine):
    """Builds last until they are called off, or let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.options: list[BuildOptions] = []
        self.fail: Exception | None = None

    def build_image(self, stack: Stack, service: Service, **asked: Any) -> ImageFacts:
        self.options.append(asked["options"])
        self.begun.set()
        while not self.go_on.wait(0.01):
            if asked["cancel"]():
                raise EngineError("the build was cancelled")
        if self.fail is not None:
            raise self.fail
        return super().build_image(stack, service, **asked)


class Scene:
    """A loop over slow builds, and what it told."""

    def __init__(self) -> None:
        self.engine = SlowBuilds()
        self.events: list[Event] = []
        self.settled: asyncio.Queue[Settled] = asyncio.Queue()
        self.loop = Loop(
            self.engine, "demo", self.events.append, on_settled=self.settled.put_nowait, on_idle=lambda: None
        )
        self._running = asyncio.create_task(self.loop.run())

    async def converge(self, goal: Goal) -> Settled:
        self.loop.submit(goal)
        return await asyncio.wait_for(self.settled.get(), 20)

    async def begin(self, goal: Goal) -> None:
        """Submit a goal and wait until its first build runs."""
        self.loop.submit(goal)
        assert await asyncio.to_thread(self.engine.begun.wait, 20)

    async def close(self) -> None:
        self.loop.stop()
        await self._running

    def phases(self, verb: str) -> list[str]:
        return [str(one.phase) for one in self.events if one.verb == verb and one.phase != "progress"]


def play(story: Callable[[Scene], Any]) -> Scene:
    async def run() -> Scene:
        scene = Scene()
        try:
            await story(scene)
        finally:
            scene.engine.go_on.set()
            await scene.close()
        return scene

    return asyncio.run(run())


STACK = Stack(
    name="demo",
    services={
        "web": Service(name="web", build=Build(context="."), command=("sleep", "1000")),
        "api": Service(name="api", image="web:1", build=Build(context="."), command=("sleep", "1000")),
    },
)


def up(*services: str, **options: Any) -> Goal:
    return edit_up(STACK, None, UpOptions(services=services, **options), time.time())


def test_what_a_build_tells_comes_through_and_its_options_go_in() -> None:
    async def story(scene: Scene) -> None:
        scene.engine.go_on.set()
        settled = await scene.converge(up("web", build="always", build_options=BuildOptions(args={"A": "1"})))
        assert settled.converged

    scene = play(story)
    told = [one for event in scene.events for one in load_build_events(event.details)]
    assert [one.kind for one in told] == ["started", "log", "done"]
    assert scene.phases("build image") == ["started", "done"]
    assert scene.engine.options == [BuildOptions(args={"A": "1"})]


@pytest.mark.parametrize("how", ["interrupted", "stopped", "left"])
def test_a_build_that_nobody_wants_any_more_is_called_off(how: str) -> None:
    async def story(scene: Scene) -> None:
        goal = up("web")
        await scene.begin(goal)
        if how == "left":
            await scene.close()
            return
        now = time.time()
        if how == "interrupted":
            next_goal = edit_interrupted(goal, scene.engine.observe("demo"), now)
        else:
            next_goal = edit_want(STACK, goal, ("web",), "stopped", now)
        settled = await scene.converge(next_goal)
        assert settled.converged, settled.failures

    scene = play(story)
    assert scene.phases("build image") == ["started", "cancelled"]
    assert not [one for one in scene.events if one.kind == "error"]
    assert all(call[0] != "build" for call in scene.engine.calls)


def test_a_build_that_is_still_wanted_goes_on_when_the_goal_changes() -> None:
    async def story(scene: Scene) -> None:
        await scene.begin(up("web"))
        scene.loop.submit(up("api", pull="never"))
        scene.engine.go_on.set()
        settled = await asyncio.wait_for(scene.settled.get(), 20)
        assert settled.converged

    scene = play(story)
    assert scene.phases("build image").count("cancelled") == 0
    built = [call[1] for call in scene.engine.calls if call[0] == "build"]
    assert sorted(built) == ["demo-web", "web:1"], "nothing was built twice"


def test_an_image_that_no_registry_gives_is_built_and_that_is_said() -> None:
    async def story(scene: Scene) -> None:
        scene.engine.go_on.set()
        settled = await scene.converge(up("api"))
        assert settled.converged

    scene = play(story)
    warnings = [one.message for one in scene.events if one.kind == "warning"]
    assert warnings == ["no image web:1: it is built instead"]
    assert [call[0] for call in scene.engine.calls if call[1] == "web:1"] == ["pull", "build"]


def test_a_failed_build_says_where_and_shows_the_end_of_its_output() -> None:
    class Failed(NotFound):
        exit_code = 2
        output = "\n".join(f"line {number}" for number in range(100))
        excerpt = ("> 3 | RUN make",)

    async def story(scene: Scene) -> None:
        scene.engine.go_on.set()
        error = Failed("RUN make: exit code 2")
        error.diagnostics = (Diagnostic("build-step-failed", "RUN make: exit code 2", Location("Dockerfile", 3, 1)),)
        scene.engine.fail = error
        settled = await scene.converge(up("web"))
        assert not settled.converged
        (failure,) = settled.failures
        assert failure.rendered.startswith("Dockerfile:3:1: error[build-step-failed]: RUN make")
        assert failure.log[-1] == "line 99"
        assert failure.excerpt == ("> 3 | RUN make",)
        assert failure.service == "web"
        assert failure == type(failure).from_json(failure.to_json())

    play(story)


def test_a_chatty_step_is_gathered_and_cut() -> None:
    async def run() -> list[BuildEvent]:
        told: list[BuildEvent] = []
        relay = BuildRelay(lambda _text, details: told.extend(load_build_events(details)))
        relay(BuildEvent(kind="started", vertex=1, time=1.0, name="[1/1] RUN yes"))
        for _ in range(5):
            relay(BuildEvent(kind="log", vertex=1, time=1.0, text="y" * (LOG_LIMIT // 4)))
        relay(BuildEvent(kind="status", vertex=2, time=1.0, text="layer", current=1, total=2))
        relay(BuildEvent(kind="status", vertex=2, time=1.0, text="layer", current=2, total=2))
        relay(BuildEvent(kind="done", vertex=1, time=1.0))
        relay.flush()
        return told

    told = asyncio.run(run())
    assert [one.kind for one in told] == ["started", "log", "status", "done"]
    assert told[1].text.count("y") == LOG_LIMIT
    assert told[1].text.endswith("[the rest of the output is left out]\n")
    assert told[2].current == 2
