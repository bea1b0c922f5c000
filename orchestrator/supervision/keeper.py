"""The supervisor's parent: starts it again at once should it die. Forked before anything heavy was imported.

It holds no lock, no socket and no open file but one end of a pipe, through which the supervisor tells it what a
successor has to take over. It ends with status 0 as soon as a supervisor does. Should the keeper be killed, the
supervisor starts another one (:mod:`orchestrator.supervision.keeping`), which then is its child: :func:`keep_parent`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn

STEADY_AFTER = 10.0
"""Seconds; a supervisor that lived that long did not crash for a reason that is still there."""

LONGEST_PAUSE = 30.0
"""Seconds between two starts of a supervisor that keeps crashing."""


def become_keeper(channel: int, engine: str) -> NoReturn:
    """Turn this freshly forked process into a keeper with a prepared supervisor at `channel`."""
    status = 1
    try:
        _detach(channel)
        status = _keep(channel, engine)
    finally:
        os._exit(status)


def keep_parent(supervisor: int, farewell: int, record: bytes) -> NoReturn:
    """Be the new keeper of the supervisor that started this process; `record` is what a successor takes over, as JSON.

    A parent's exit status is not for its child to see: a supervisor that ends well says so through `farewell`, a pipe.
    """
    status = 1
    try:
        _leave_terminal()
        _call_myself("stack-keeper")
        began = time.monotonic()
        _await_end(supervisor)
        os.set_blocking(farewell, False)
        try:
            said = os.read(farewell, 16)
        except BlockingIOError:
            said = b""
        # Closed, its number, that of standard input, would be given to the next lock or socket of a successor.
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, farewell)
        os.close(nothing)
        status = 0 if said else _keep_up(record, began)
    finally:
        os._exit(status)


def _await_end(parent: int) -> None:
    """Return when the parent has ended; `parent` may have before its number was looked up."""
    import select

    try:
        process = os.pidfd_open(parent)
    except ProcessLookupError:
        return
    if os.getppid() == parent:
        waiting = select.poll()
        waiting.register(process, select.POLLIN)
        waiting.poll()
    os.close(process)


def _detach(channel: int) -> None:
    os.setsid()
    for name in ("STACK_STATE_DIR", "STACK_RUN_DIR"):
        if os.environ.get(name):
            os.environ[name] = os.path.abspath(os.environ[name])
    sys.path[:] = [os.path.abspath(one) for one in sys.path]
    os.chdir("/")
    os.umask(0o022)
    _leave_terminal()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.closerange(3, channel)
    os.closerange(channel + 1, 1 << 16)
    _call_myself("stack-keeper")


def _leave_terminal() -> None:
    """Take no signal that is meant for the command, and none as it wants them taken."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _keep(channel: int, engine: str) -> int:
    memory, told = os.pipe()
    keeper = os.getpid()

    def first() -> None:
        os.close(memory)
        try:
            from orchestrator.supervision.preload import import_asyncio

            import_asyncio()
            from orchestrator.supervision.supervisor import await_goal
        except Exception as error:
            _say_broken(channel, error)
            os._exit(1)
        await_goal(channel, told, engine, keeper)

    began = time.monotonic()
    supervisor = _fork(first)
    os.close(channel)
    os.close(told)
    # While it imports: a move takes the kernel some milliseconds.
    from orchestrator.detach import leave_control_group

    for pid in (supervisor, os.getpid()):
        leave_control_group(pid)
    _, status = os.waitpid(supervisor, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        return 0
    # Written in one piece when the project was taken over; a descendant may still hold the other end.
    os.set_blocking(memory, False)
    try:
        record = os.read(memory, 1 << 16)
    except BlockingIOError:
        record = b""
    return _keep_up(record, began) if record.endswith(b"\n") else 1


def _keep_up(record: bytes, began: float) -> int:
    """Start one successor after the other, until one of them ends well; the one before lived since `began`."""
    keeper = os.getpid()
    pause = 0.0
    while True:
        if time.monotonic() - began > STEADY_AFTER:
            pause = 0.0
        time.sleep(pause)
        pause = min(max(2 * pause, 0.1), LONGEST_PAUSE)
        began = time.monotonic()
        _, status = os.waitpid(_fork(lambda: _succeed(record, keeper)), 0)
        if os.waitstatus_to_exitcode(status) == 0:
            return 0


def _succeed(record: bytes, keeper: int) -> None:
    import json

    from orchestrator.supervision.preload import import_asyncio

    import_asyncio()
    from orchestrator.supervision.supervisor import adopt_project

    adopt_project(json.loads(record), keeper)


def _say_broken(channel: int, error: Exception) -> None:
    import json

    refused = {"code": "unavailable", "message": f"the supervisor cannot be loaded: {error!r}", "hint": "install again"}
    os.write(channel, json.dumps({"refused": refused}).encode() + b"\n")


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        _call_myself("stack-supervise")
        # Imports make no garbage worth looking for, and looking costs a fifth of their time.
        import gc

        gc.disable()
        work()
    except BaseException:
        os._exit(1)
    os._exit(1)


def _call_myself(name: str) -> None:
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(name)
    except OSError:
        pass
