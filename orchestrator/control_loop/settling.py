"""Whether containers that replaced others do well: the judgement behind a rolling update's next group."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from orchestrator.control_loop.conditions import Board, ConditionFailed

if TYPE_CHECKING:
    from orchestrator.plan import Settle
    from orchestrator.state import Container


class Settling:
    """Counts the failures of each service's update; one per plan."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._failed: dict[str, set[str]] = {}

    async def wait(self, one: Settle) -> None:
        """Return when the containers run (are healthy), have gone on for the monitor's time, and the delay has passed.

        Raises ConditionFailed when more of the service's containers failed than are tolerated.
        """
        await self._board.wait_until([one.service], lambda: self._judge(one, begun=False))
        if one.monitor:
            try:
                async with asyncio.timeout(one.monitor):
                    await self._board.wait_until([one.service], lambda: self._judge(one, begun=True))
            except TimeoutError:
                pass
        if one.delay:
            await asyncio.sleep(one.delay)

    def _judge(self, one: Settle, *, begun: bool) -> bool:
        """True when there is nothing left to wait for: all run, or (once begun) none runs any more."""
        failed = self._failed.setdefault(one.service, set())
        verdicts = [self._judge_container(one, name, failed) for name in one.containers]
        if len(failed) > one.tolerated:
            name, words = sorted(failed)[0], self._describe(sorted(failed)[0])
            raise ConditionFailed(f"the update of {one.service} failed: {name} {words}", service=one.service)
        return all(word in ("failed", "done") for word in verdicts) if begun else "waits" not in verdicts

    def _judge_container(self, one: Settle, name: str, failed: set[str]) -> str:
        found = self._board.find(name)
        if name in failed or found is None:
            return "failed"
        if found.status in ("exited", "dead", "restarting") and found.exit_code == 0:
            return "done"
        if found.status in ("exited", "dead", "restarting") or found.health == "unhealthy":
            failed.add(name)
            return "failed"
        ready = found.status == "running" and (not self._board.probed(one.service) or found.health == "healthy")
        return "well" if ready else "waits"

    def _describe(self, name: str) -> str:
        found: Container | None = self._board.find(name)
        if found is None:
            return "is gone"
        if found.health == "unhealthy" and found.alive:
            return "is unhealthy"
        return f"exited with code {found.exit_code}"
