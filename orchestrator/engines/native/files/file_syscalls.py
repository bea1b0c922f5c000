"""The system calls on files that Python 3.11 does not have."""

from __future__ import annotations

import ctypes
import errno
import os

_RENAME_EXCHANGE = 2

_libc = ctypes.CDLL(None, use_errno=True)


def exchange_names(folder: int, one: str, other: str) -> bool:
    """renameat2(2) with RENAME_EXCHANGE, in one directory; False where the file system or the C library has no such."""
    call = getattr(_libc, "renameat2", None)
    if call is None:
        return False
    if call(folder, os.fsencode(one), folder, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOENT):
        return False
    raise OSError(number, os.strerror(number), other)
