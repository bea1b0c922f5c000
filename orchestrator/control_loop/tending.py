"""Ends of containers: which were meant, which were not, and what follows from them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.control_loop.conditions import Board
from orchestrator.control_loop.restarting import Restarter
from orchestrator.errors import EngineError, NotFound
from orchestrator.events import Event, Sink
from orchestrator.plan import (
    CreateContainer,
    KillContainer,
    Plan,
    RemoveContainer,
    RestartContainer,
    StartContainer,
    StopContainer,
)

if TYPE_CHECKING:
    from orchestrator.engines.base import Change
    from orchestrator.state import Container, ObservedState

RETRY_AFTER = 1.0
"""Seconds until the engine is asked again when it could not be observed."""


class Tender:
    """Deals with every end of a container exactly once, with what was observed after it."""

    def __init__(
        self,
        board: Board,
        restarter: Restarter,
        emit: Sink,
        clock: Callable[[], float],
        observe: Callable[[], Awaitable[ObservedState]],
        told: Callable[[list[tuple[str, int]]], None],
        remove: Callable[[str], Awaitable[None]],
    ) -> None:
        self._board = board
        self._restarter = restarter
        self._emit = emit
        self._clock = clock
        self._observe = observe
        self._told = told
        self._remove = remove
        self._heard: dict[str, Change | None] = {}
        self._working = False
        self._removals: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._expected: dict[str, set[str]] = {}
        self._postponed: dict[str, set[str]] = {}
        board.on_released = self._wake.set

    @property
    def busy(self) -> bool:
        """True while an end has been heard of and not been dealt with."""
        return bool(self._heard) or self._working or bool(self._removals)

    def notice(self, change: Change) -> None:
        """Take the news of a container's end."""
        self._heard[change.container_id] = change
        self._wake.set()

    def absorb(self, observed: ObservedState, since: int) -> None:
        """Take an observation over to the board; ends that it brings to light are dealt with like any other."""
        for one in self._board.absorb(observed, since):
            self.notice_gone(one.id)
        for one in observed.containers:
            # Whoever was to remove it has been killed, together with the supervisor that would have.
            if one.auto_remove and one.status == "exited" and one.id not in self._removals:
                self.notice_gone(one.id)

    def adopt(self, observed: ObservedState, since: int, issued_at: float) -> None:
        """Take over containers that ran while nobody supervised them; what ended meanwhile is left to its policy.

        What ended before the goal was issued (epoch seconds) had been seen by the user and stays as it is.
        """
        self._board.absorb(observed, since)
        for one in observed.containers:
            if one.status in ("exited", "dead") and one.finished_at > issued_at and not one.hold:
                self._restarter.handle_exit(one)
            if one.status == "exited" and one.auto_remove:
                self.notice_gone(one.id)

    def notice_gone(self, container_id: str) -> None:
        """Look at a container that has ended, whoever told of it."""
        self._heard.setdefault(container_id, None)
        self._wake.set()

    @contextmanager
    def expecting(self, plan: Plan) -> Iterator[set[str]]:
        """While a plan runs, the ends that it brings about itself concern no restart policy.

        Yields a set for the ids of operations that succeeded: an end is left to the policy after all if the operation
        that would have caused it never came to be.
        """
        done: set[str] = set()
        for one in plan:
            if isinstance(one, StopContainer | RestartContainer | KillContainer | RemoveContainer):
                self._expected.setdefault(one.container_id, set()).add(one.id)
            elif isinstance(one, CreateContainer) and one.replaces:
                self._expected.setdefault(one.replaces, set()).add(one.id)
            elif isinstance(one, StartContainer) and (found := self._board.find(one.container_name)):
                self._restarter.cancel(found.id)
        for container_id in self._expected:
            self._restarter.cancel(container_id)
        try:
            yield done
        finally:
            self._expected.clear()
            for container_id, causes in self._postponed.items():
                if not causes & done:
                    self._heard.setdefault(container_id, None)
                    self._wake.set()
            self._postponed.clear()

    async def run(self) -> None:
        """Deal with ends as they are heard of. Never returns."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._working = True
            exits: list[tuple[str, int]] = []
            heard = {key: change for key, change in self._heard.items() if not self._board.is_held(key)}
            try:
                exits = await self._tend(heard)
            except Exception as error:
                # Nothing of it may be lost: what could not be looked at now is looked at again a little later.
                sys.excepthook(type(error), error, error.__traceback__)
                self._heard = {**heard, **self._heard}
                asyncio.get_running_loop().call_later(RETRY_AFTER, self._wake.set)
            finally:
                self._working = False
            self._told(exits)

    async def _tend(self, heard: dict[str, Change | None]) -> list[tuple[str, int]]:
        if not heard:
            return []
        for key in heard:
            del self._heard[key]
        known = {}
        if any(key not in self._expected or change is None for key, change in heard.items()):
            known = {one.id: one for one in (await self._observe()).containers}
        exits = []
        for key, change in heard.items():
            if self._board.is_held(key):
                self._heard.setdefault(key, change)
                continue
            exit_code = self._tend_one(key, change, known.get(key))
            if exit_code is not None:
                exits.append(exit_code)
            seen = known.get(key)
            if seen is not None and seen.auto_remove and not seen.alive:
                self._remove_later(seen)
        return exits

    def _remove_later(self, one: Container) -> None:
        """Nobody waits for this: the command that the container was made for may take its time."""
        if one.id not in self._removals:
            self._removals[one.id] = asyncio.create_task(self._remove_ended(one))

    async def _remove_ended(self, one: Container) -> None:
        """A container that was to go when it has ended."""
        try:
            with contextlib.suppress(NotFound):
                await self._remove(one.id)
            self._board.drop(one.id)
        except EngineError as error:
            details = {"code": error.code, "hint": error.hint}
            self._emit(
                Event(time=self._clock(), kind="error", subject=one.name, message=error.message, details=details)
            )
        finally:
            self._removals.pop(one.id, None)
            # It may have been the last thing that there was to do.
            self._told([])

    def _tend_one(self, key: str, change: Change | None, seen: Container | None) -> tuple[str, int] | None:
        board = self._board.get(key)
        if key in self._expected:
            self._postponed[key] = self._expected[key]
            if board is not None and board.alive and change is not None:
                self._end(board.replace(exit_code=change.exit_code, finished_at=change.finished_at), expected=True)
            return None
        if seen is None:
            if board is not None:
                self._board.drop(key)
            return None
        if seen.alive or (board is not None and board.status == "restarting"):
            return None
        if board is None or board.alive:
            self._tell(seen, expected=seen.hold)
        self._restarter.handle_exit(seen)
        # A one-off container says nothing of its service.
        return None if seen.hold or seen.oneoff else (seen.service, seen.exit_code or 0)

    def _end(self, container: Container, *, expected: bool) -> None:
        self._board.put(container.replace(status="exited", pid=0))
        self._tell(container, expected=expected)

    def _tell(self, one: Container, *, expected: bool) -> None:
        code = one.exit_code
        self._emit(
            Event(
                time=self._clock(),
                kind="container",
                subject=one.name,
                action="die",
                service=one.service,
                message=f"exited with code {code}" + (", out of memory" if one.oom_killed else ""),
                details={
                    "container_id": one.id,
                    "exit_code": code,
                    "expected": expected,
                    "oom_killed": one.oom_killed,
                    **({"oneoff": True} if one.oneoff else {}),
                },
            )
        )
