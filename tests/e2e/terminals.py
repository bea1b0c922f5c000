"""A command on a terminal of its own: what it shows, what is typed, its size."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from types import TracebackType

from .conftest import Project


class Typist:
    """Runs a command of a project on a new terminal."""

    def __init__(self, project: Project, *words: str, rows: int = 33, columns: int = 77) -> None:
        self._master, slave = os.openpty()
        self.resize(rows, columns)
        self.process: subprocess.Popen[str] = project.popen(*words, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.shown = b""

    def __enter__(self) -> Typist:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def resize(self, rows: int, columns: int) -> None:
        """Change the terminal's size; who tells the command is the caller's business."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        """Type."""
        os.write(self._master, keys)

    def read_until(self, *words: bytes, seconds: float = 60) -> None:
        """Read until all of `words` have been shown, in whatever order."""
        end = time.monotonic() + seconds
        while missing := [word for word in words if word not in self.shown]:
            left = end - time.monotonic()
            assert left > 0, f"no {missing} in {self.shown!r}"
            if select.select([self._master], [], [], left)[0]:
                self.shown += os.read(self._master, 4096)
        self.shown = self.shown[max(self.shown.index(word) + len(word) for word in words) :]

    def wait(self, seconds: float = 60) -> int:
        """The exit code. What is still being shown is read, so that the command never waits for a reader."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            if select.select([self._master], [], [], 0.05)[0]:
                try:
                    self.shown += os.read(self._master, 4096)
                except OSError:  # EIO: nobody has the other side open
                    break
        return self.process.wait(timeout=max(0.1, end - time.monotonic()))
