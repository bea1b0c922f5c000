"""A goal that is edited at an awkward moment."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from disk_engine import DiskEngine
from test_loop import Scene, play, running, service, stack_of

from orchestrator.engines.base import ExecResult
from orchestrator.model import Probe


def test_a_goal_given_while_the_old_one_is_being_planned_is_the_one_that_counts(disk: DiskEngine) -> None:
    looking, go_on = threading.Event(), threading.Event()
    observe = disk.observe

    def look(*arguments: Any) -> Any:
        found = observe(*arguments)
        looking.set()
        assert go_on.wait(10)
        return found

    async def scenario(scene: Scene) -> None:
        disk.observe = look  # type: ignore[method-assign]
        scene.loop.submit(running(stack_of(service("old"))))
        await asyncio.to_thread(looking.wait, 10)
        stack = stack_of(service("new"))
        scene.loop.submit(running(stack))
        go_on.set()
        await scene.until(lambda: scene.settled)
        assert disk.calls(prefix="create") == ["create demo-new-1"]

    try:
        play(disk, scenario)
    finally:
        go_on.set()


def test_a_check_that_the_file_no_longer_has_is_not_made_any_more(disk: DiskEngine) -> None:
    disk.healthy = lambda _one: ExecResult(exit_code=0, output="fine")

    async def scenario(scene: Scene) -> None:
        probed = service("app", healthcheck=Probe(test=("CMD", "true"), interval=0.01))
        await scene.converge(running(stack_of(probed)))
        await scene.until(lambda: scene.loop.status()["health"])
        await scene.converge(running(stack_of(service("app")), recreate="never"))
        assert scene.loop.status()["health"] == {}
        await scene.until(lambda: disk.find("demo-app-1").health is None)
        slower = service("app", healthcheck=Probe(test=("CMD", "true"), interval=3600.0))
        await scene.converge(running(stack_of(slower), recreate="never"))
        later = scene.loop.goal.issued_at + 3000  # type: ignore[union-attr]
        await scene.until(lambda: scene.loop.status()["health"]["demo-app-1"]["next_at"] > later)

    play(disk, scenario)
