"""The system calls on network namespaces that Python 3.11 does not have."""

from __future__ import annotations

import ctypes
import os

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def set_namespace(descriptor: int) -> None:
    """Move the calling thread into the network namespace behind `descriptor`."""
    _check(_libc.setns(descriptor, _CLONE_NEWNET))


def unshare_network() -> None:
    """Move the calling thread into a new, empty network namespace."""
    _check(_libc.unshare(_CLONE_NEWNET))


def bind_mount(source: str, target: str) -> None:
    """Make `source` visible at `target`."""
    _check(_libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(_MS_BIND), None))


def detach_mount(target: str) -> None:
    """Take the topmost mount off `target`, even if it is in use."""
    _check(_libc.umount2(target.encode(), _MNT_DETACH))
