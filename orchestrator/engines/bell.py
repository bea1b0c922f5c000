"""Tells a reader that waits for something else that it is to look whether it shall stop."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable


class Bell:
    """What an engine's readers take as `stopped`; since it can be waited for, they need not ask once a second.

    `over` says whether to stop, and is asked after each :meth:`ring`. Several readers may share a bell: once `over` was
    true it goes on ringing, so that all of them hear it.
    """

    def __init__(self, over: Callable[[], bool]) -> None:
        self._over = over
        self._file = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __call__(self) -> bool:
        """Ask."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.eventfd_read(self._file)
        over = self._over()
        if over:
            self.ring()
        return over

    def ring(self) -> None:
        """Have every reader ask. Does nothing once the bell is closed."""
        with contextlib.suppress(OSError, ValueError):
            os.eventfd_write(self._file, 1)

    def fileno(self) -> int:
        """What becomes readable when it rings."""
        return self._file

    def close(self) -> None:
        """Give the descriptor back; nobody may wait for it any more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def find_bell(stopped: Callable[[], bool] | None) -> int | None:
    """The descriptor to wait for besides, where `stopped` is a bell; None where it has to be asked now and then."""
    return stopped.fileno() if isinstance(stopped, Bell) else None
