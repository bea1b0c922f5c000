"""An exec on a terminal of its own: the runtime sends the terminal's master, this process relays keys and output."""

from __future__ import annotations

import os
import select
import signal
import socket
from typing import TYPE_CHECKING

from orchestrator.engines.native.runtime import terminal
from orchestrator.engines.native.runtime.exec import Invocation, PassedSignals, Target
from orchestrator.engines.native.spawn import wait

if TYPE_CHECKING:
    from orchestrator.engines.base import ExecRequest


def exec_on_terminal(target: Target, request: ExecRequest) -> int:
    """See :func:`orchestrator.engines.native.runtime.exec.exec_attached`."""
    if target.runtime.name != "crun":
        # runc gives the terminal away only when it detaches, and then nobody learns the exit code. It gets one from us.
        return _exec_between_terminals(target, request)
    with Invocation(target, request) as call, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(f"{call.folder}/console")
        listener.listen(1)
        child = call.start({2: 2}, "--console-socket", f"{call.folder}/console", "--tty")
        try:
            return call.map_code(_converse(call, child, listener.fileno(), forward_keys=request.stdin))
        except BaseException:
            call.send(signal.SIGKILL)
            os.kill(child, signal.SIGKILL)
            wait(child)
            raise


def _exec_between_terminals(target: Target, request: ExecRequest) -> int:
    master, slave = os.openpty()
    try:
        # Raw, because the command's own terminal behind it does the line editing; sized, because runc looks once.
        terminal.make_raw(slave)
        _copy_size(master)
        with Invocation(target, request) as call:
            child = call.start({}, "--tty", terminal=os.ttyname(slave))
            os.close(slave)
            slave = -1
            pidfd = os.pidfd_open(child)
            try:
                _relay(call, master, pidfd, forward_keys=request.stdin)
            except BaseException:
                call.send(signal.SIGKILL)
                os.kill(child, signal.SIGKILL)
                raise
            finally:
                os.close(pidfd)
                code = wait(child)
            return call.map_code(code)
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)


def _converse(call: Invocation, child: int, listener: int, *, forward_keys: bool) -> int:
    pidfd = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        if listener in dict(poll.poll()):
            master = terminal.receive_terminal(listener)
            try:
                _relay(call, master, pidfd, forward_keys=forward_keys)
            finally:
                os.close(master)
        return wait(child)
    finally:
        os.close(pidfd)


def _relay(call: Invocation, master: int, pidfd: int, *, forward_keys: bool) -> None:
    """Copy both ways until the command has ended and its last output is written."""
    _copy_size(master)
    poll = select.poll()
    poll.register(master, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    if forward_keys:
        poll.register(0, select.POLLIN)
    with terminal.RawMode(0 if forward_keys else -1), PassedSignals(call, poll) as signals:
        while True:
            ready = dict(poll.poll())
            signals.deliver(ready)
            if signals.resized:
                signals.resized = False
                _copy_size(master)
            if 0 in ready and not _copy_keys(master):
                poll.unregister(0)
            if master in ready and not _copy_output(master):
                return
            if pidfd in ready:
                while _has_output(master) and _copy_output(master):
                    continue
                return


def _copy_size(master: int) -> None:
    size = terminal.read_size(0) or terminal.read_size(1)
    if size is not None:
        terminal.write_size(master, *size)


def _copy_keys(master: int) -> bool:
    data = os.read(0, 65536)
    if not data:
        # The end of a file or pipe is what Ctrl-D is on a terminal.
        os.write(master, b"\x04")
        return False
    while data:
        data = data[os.write(master, data) :]
    return True


def _has_output(master: int) -> bool:
    poll = select.poll()
    poll.register(master, select.POLLIN)
    return bool([event for _fd, event in poll.poll(0) if event & select.POLLIN])


def _copy_output(master: int) -> bool:
    try:
        data = os.read(master, 65536)
    except OSError:  # EIO: the last process has closed the other side
        return False
    while data:
        data = data[os.write(1, data) :]
    return True
