"""What the host refuses for want of something (space, memory, descriptors, rights), told as an engine's error."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from orchestrator.errors import Unavailable

P = ParamSpec("P")
R = TypeVar("R")

_HINTS = {
    errno.ENOSPC: "free some space there, or move the state directory (STACK_STATE_DIR) to a larger disk",
    errno.EDQUOT: "free some space there, or ask for a larger quota",
    errno.EROFS: "mount it writable, or move the state directory (STACK_STATE_DIR)",
    errno.EIO: "the disk reports an error; look at `dmesg`",
    errno.ENOMEM: "end something, or give the machine more memory",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise fs.file-max",
    errno.EACCES: "run as root",
    errno.EPERM: "run as root",
}


def explains_refusals(operation: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate an engine call: what the host refuses becomes Unavailable, other OSErrors (faults of ours) pass."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except OSError as error:
                if error.errno not in _HINTS:
                    raise
                place = f": {error.filename}" if error.filename else ""
                raise Unavailable(
                    f"cannot {operation}: {error.strerror}{place}", operation=operation, hint=_HINTS[error.errno]
                ) from error

        return call

    return decorate
