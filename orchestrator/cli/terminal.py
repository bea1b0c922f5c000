"""The terminal while something is redrawn in place: what is typed is not shown, and whatever ends us gives it back.

Enter would move what is redrawn by a line, and ``^C`` would stand in it. What is typed is kept for whoever reads next.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes enumerations of it all, which takes time
import os
import sys
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SHOW = b"\x1b[?25h"
_ENDING = (_signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT)
"""What ends a command that has no handler of its own for it."""


class HeldTerminal:
    """The terminal behind a descriptor, when it is the one that we were started on; otherwise nothing is done to it.

    :meth:`guard` is called in the main thread, :meth:`hold` and :meth:`release` in any. `moved` is true once something
    else has been written below the display: a shell, while we were stopped.
    """

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._held = False
        self._stopped = False
        self._before: dict[int, Any] = {}
        self.moved = False

    def is_ours(self) -> bool:
        """Whether we may change its ways and draw: not in the background, where the shell has it."""
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            # No terminal, or not the one that jobs are controlled by: nobody else is there.
            return True

    def hold(self) -> None:
        """Have nothing shown of what is typed; as often as wanted."""
        if not self._stopped:
            self._held = self._set_echo(False) or self._held

    def release(self) -> None:
        """Have it shown again, if that was changed here."""
        if self._held:
            self._held = False
            self._set_echo(True)

    def guard(self) -> None:
        """From now on, let no signal end or stop us before the terminal is given back."""
        for number, handler in (*((one, self._end) for one in _ENDING), (_signal.SIGTSTP, self._stop)):
            try:
                if _signal.getsignal(number) == _signal.SIG_DFL:
                    self._before[number] = _signal.signal(number, handler)
            except ValueError:
                # Not the main thread: somebody else's process, and their signals.
                return

    def unguard(self) -> None:
        """Let signals do what they did; handlers that others have set meanwhile stay."""
        for number, before in self._before.items():
            try:
                if _signal.getsignal(number) in (self._end, self._stop):
                    _signal.signal(number, before)
            except ValueError:
                return
        self._before.clear()

    def _set_echo(self, on: bool) -> bool:
        """Whether there was something to change."""
        try:
            if os.tcgetpgrp(self._fd) != os.getpgrp():
                return False
            modes = termios.tcgetattr(self._fd)
            if bool(modes[3] & termios.ECHO) == on:
                return False
            modes[3] ^= termios.ECHO
            termios.tcsetattr(self._fd, termios.TCSANOW, modes)
        except (OSError, termios.error):
            return False
        return True

    def _give_back(self) -> None:
        # No lock and no buffer, which the code that was interrupted may be using.
        self.release()
        try:
            os.write(self._fd, _SHOW)
        except OSError:
            return

    def _end(self, number: int, _frame: object) -> None:
        self._stopped = True
        self._give_back()
        _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _stop(self, number: int, _frame: object) -> None:
        self._stopped = True
        self._give_back()
        _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Here we are continued.
        _signal.signal(number, self._stop)
        self.moved = True
        self._stopped = False


def hold_terminal() -> HeldTerminal:
    """The terminal that progress is shown on, guarded; for the main thread. Where there is none, nothing is changed."""
    try:
        fd = sys.stderr.fileno()
    except (OSError, ValueError):
        fd = -1
    held = HeldTerminal(fd)
    if fd >= 0 and os.isatty(fd):
        held.guard()
    return held
