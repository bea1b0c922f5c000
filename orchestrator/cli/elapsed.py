"""How long something took, from times that others wrote down, although the clock may be set meanwhile."""

from __future__ import annotations

import time

_SET = 1.0
"""Seconds by which the clock must be off before somebody has set it: it is also made to run faster or slower."""


class SteadyClock:
    """Seconds since the epoch as they would be had nobody set the clock since this was made."""

    __slots__ = ("_ahead", "_last")

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()
        self._last = 0.0

    def now(self) -> float:
        """The present; never less than it was."""
        return time.monotonic() + self._ahead

    def place(self, moment: float) -> float:
        """When that was that another process of this machine has just told as `moment` (seconds since the epoch).

        Never later than now. Once the clock has been set, never earlier than what was placed before: whether the
        moment was written down before or after that, nobody knows.
        """
        now = self.now()
        jump = time.time() - now
        if abs(jump) >= _SET:
            moment = max(moment - jump, self._last)
        self._last = max(self._last, min(moment, now))
        return min(moment, now)
