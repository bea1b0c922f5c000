"""A supervisor's own care for its keeper: one that was killed is replaced at once.

The new keeper is a fresh interpreter rather than a fork: this process has threads, and may hold a lock that nobody
would ever release in a copy of it. It is a child of the supervisor that it keeps, and the parent of every later one.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from orchestrator.supervision.keeper import LONGEST_PAUSE, STEADY_AFTER

if TYPE_CHECKING:
    import asyncio

TRIES = 6
"""How many keepers in a row may end as soon as they were started, before the supervisor goes on without one."""

_CODE = (
    "import sys; sys.path[:] = {path}\n"
    "from orchestrator.supervision.keeper import keep_parent\n"
    "keep_parent({supervisor}, 0, {record})"
)


class Keeping:
    """Watches the process `keeper`. `record` is what a successor takes over; `replaced` is told of a new keeper.

    All but :meth:`say_farewell` is for the event loop's own thread.
    """

    def __init__(self, record: Mapping[str, str], keeper: int, replaced: Callable[[], None]) -> None:
        self._record = json.dumps(dict(record)).encode()
        self._replaced = replaced
        self._loop: asyncio.AbstractEventLoop | None = None
        self._farewell = -1
        self._born = time.monotonic()
        self._quick = 0
        self.pid = keeper
        """The keeper's process id; 0 while there is none."""

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch from now on. A parent that is another one by now means that the keeper has been killed already."""
        self._loop = loop
        if os.getppid() != self.pid or not self._watch():
            self._lose()

    def say_farewell(self) -> None:
        """Tell a keeper that is not this process's parent that nothing is to be started again."""
        if self._farewell >= 0:
            # One that was killed this very moment has nothing to start again.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._farewell, b"left\n")

    def _watch(self) -> bool:
        assert self._loop is not None
        try:
            process = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        self._loop.add_reader(process, self._end, process)
        return True

    def _end(self, process: int) -> None:
        assert self._loop is not None
        self._loop.remove_reader(process)
        os.close(process)
        self._lose()

    def _lose(self) -> None:
        assert self._loop is not None
        if self._farewell >= 0:
            # It was a child of ours.
            os.waitpid(self.pid, 0)
        self._quick = self._quick + 1 if time.monotonic() - self._born < STEADY_AFTER else 0
        self.pid = 0
        if self._quick < TRIES:
            # What a user kills once is there again at once; what dies by itself is not tried again and again.
            pause = 0.1 * 2 ** (self._quick - 1) if self._quick > 1 else 0.0
            self._loop.call_later(min(pause, LONGEST_PAUSE), self._spawn)
        else:
            print(f"{TRIES} keepers in a row have ended at once; nobody starts this supervisor again", file=sys.stderr)

    def _spawn(self) -> None:
        mine, theirs = self._open_farewell()
        code = _CODE.format(
            path=json.dumps([os.path.abspath(one) for one in sys.path]), supervisor=os.getpid(), record=self._record
        )
        command = [sys.executable, "-I", "-c", code]
        self._born = time.monotonic()
        try:
            self.pid = os.posix_spawn(
                sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 0)]
            )
        except OSError as error:
            print(f"no keeper could be started: {error}", file=sys.stderr)
            os.close(mine)
            self._farewell = -1
            return
        finally:
            os.close(theirs)
        self._farewell = mine
        self._watch()
        self._replaced()

    def _open_farewell(self) -> tuple[int, int]:
        if self._farewell >= 0:
            os.close(self._farewell)
            # The number may soon be that of another file, if no pipe can be had now.
            self._farewell = -1
        theirs, mine = os.pipe()
        return mine, theirs
