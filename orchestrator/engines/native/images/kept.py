"""What was read from files that are replaced whole, kept for as long as they are as they were."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_SETTLED = 0.1
"""Seconds: a file that was written since may be written once more and have the same inode, size and time again."""


class Kept:
    """The last value that was read from each of some files. Values are shared: nobody changes them."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[tuple[int, int, int], Any]] = {}

    def read(self, path: str, read: Callable[[], T]) -> T:
        """What `read` makes of the file at `path`, without reading it again while it is the same."""
        try:
            found = os.stat(path)
        except OSError:
            self._values.pop(path, None)
            return read()
        signature = (found.st_ino, found.st_mtime_ns, found.st_size)
        kept = self._values.get(path)
        if kept is not None and kept[0] == signature:
            value: T = kept[1]
            return value
        value = read()
        if time.time() - found.st_mtime > _SETTLED:
            self._values[path] = signature, value
        return value
