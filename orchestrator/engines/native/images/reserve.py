"""A little of the disk held back: one that is full must not keep anybody from removing what fills it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_NAME: Final = "reserve"
_SIZE: Final = 256 << 10  # bytes: an index of a thousand images, twice, and the folders of a workspace
_ROOMY: Final = 64 << 20  # bytes that are free where holding back some harms nobody


def keep_reserve(root: Path) -> None:
    """Hold some bytes back below `root`, unless they are, or the disk is nearly full."""
    path = root / _NAME
    if path.exists():
        return
    with suppress(OSError):
        if _measure_free(root) < _ROOMY:
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, _SIZE)
        finally:
            os.close(descriptor)


def release_reserve(root: Path) -> None:
    """Give the bytes back if the disk is full: something is about to be removed, which takes some first."""
    with suppress(OSError):
        if _measure_free(root) < _SIZE:
            (root / _NAME).unlink(missing_ok=True)


def _measure_free(root: Path) -> int:
    space = os.statvfs(root)
    return space.f_bavail * space.f_frsize
