"""A supervisor started by a long-lived process with threads: a fresh interpreter, not a fork of this one.

A fork would carry this process's memory through the supervisor's whole life, and might find a lock taken by a thread
that is not there any more.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import TYPE_CHECKING

from orchestrator.supervision.launch import Prepared

if TYPE_CHECKING:
    from orchestrator.supervision.control import Place

_CHANNEL = 3
"""The descriptor that the new interpreter finds its end of the conversation at."""

_CODE = (
    "import sys; sys.path[:] = {path}\n"
    "from orchestrator.supervision.keeper import become_keeper\n"
    "become_keeper({channel}, {engine})"
)


class Spawned(Prepared):
    """Like what ``launch.prepare`` returns, but no process before it is given a project."""

    def __init__(self, engine: str | None = None) -> None:
        ours, self._theirs = socket.socketpair()
        super().__init__(ours, 0, engine or os.environ.get("STACK_ENGINE") or "native")

    def host(self, place: Place, engine: str) -> None:
        """Start it and give it a project. Raises OSError."""
        path = [os.path.abspath(one) for one in sys.path]
        code = _CODE.format(path=json.dumps(path), channel=_CHANNEL, engine=json.dumps(self.engine))
        actions = [(os.POSIX_SPAWN_DUP2, self._theirs.fileno(), _CHANNEL)]
        command = [sys.executable, "-I", "-c", code]
        self.keeper = os.posix_spawn(sys.executable, command, os.environ, file_actions=actions)
        self._theirs.close()
        super().host(place, engine)

    def discard(self) -> None:
        """End it now; without a process there is only the conversation to close."""
        if self.keeper:
            super().discard()
            return
        self._closed = True
        self.socket.close()
        self._theirs.close()

    def reap(self) -> bool:
        """Collect the keeper if it has ended; True if it is gone, or was never there."""
        return not self.keeper or super().reap()
