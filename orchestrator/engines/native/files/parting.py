"""Letting go of root file systems later: the kernel writes the whole disk back when the last hold on one is gone.

An overlay that goes syncs the file system of its writable layer. Among stops and removals that is the longest wait, and
what is deleted after it has to be freed on the disk, too. So the mount leaves the tree at once, and its last hold is
closed when things have calmed down.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Final

from orchestrator.engines.native import host

_CALM: Final = 1.0
"""Seconds without another unmount after which the holds are closed."""

_TOGETHER: Final = 32
"""How many are closed at a time in the end."""


class Parting:
    """Detached mounts whose last hold is still to be closed. Thread-safe. What a process that ends holds, goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closing = threading.Lock()
        self._held: dict[str, list[int]] = {}
        self._handed = 0
        self._working = False

    def unmount(self, target: str) -> None:
        """Take what is mounted at `target` out of the tree; nothing mounted there is fine."""
        fd = host.detach(target)
        if fd is None:
            return
        with self._lock:
            self._held.setdefault(target, []).append(fd)
            self._handed += 1
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, name="parting", daemon=True).start()

    def finish(self, target: str) -> None:
        """Leave nothing of what was mounted at `target`: two overlays must not share a writable layer."""
        with self._lock:
            held = self._held.pop(target, [])
        with self._closing:  # it may be the one that is being closed
            _close(held)

    def hasten(self) -> None:
        """Close now, in the background, what is held: whoever is about to call :meth:`finish_all` waits less."""
        with self._lock:
            if not self._held:
                return
        threading.Thread(target=self.finish_all, name="parting", daemon=True).start()

    def finish_all(self) -> None:
        """Leave nothing of anything: many at a time, since the kernel then syncs the disk for all of them together.

        Left to the end of the process, they would be synced one after the other, and whoever waits for it with them.
        """
        with self._closing:
            with self._lock:
                held = [fd for one in self._held.values() for fd in one]
                self._held.clear()
            threads = [threading.Thread(target=_close, args=(held[at::_TOGETHER],)) for at in range(_TOGETHER)]
            for thread in threads[: len(held)]:
                thread.start()
            for thread in threads[: len(held)]:
                thread.join()

    def _work(self) -> None:
        handed = 0
        while True:
            while handed != self._handed:
                handed = self._handed
                time.sleep(_CALM)
            with self._closing:
                with self._lock:
                    if not self._held:
                        self._working = False
                        return
                    held = self._held.pop(next(iter(self._held)))
                _close(held)


def _close(held: Sequence[int]) -> None:
    for fd in held:
        os.close(fd)
