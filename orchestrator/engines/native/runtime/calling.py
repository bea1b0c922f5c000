"""A container that waits for its caller: whoever is to be attached is there before its first instruction runs.

The caller listens on a socket of its own below the run directory. Whoever starts the container holds it back until the
caller has been told and has answered; a caller that is gone makes the start fail.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING, Final

from orchestrator.errors import Conflict

if TYPE_CHECKING:
    from types import TracebackType

    from orchestrator.engines.native.layout import Layout

_PATIENCE: Final = 60.0
"""Seconds that a caller which is alive gets to answer; it has nothing else to do."""

_READY: Final = b"r"
_GO: Final = b"g"


class CallerGone(Conflict):
    """The command that the container was made for has ended before the container could start."""

    code = "caller-gone"


class Caller:
    """The caller's end: made before the start is asked for."""

    def __init__(self, layout: Layout, container_id: str) -> None:
        self._folder = f"{layout.run}/callers"
        self._name = container_id[:24]
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._connection: socket.socket | None = None

    def __enter__(self) -> Caller:
        while True:
            # Not exist_ok, which looks for the folder once more after mkdir has found it there.
            with contextlib.suppress(FileExistsError):
                os.makedirs(self._folder, mode=0o700)
            # Another caller, the last one there, may take the folder away before this one is in it.
            with contextlib.suppress(FileNotFoundError), _reach(self._folder) as way:
                self._listener.bind(f"{way}/{self._name}")
                break
        self._listener.listen(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        if self._connection is not None:
            self._connection.close()
        _remove_socket(self._folder, self._name)

    def fileno(self) -> int:
        """Readable once the container is held back and can be attached to."""
        return self._listener.fileno()

    def accept(self) -> None:
        """Take the news that the container is ready."""
        self._connection, _address = self._listener.accept()
        self._connection.recv(1)

    def go(self) -> None:
        """Let the container begin."""
        if self._connection is not None:
            # Whoever started it may be gone; then the start begins anew, or fails, and is told elsewhere.
            with contextlib.suppress(OSError):
                self._connection.sendall(_GO)


def forget_caller(layout: Layout, container_id: str) -> None:
    """Remove what a caller that was killed has left."""
    _remove_socket(f"{layout.run}/callers", container_id[:24])


def _remove_socket(folder: str, name: str) -> None:
    for remove, path in ((os.unlink, f"{folder}/{name}"), (os.rmdir, folder)):
        with contextlib.suppress(OSError):
            remove(path)


def await_caller(layout: Layout, container_id: str, name: str) -> None:
    """Tell the caller that its container is ready and wait for its answer. CallerGone when there is none."""
    gone = CallerGone(f"the command that {name} was made for has ended", resource=name, operation="start container")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        try:
            with _reach(f"{layout.run}/callers") as way:
                connection.connect(f"{way}/{container_id[:24]}")
            connection.sendall(_READY)
            waiter = select.poll()
            waiter.register(connection, select.POLLIN)
            if not waiter.poll(_PATIENCE * 1000) or connection.recv(1) != _GO:
                raise gone
        except OSError as error:
            raise gone from error


class _reach:
    """A way into a folder that fits into sun_path (108 bytes), however long the run directory's name is."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._fd = -1

    def __enter__(self) -> str:
        self._fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}"

    def __exit__(self, *_exception: object) -> None:
        os.close(self._fd)
