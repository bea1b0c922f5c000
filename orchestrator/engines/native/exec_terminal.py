"""An exec on a terminal of its own: the runtime sends the terminal's master, this process relays keys and output."""

from __future__ import annotations

import os
import select
import signal
import tempfile
import threading
from typing import TYPE_CHECKING

from orchestrator.engines.native import terminal
from orchestrator.engines.native.exec import (
    PassedSignals,
    Target,
    _render_command,
    _write_process,
    render_process,
    signal_noted,
)
from orchestrator.engines.native.spawn import spawn

if TYPE_CHECKING:
    from orchestrator.engines.base import ExecRequest


def exec_on_terminal(target: Target, request: ExecRequest) -> int:
    """See :func:`orchestrator.engines.native.exec.exec_attached`."""
    import socket

    process = _write_process(render_process(target, request))
    errors = os.memfd_create("errors", os.MFD_CLOEXEC)
    folder = tempfile.mkdtemp(prefix="stack-exec-")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Below the temporary directory: a socket's path has 107 characters at most, a run folder's may have more.
        listener.bind(f"{folder}/console")
        listener.listen(1)
        options = ("--console-socket", f"{folder}/console", "--pid-file", f"{folder}/pid", "--tty")
        child = spawn(_render_command(target, *options), {2: errors, 3: process}, new_session=True)
        try:
            code = _converse(child, listener.fileno(), f"{folder}/pid", request)
        except BaseException:
            _end(child, f"{folder}/pid")
            raise
        said = os.pread(errors, 65536, 0).decode("utf-8", "replace")
        if code != 0 and said.strip() and not os.path.exists(f"{folder}/pid"):
            from orchestrator.engines.native.runtime_errors import explain_failure

            raise explain_failure(said, target.name, "exec")
        return code
    finally:
        listener.close()
        os.close(errors)
        os.close(process)
        for name in ("console", "pid"):
            if os.path.exists(f"{folder}/{name}"):
                os.unlink(f"{folder}/{name}")
        os.rmdir(folder)


def _end(child: int, note: str) -> None:
    signal_noted(note, signal.SIGKILL)
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _converse(child: int, listener: int, note: str, request: ExecRequest) -> int:
    pidfd = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        ready = dict(poll.poll())
        if listener not in ready:
            return _wait(child)
        master = terminal.receive_terminal(listener)
        try:
            with terminal.RawMode(0 if request.stdin else -1), PassedSignals(lambda number: signal_noted(note, number)):
                _relay(master, pidfd, forward_keys=request.stdin)
        finally:
            os.close(master)
        return _wait(child)
    finally:
        os.close(pidfd)


def _wait(child: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 128 - code if code < 0 else code


def _relay(master: int, pidfd: int, *, forward_keys: bool) -> None:
    """Copy both ways until the command has ended and its last output is written."""
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = None
    if threading.current_thread() is threading.main_thread():  # elsewhere the size stays as it is
        before = signal.signal(signal.SIGWINCH, lambda *_: os.write(wake_write, b"w"))
    _copy_size(master)
    poll = select.poll()
    poll.register(master, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    if forward_keys:
        poll.register(0, select.POLLIN)
    try:
        while True:
            ready = dict(poll.poll())
            if wake_read in ready:
                os.read(wake_read, 4096)
                _copy_size(master)
            if 0 in ready and not _copy_keys(master):
                poll.unregister(0)
            if master in ready and not _copy_output(master):
                return
            if pidfd in ready:
                while _has_output(master) and _copy_output(master):
                    continue
                return
    finally:
        if before is not None:
            signal.signal(signal.SIGWINCH, before)
        os.close(wake_read)
        os.close(wake_write)


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
