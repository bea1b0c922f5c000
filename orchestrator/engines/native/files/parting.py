"""Letting go of root file systems in the background: the kernel writes the whole disk back when the last one is gone.

An overlay that is unmounted syncs the file system of its writable layer. The mount leaves the tree at once, so that
everything after it can go on; a thread waits for the rest.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from orchestrator.engines.native import host


class Parting:
    """Detached mounts whose last hold is being closed. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, int]] = deque()
        self._held: set[str] = set()
        self._working = False

    def unmount(self, target: str) -> None:
        """Take what is mounted at `target` out of the tree; nothing mounted there is fine."""
        fd = host.detach(target)
        if fd is None:
            return
        with self._changed:
            self._held.add(target)
            self._waiting.append((target, fd))
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="parting", daemon=True).start()

    def wait(self, target: str) -> None:
        """Return when nothing is left of what was mounted at `target`: two overlays must not share a layer."""
        with self._changed:
            self._changed.wait_for(lambda: target not in self._held)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._working = False
                    return
                target, fd = self._waiting.popleft()
            os.close(fd)
            with self._changed:
                if all(other != target for other, _fd in self._waiting):
                    self._held.discard(target)
                self._changed.notify_all()
