"""Builds in threads of this process, so that Ctrl-C finds the main thread waiting.

Without ``concurrent.futures``: its import would cost an unchanged build a tenth of its time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_PREFIX = "building "


def start_thread(
    name: str, work: Callable[[], Any], finished: Callable[[str, Any, BaseException | None], None]
) -> None:
    """Run `work` in a thread; `finished` is called in it with the name, the result, or what was raised."""

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # handed over, whatever it is
            finished(name, None, error)
        else:
            finished(name, result, None)

    threading.Thread(target=run, name=f"{_PREFIX}{name}", daemon=True).start()


def run_in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread and wait for its result; KeyboardInterrupt comes at once."""
    done = threading.Event()
    outcome: list[Any] = []

    def finished(_name: str, result: Any, error: BaseException | None) -> None:
        outcome.extend((result, error))
        done.set()

    start_thread("image", work, finished)
    done.wait()
    result, error = outcome
    if error is not None:
        raise error
    returned: T = result
    return returned


def wait_for_builds() -> None:
    """Wait until every thread that was started here has ended; another Ctrl-C ends the waiting."""
    for thread in threading.enumerate():
        if thread.name.startswith(_PREFIX):
            thread.join()
