"""Performing a build: what it tells on its way to whoever listens, and how it is called off."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from orchestrator.engines.base import BuildEvent, dump_build_event
from orchestrator.errors import EngineError, StackError
from orchestrator.model import list_buildable
from orchestrator.reconcile.images import build_contexts, list_builders, list_service_references

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.control_loop.executor import Progress
    from orchestrator.engines.base import Engine, ImageProgress
    from orchestrator.goal import BuildOptions, Goal
    from orchestrator.model import Stack
    from orchestrator.plan import BuildImage
    from orchestrator.state import ImageFacts
    from orchestrator.workers import Workers

TELL_EVERY = 0.05
"""Seconds for which the events of a build are collected, so that a chatty command costs few messages."""

LOG_LIMIT = 2 << 20
"""Characters of one step's output that are passed on. What comes after is dropped, and that is said once."""


class BuildRelay:
    """Takes a build's events in the engine's threads and hands them to `progress` on the event loop, some at a time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._pending: list[BuildEvent] = []
        self._scheduled = False
        self._written: dict[int, int] = {}

    def __call__(self, event: BuildEvent, /) -> None:
        """Take one event. From any thread."""
        with self._lock:
            self._collect(event)
            if self._scheduled:
                return
            self._scheduled = True
        self._loop.call_soon_threadsafe(self._loop.call_later, TELL_EVERY, self.flush)

    def _collect(self, event: BuildEvent) -> None:
        if event.kind == "log":
            written = self._written.get(event.vertex, 0)
            if written > LOG_LIMIT:
                return
            self._written[event.vertex] = written + len(event.text)
            if self._written[event.vertex] > LOG_LIMIT:
                event = event.replace(
                    text=f"{event.text[: LOG_LIMIT - written]}\n[the rest of the output is left out]\n"
                )
            last = self._pending[-1] if self._pending else None
            if last and last.kind == "log" and (last.vertex, last.stream) == (event.vertex, event.stream):
                self._pending[-1] = last.replace(text=last.text + event.text)
                return
        elif event.kind == "status" and self._pending:
            last = self._pending[-1]
            if (last.kind, last.vertex, last.text) == ("status", event.vertex, event.text):
                self._pending[-1] = event
                return
        self._pending.append(event)

    def flush(self) -> None:
        """Hand on what has been collected. On the event loop."""
        with self._lock:
            events, self._pending, self._scheduled = self._pending, [], False
        if events:
            name = next((one.name for one in reversed(events) if one.kind == "started"), "")
            self._progress(name, {"build": [dump_build_event(one) for one in events]})


class Builders:
    """The builds of one plan: each can be called off while it runs."""

    def __init__(self, engine: Engine, stack: Stack, options: BuildOptions, workers: Workers) -> None:
        self._engine = engine
        self._stack = stack
        self._options = options
        self._workers = workers
        self._running: dict[str, threading.Event] = {}

    async def perform(
        self,
        one: BuildImage,
        progress: Progress,
        *,
        show_layer: Callable[[ImageProgress], None],
        warn: Callable[[str], None],
    ) -> ImageFacts:
        """Build (or, where the operation says so, fetch) the image. CancelledError when it was called off."""
        stopped = self._running[one.service.name] = threading.Event()
        relay = BuildRelay(progress)
        try:
            if one.pull_first and (found := await self._fetch(one, stopped, show_layer, warn)) is not None:
                return found
            return await self._workers.run(
                "load",
                lambda: self._engine.build_image(
                    self._stack, one.service, options=self._options, progress=relay, cancel=stopped.is_set
                ),
            )
        except StackError:
            if stopped.is_set():
                raise asyncio.CancelledError from None
            raise
        finally:
            del self._running[one.service.name]
            relay.flush()

    async def _fetch(
        self,
        one: BuildImage,
        stopped: threading.Event,
        show_layer: Callable[[ImageProgress], None],
        warn: Callable[[str], None],
    ) -> ImageFacts | None:
        """Fetch what could be built; None, with a word about it, where that fails."""
        try:
            return await self._workers.run(
                "load",
                lambda: self._engine.pull_image(
                    one.subject, platform=one.service.platform, progress=show_layer, cancel=stopped.is_set
                ),
            )
        except EngineError as error:
            if stopped.is_set():
                raise
            warn(f"{error.message}: it is built instead")
            return None

    def call_off(self, goal: Goal | None) -> None:
        """End the builds that `goal` does not ask for any more; all of them without a goal."""
        for name, stopped in self._running.items():
            if goal is None or not _is_wanted(goal, name):
                stopped.set()


def _is_wanted(goal: Goal, builder: str) -> bool:
    """Whether a goal has a use for the build of a service under way: for itself, or for what is made from it."""
    if goal.down or goal.build == "never" or builder not in list_buildable(goal.stack):
        return False
    made = list_builders(goal.stack)
    wanted = {name for name, want in goal.wants.items() if want in ("running", "created")} | set(goal.prepare)
    for name in wanted & goal.stack.services.keys():
        for reference in list_service_references(goal.stack, goal.stack.services[name]):
            maker = made.get(reference)
            if maker is not None and builder in {maker.name, *_reach(goal.stack, maker.name)}:
                return True
    return False


def _reach(stack: Stack, name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        service = list_buildable(stack).get(waiting.pop())
        fresh = set(build_contexts(service).values()) - found if service is not None else set()
        found |= fresh
        waiting.extend(fresh)
    return found
