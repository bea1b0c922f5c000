"""This process's terminal, and terminals received from a runtime: raw mode, sizes, descriptors over sockets."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
import tty
from types import TracebackType


def read_size(fd: int) -> tuple[int, int] | None:
    """Rows and columns of the terminal `fd`; None when it is none, or does not know."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


def write_size(fd: int, rows: int, columns: int) -> None:
    """Set the size of the terminal `fd`; its processes get SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def make_raw(fd: int) -> None:
    """Put the terminal `fd` into raw mode for good."""
    tty.setraw(fd, termios.TCSANOW)


class RawMode:
    """While entered, the terminal `fd` hands every key on and echoes nothing; what is no terminal is left alone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[object] | None = None

    def __enter__(self) -> RawMode:
        if self._fd >= 0 and os.isatty(self._fd):
            self._before = termios.tcgetattr(self._fd)
            tty.setraw(self._fd, termios.TCSANOW)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            # TCSADRAIN: what is still to be written would come out with the wrong line ends.
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]


def receive_terminal(listener: int) -> int:
    """Accept one connection on the console socket `listener` and take the terminal's master that it sends."""
    import socket

    with socket.socket(fileno=os.dup(listener)) as server:
        connection, _address = server.accept()
    with connection:
        _data, found, _flags, _peer = socket.recv_fds(connection, 4096, 1)
    if not found:
        raise OSError("the runtime sent no terminal")
    os.set_inheritable(found[0], False)
    return found[0]
