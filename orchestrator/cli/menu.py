"""The keys of an attached ``up``: one line says which there are, a thread reads them."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any


class LeftRunning(BaseException):
    """The user pressed the key that ends the command and leaves the services running."""


def wants_menu(asked: bool | None) -> bool:
    """Whether keys are to be read: on a terminal whose keys are ours, if ``--menu`` or else COMPOSE_MENU says so."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or not _has_keyboard():
        return False
    if asked is not None:
        return asked
    return os.environ.get("COMPOSE_MENU", "").lower() in ("1", "true")


def _has_keyboard() -> bool:
    """False in the background: whoever reads keys there is stopped."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        # Somebody else's terminal, which stops nobody.
        return True


class Menu:
    """From :meth:`begin` on, while entered, keys are read from standard input and not echoed; each calls its function
    in a thread.

    `keys` maps a letter to its name on the screen and what it does. Enter leaves a line free, as it does without a
    menu; any other key tells again which keys there are. Ctrl-C stays what it is.
    """

    def __init__(self, keys: Mapping[str, tuple[str, Callable[[], None]]]) -> None:
        self._keys = keys
        self._before: list[Any] | None = None
        self._wake = -1
        self._thread: threading.Thread | None = None
        self._say: Callable[[str], None] = lambda _text: None

    @property
    def line(self) -> str:
        """``d Detach``."""
        return "   ".join(f"{key} {name}" for key, (name, _call) in self._keys.items())

    def __enter__(self) -> Menu:
        return self

    def begin(self, say: Callable[[str], None]) -> None:
        """Tell by `say` which keys there are and read them from now on, unless that is done already."""
        import termios
        import tty

        if self._thread is not None:
            return
        self._say = say
        self._before = termios.tcgetattr(0)
        # Single keys, no echo; signals and the line ends of the output stay.
        tty.setcbreak(0, termios.TCSANOW)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._read, name="menu", daemon=True)
        self._thread.start()
        say(self.line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import termios

        if self._thread is None:
            return
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)
        if self._before is not None:
            termios.tcsetattr(0, termios.TCSANOW, self._before)

    def _read(self) -> None:
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._wake in ready:
                return
            data = os.read(0, 64)
            if not data:
                return
            self._obey(data)

    def _obey(self, data: bytes) -> None:
        if data.startswith(b"\x1b"):
            # An arrow or a function key, whose letters are no keys; or Escape.
            self._say(self.line)
            return
        for letter in data.decode("utf-8", "replace").lower():
            if letter in self._keys:
                self._keys[letter][1]()
            else:
                self._say("" if letter == "\n" else self.line)


def leave_running() -> None:
    """Raise LeftRunning in the main thread, wherever it waits."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def raise_left_running(_number: int, _frame: object) -> None:
    """The handler of the signal that :func:`leave_running` sends."""
    raise LeftRunning
