"""Fetches in the loop: the ones that nobody wants any more are called off."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from orchestrator.actions.goals import UpOptions, edit_interrupted, edit_up, edit_want
from orchestrator.control_loop.loop import Loop, Settled
from orchestrator.engines.fake import FakeEngine
from orchestrator.errors import EngineError
from orchestrator.events import Event
from orchestrator.goal import Goal
from orchestrator.model import Service, Stack
from orchestrator.state import ImageFacts

STACK = Stack(
    name="demo",
    services={
        "web": Service(name="web", image="one:1", command=("sleep", "1000")),
        "api": Service(name="api", image="one:1", command=("sleep", "1000")),
    },
)


class SlowFetches(FakeEngine):
    """Fetches last until they are called off, or let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def pull_image(self, reference: str, **asked: Any) -> ImageFacts:
        self.begun.set()
        while not self.go_on.wait(0.01):
            if asked["cancel"]():
                raise EngineError("cancelled")
        return super().pull_image(reference, **asked)


class Scene:
    """A loop that has begun to fetch the image of service web."""

    def __init__(self) -> None:
        self.engine = SlowFetches()
        self.engine.publish_image("one:1", local=False)
        self.events: list[Event] = []
        self.settled: asyncio.Queue[Settled] = asyncio.Queue()
        self.loop = Loop(
            self.engine, "demo", self.events.append, on_settled=self.settled.put_nowait, on_idle=lambda: None
        )
        self.goal = up("web")

    async def settle(self, goal: Goal) -> Settled:
        self.loop.submit(goal)
        return await asyncio.wait_for(self.settled.get(), 20)


def up(*services: str) -> Goal:
    return edit_up(STACK, None, UpOptions(services=services), time.time())


def play(story: Callable[[Scene], Awaitable[None]]) -> list[str]:
    """Run a story; returns the phases of the fetch."""

    async def run() -> Scene:
        scene = Scene()
        running = asyncio.create_task(scene.loop.run())
        scene.loop.submit(scene.goal)
        assert await asyncio.to_thread(scene.engine.begun.wait, 20)
        try:
            await story(scene)
        finally:
            scene.loop.stop()
            scene.engine.go_on.set()
            await running
        return scene

    scene = asyncio.run(run())
    assert not [one for one in scene.events if one.kind == "error"]
    return [str(one.phase) for one in scene.events if one.verb == "pull image" and one.phase != "progress"]


@pytest.mark.parametrize("how", ["interrupted", "stopped", "left"])
def test_a_fetch_that_nobody_wants_any_more_is_called_off(how: str) -> None:
    async def story(scene: Scene) -> None:
        now = time.time()
        if how == "interrupted":
            assert (await scene.settle(edit_interrupted(scene.goal, scene.engine.observe("demo"), now))).converged
        elif how == "stopped":
            assert (await scene.settle(edit_want(STACK, scene.goal, ("web",), "stopped", now))).converged
        else:
            scene.loop.stop()

    assert play(story) == ["started", "cancelled"]


def test_a_fetch_that_is_still_wanted_goes_on() -> None:
    async def story(scene: Scene) -> None:
        scene.loop.submit(up("api"))
        scene.engine.go_on.set()
        assert (await asyncio.wait_for(scene.settled.get(), 20)).converged

    assert "cancelled" not in play(story)
