"""Signals to container processes: always to one that is known by pid and start time, never to a recycled pid."""

from __future__ import annotations

import os
import signal as signals
from typing import Final

from orchestrator.engines.native import host
from orchestrator.engines.native.runtime import cgroups
from orchestrator.errors import EngineError

_ENDING: Final = 10.0
"""Seconds that the kernel gets to end killed processes; a process in an uninterruptible call may take long."""


def parse_signal(name: str | int) -> int:
    """``SIGTERM``, ``term``, ``15`` or ``SIGRTMIN+3`` as a number. EngineError: not a signal."""
    text = str(name).strip().upper()
    if text.isdigit() and 0 < int(text) <= 64:
        return int(text)
    base, plus, offset = text.removeprefix("SIG").partition("+")
    if base == "RTMIN" and plus and offset.isdigit():
        return signals.SIGRTMIN + int(offset)
    base, minus, offset = text.removeprefix("SIG").partition("-")
    if base == "RTMAX" and minus and offset.isdigit():
        return signals.SIGRTMAX - int(offset)
    try:
        return int(signals.Signals["SIG" + text.removeprefix("SIG")])
    except KeyError:
        raise EngineError(
            f"{name!r} is not a signal", operation="signal container", hint="SIGTERM, SIGKILL ..."
        ) from None


def open_process(pid: int, start_time: int) -> int | None:
    """A pidfd of the process with that pid and start time; None when it has ended. The caller closes it."""
    if pid <= 0 or start_time <= 0:
        return None
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    # Asked after opening: if it is the right one now, the descriptor can no longer become another's.
    if host.read_start_time(pid) != start_time:
        os.close(fd)
        return None
    return fd


def send_signal(pid: int, start_time: int, number: int) -> bool:
    """Signal the process; False when it has ended."""
    fd = open_process(pid, start_time)
    if fd is None:
        return False
    try:
        signals.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def wait_process(pid: int, start_time: int, timeout: float | None = None) -> bool:
    """Wait until the process has ended; False when it still runs after `timeout` seconds."""
    from select import POLLIN, poll

    fd = open_process(pid, start_time)
    if fd is None:
        return True
    try:
        waiter = poll()
        waiter.register(fd, POLLIN)
        return bool(waiter.poll(None if timeout is None else max(0.0, timeout) * 1000))
    finally:
        os.close(fd)


def end_processes(cgroups_path: str) -> None:
    """Kill every process in the group `cgroups_path` and wait until none is left.

    What a container without a process namespace of its own leaves behind, and a start that failed half-way. Raises
    ValueError for the root group, in which the whole machine lives: a damaged record must never get that far.
    """
    from select import POLLIN, poll

    if not cgroups_path.startswith("/") or not cgroups_path.strip("/"):
        raise ValueError(f"{cgroups_path!r} is not a group of ours")
    cgroups.freeze_cgroup(cgroups_path, frozen=False)
    for _round in range(10):  # a process that forks while we look shows in the next round
        opened = []
        for pid in cgroups.list_processes(cgroups_path):
            try:
                opened.append(os.pidfd_open(pid))
            except OSError:
                continue
        if not opened:
            return
        for fd in opened:
            try:
                signals.pidfd_send_signal(fd, signals.SIGKILL)
            except ProcessLookupError:
                continue
        for fd in opened:
            waiter = poll()
            waiter.register(fd, POLLIN)
            waiter.poll(_ENDING * 1000)
            os.close(fd)
