"""Standard streams that are closed, or that take nothing more: a command works all the same, or says so."""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS))


def open_closed_streams() -> None:
    """Put ``/dev/null`` where standard input, output or error was closed.

    Not for the sake of what is written there: the next file that is opened, the store for one, would get the number,
    and what is meant for the screen would go into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing != number:
            os.dup2(nothing, number)
            os.close(nothing)
        os.set_inheritable(number, True)
        setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def forgive_errors() -> None:
    """Let be lost what cannot be written to standard error: a full disk below its file is no reason to stop."""
    import io

    class Forgiving(io.TextIOWrapper):
        def write(self, text: str, /) -> int:
            try:
                return super().write(text)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                return len(text)

        def flush(self) -> None:
            try:
                super().flush()
            except OSError as error:
                if error.errno not in _FULL:
                    raise

    stream: Any = sys.stderr
    # Without a buffer of bytes between: what could not be written would come back with every later word.
    # With PYTHONUNBUFFERED there is none to begin with.
    raw: Any = getattr(stream.buffer, "raw", stream.buffer)
    sys.stderr = Forgiving(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=True, write_through=True)


def find_full_output(error: OSError) -> str:
    """Why standard output took nothing more, when that is what `error` is; empty when it is something else."""
    if error.errno not in _FULL or error.filename is not None:
        return ""
    try:
        # What could not be written is still there; without a buffer, it is not, and a line more tells the same.
        sys.stdout.flush()
        if getattr(sys.stdout, "write_through", False):
            sys.stdout.write("\n")
    except OSError as again:
        return os.strerror(again.errno or errno.EIO)
    return ""
