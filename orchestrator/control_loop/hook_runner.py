"""Lifecycle hooks at work: run one after another in their container, and what is still due is written down.

What is due of ``post_start`` is noted before the start and after each hook: whoever is killed in between leaves it to
the next plan, which runs what was never run, and what was cut short once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from orchestrator.control_loop.conditions import Board
from orchestrator.engines.base import ExecRequest
from orchestrator.engines.bell import Bell
from orchestrator.errors import EngineError
from orchestrator.events import Event, Sink
from orchestrator.workers import Workers

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine, ExecResult
    from orchestrator.model import Hook
    from orchestrator.plan import RunHooks, RunInit
    from orchestrator.state import Container

HOOK_SECONDS = 7 * 86400.0
"""A hook may take as long as it likes; what waits for it says so. This is only a number that poll() takes."""


OUTPUT_SECONDS = 5.0
"""How long the output of what has ended is waited for: as long as its monitor takes to write it down."""


class HookFailed(EngineError):
    """A lifecycle hook ended with another exit code than 0."""

    code = "hook-failed"


class HookRunner:
    """Runs the hooks of one plan."""

    def __init__(self, engine: Engine, board: Board, workers: Workers, emit: Sink, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._board = board
        self._workers = workers
        self._emit = emit
        self._clock = clock

    async def note_due(self, container: Container, due: int) -> None:
        """Write down how many of a container's ``post_start`` hooks are still to be run, unless that is known."""
        known = self._board.get(container.id) or container
        if known.hooks_due == due:
            return
        await self._workers.run("work", lambda: self._engine.record_hooks(container.id, due))
        now = self._board.get(container.id)
        if now is not None:
            self._board.put(now.replace(hooks_due=due))

    async def run(self, one: RunHooks, container: Container) -> HookFailed | None:
        """Run them; return why the rest was not run. Raises EngineError.

        A container that has ended before, or while, it was asked to do something before its stop has nothing to do.
        """
        for index, hook in enumerate(one.hooks):
            try:
                result = await self._run_hook(container, hook)
            except EngineError:
                if one.when == "pre_stop" and not await self._lives(container):
                    return None
                raise
            self._tell_output(one, container, index, result)
            if result.exit_code != 0:
                if one.when == "pre_stop" and not await self._lives(container):
                    return None
                return HookFailed(
                    f"{one.service} hook exited with status {result.exit_code}",
                    resource=container.name,
                    operation=f"{one.when}[{one.first + index}]",
                    hint=_describe_hook(one, index),
                )
            if one.when == "post_start":
                await self.note_due(container, len(one.hooks) - index - 1)
        return None

    @asynccontextmanager
    async def relay_output(self, container: Container, one: RunInit) -> AsyncIterator[None]:
        """Tell what a ``pre_start`` container writes, until it has ended: nobody can look at it once it is gone."""
        loop, over = asyncio.get_running_loop(), False
        bell = Bell(lambda: over)

        def read() -> None:
            try:
                for line in self._engine.read_logs([container], follow=True, stopped=bell):
                    loop.call_soon_threadsafe(self._tell_line, container, one.index, "pre_start", line.text)
            except (EngineError, RuntimeError):
                # Without its log, or without the loop that tells of it, the container does its work all the same.
                return

        reading = asyncio.ensure_future(self._workers.run("follow", read))
        reading.add_done_callback(lambda _: bell.close())
        try:
            yield
            await asyncio.wait([reading], timeout=OUTPUT_SECONDS)
        finally:
            over = True
            bell.ring()

    async def _lives(self, container: Container) -> bool:
        observed = await self._workers.run("work", lambda: self._engine.observe(container.project))
        return any(one.id == container.id and one.alive for one in observed.containers)

    async def _run_hook(self, container: Container, hook: Hook) -> ExecResult:
        request = ExecRequest(
            command=hook.command,
            user=hook.user,
            working_dir=hook.working_dir,
            environment={name: value for name, value in hook.environment.items() if value is not None},
            privileged=hook.privileged,
        )
        call = lambda: self._engine.exec_captured(container, request, timeout=HOOK_SECONDS)  # noqa: E731
        return await self._workers.run("stop", call)

    def _tell_output(self, one: RunHooks, container: Container, index: int, result: ExecResult) -> None:
        for line in result.output.splitlines():
            self._tell_line(container, one.first + index, one.when, line)

    def _tell_line(self, container: Container, index: int, when: str, line: str) -> None:
        self._emit(
            Event(
                time=self._clock(),
                kind="message",
                subject=container.name,
                action="hook",
                service=container.service,
                message=line,
                details={"when": when, "index": index},
            )
        )


def _describe_hook(one: RunHooks, index: int) -> str:
    hint = f"{one.when}[{one.first + index}] of {one.service}: {' '.join(one.hooks[index].command)}"
    if one.when == "pre_stop" and one.required:
        hint += f"; `stack kill {one.service}` ends its containers without these commands"
    return hint
