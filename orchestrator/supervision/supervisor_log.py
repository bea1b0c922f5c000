"""The supervisor's log: whatever goes wrong in a process that has no terminal."""

from __future__ import annotations

import os
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.supervision.control import Place


def redirect_streams(place: Place) -> None:
    """Let everything that this process prints, and every error that nobody handles, go to the project's log."""
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
    sys.excepthook = log_exception


def log_exception(kind: Any, error: BaseException, trace: Any) -> None:
    """Write down an error that nobody expected (``sys.excepthook``)."""
    print(time.strftime("%Y-%m-%dT%H:%M:%S"), "unexpected:", file=sys.stderr)
    traceback.print_exception(kind, error, trace, file=sys.stderr)


def log_context(context: dict[str, Any]) -> None:
    """Write down what an event loop complains of."""
    error = context.get("exception")
    if error is not None:
        log_exception(type(error), error, error.__traceback__)
    else:
        print(time.strftime("%Y-%m-%dT%H:%M:%S"), context.get("message"), file=sys.stderr)
