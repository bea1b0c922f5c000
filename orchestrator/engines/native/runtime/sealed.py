"""The runtime's program as a sealed copy in memory, lent to the launches that are under way.

crun and runc run from a copy of themselves that no container can write to (CVE-2019-5736). Unless they are started from
one they make it: a mount, an unmount and a second start of the program for each container. One sealed copy serves all
launches of a moment, and goes with the last of them.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl
from typing import Final

_MFD_EXEC: Final = 0x10
_SELINUX: Final = "/sys/fs/selinux/enforce"

_lock = threading.Lock()
_copies: dict[str, _Copy] = {}


class _Copy:
    """A sealed copy, and how many launches use it."""

    __slots__ = ("fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0


@contextmanager
def lend_program(path: str) -> Iterator[str]:
    """The path to start the program `path` by: a sealed copy of it, or `path` itself where there can be none.

    Any process may start it by that path until the end of the block.
    """
    copy = _borrow(path)
    if copy is None:
        yield path
        return
    try:
        yield f"/proc/{os.getpid()}/fd/{copy.fd}"
    finally:
        with _lock:
            copy.users -= 1
            if not copy.users:
                del _copies[path]
                os.close(copy.fd)


def _borrow(path: str) -> _Copy | None:
    # Under SELinux the copy would not carry the label by which the runtime changes its domain.
    if os.path.exists(_SELINUX):
        return None
    with _lock:
        copy = _copies.get(path)
        if copy is None:
            fd = _seal(path)
            if fd is None:
                return None
            copy = _copies[path] = _Copy(fd)
        copy.users += 1
        return copy


def _seal(path: str) -> int | None:
    """A sealed memfd of the program; None for a script, and where memory must not be executed."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.pread(source, 4, 0) != b"\x7fELF":
            return None
        return _copy_sealed(source, os.path.basename(path))
    except OSError:
        return None
    finally:
        os.close(source)


def _copy_sealed(source: int, name: str) -> int:
    """A memfd with the content of `source` that nobody can ever change, and that can be executed."""
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create(name, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 6.3 every memfd can be executed
            raise
        fd = os.memfd_create(name, flags)
    try:
        size = os.fstat(source).st_size
        copied = 0
        while copied < size:
            part = os.sendfile(fd, source, copied, size - copied)
            if not part:
                break
            copied += part
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
    except BaseException:
        os.close(fd)
        raise
    return fd
