"""Forking the future supervisor first of all: it imports on one core while the command parses on another.

Imports next to nothing itself: it is the first thing that a command does.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.supervision.control import Place


class Prepared:
    """A supervisor without a project, and its keeper. Both exit when this end is closed, or its process dies."""

    def __init__(self, connection: socket.socket, keeper: int, engine: str) -> None:
        self.socket = connection
        self.keeper = keeper
        self.engine = engine
        self.hosting = ""
        """The project that it was given; empty while it waits."""
        self._closed = False

    def host(self, place: Place, engine: str) -> None:
        """Give it a project. It answers hello, busy (another supervisor has the lock), or refused."""
        from orchestrator.supervision.control import encode

        self.hosting = place.project
        message = {"do": "host", "project": place.project, "run": place.run, "state": place.state, "engine": engine}
        self.socket.sendall(encode(message))

    @property
    def usable(self) -> bool:
        """True while it waits for a project."""
        return not (self._closed or self.hosting)

    def close(self) -> None:
        """Let go of it: without a project it ends now, with one it goes on alone."""
        if self.usable:
            # It would end by itself, but only once it has imported everything.
            self.discard()
        elif not self._closed:
            self._closed = True
            self.socket.close()
        self.reap()

    def discard(self) -> None:
        """End it now, whatever it does: what it may have begun is found by the next observation."""
        self._closed = True
        self.socket.close()
        # It is our child: its number cannot have gone to another process. Before it leads a group it has no child.
        for kill in (os.killpg, os.kill):
            try:
                kill(self.keeper, 9)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(self.keeper, 0)
        except ChildProcessError:
            return

    def reap(self) -> bool:
        """Collect the keeper if it has ended; True if it is gone."""
        try:
            return os.waitpid(self.keeper, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True


def prepare(engine: str | None = None) -> Prepared:
    """Fork a keeper, which forks a future supervisor that loads `engine` (a registry name, or STACK_ENGINE) at once."""
    engine = engine or os.environ.get("STACK_ENGINE") or "native"
    # Most commands have none open yet; one that has waited in vain for the supervisor there was may have.
    store = sys.modules.get("orchestrator.engines.native.store")
    ours, theirs = socket.socketpair()
    if store is None:
        child = os.fork()
    else:
        with store.closed_stores():
            child = os.fork()
    if child == 0:
        try:
            ours.close()
            from orchestrator.supervision.keeper import become_keeper

            become_keeper(theirs.detach(), engine)
        finally:
            os._exit(1)
    theirs.close()
    return Prepared(ours, child, engine)
