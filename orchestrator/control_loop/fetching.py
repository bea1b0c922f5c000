"""Images that a plan fetches: each fetch can be called off while it runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.errors import StackError
from orchestrator.reconcile.images import list_service_references

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine, ImageProgress
    from orchestrator.goal import Goal
    from orchestrator.state import ImageFacts
    from orchestrator.workers import Workers


class Fetchers:
    """The fetches of one plan."""

    def __init__(self, engine: Engine, workers: Workers) -> None:
        self._engine = engine
        self._workers = workers
        self._running: set[tuple[str, threading.Event]] = set()

    async def perform(
        self, reference: str, platform: str | None, progress: Callable[[ImageProgress], None] | None = None
    ) -> ImageFacts:
        """Fetch an image. StackError; CancelledError when it was called off."""
        stopped = threading.Event()
        self._running.add(mark := (reference, stopped))
        try:
            return await self._workers.run(
                "load",
                lambda: self._engine.pull_image(reference, platform=platform, progress=progress, cancel=stopped.is_set),
            )
        except StackError:
            if stopped.is_set():
                raise asyncio.CancelledError from None
            raise
        finally:
            self._running.discard(mark)

    def call_off(self, goal: Goal | None) -> None:
        """End the fetches that `goal` does not ask for any more; all of them without a goal."""
        wanted = set()
        if goal is not None and not goal.down:
            names = {name for name, want in goal.wants.items() if want in ("running", "created")} | set(goal.prepare)
            services = (goal.stack.services.get(name) for name in sorted(names))
            wanted = {image for one in services if one for image in list_service_references(goal.stack, one)}
        for reference, stopped in self._running:
            if reference not in wanted:
                stopped.set()
