"""Being attached to a container: its monitor's socket relays keys and output, this process adds signals and sizes."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from orchestrator.engines.native.runtime.monitor import observe_process, resize_terminal
from orchestrator.engines.native.runtime.process import open_process, send_signal
from orchestrator.errors import Conflict

if TYPE_CHECKING:
    from orchestrator.engines.base import AttachRequest
    from orchestrator.engines.native.layout import Layout

_PACKET: Final = 8192
"""conmon reads a packet of at most this size; what is longer would be cut off."""

_LONGEST_PACKET: Final = 65536
_PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_STREAMS: Final = {2: 1, 3: 2}
"""What the first byte of a packet says: stdout, stderr."""

Ending = Literal["ended", "detached"]


class Line:
    """A connection to the attach socket of a container that runs, or waits to."""

    def __init__(self, layout: Layout, container_id: str, name: str, *, tty: bool, stdin: bool) -> None:
        self._layout, self._id, self.tty, self.stdin = layout, container_id, tty, stdin
        state = observe_process(layout, container_id)
        monitor = open_process(state.monitor_pid, state.monitor_start_time) if state is not None else None
        if state is None or monitor is None:
            raise Conflict(f"{name} cannot be attached to: it has no monitor", resource=name, operation="attach")
        self._monitor = monitor
        self._process = (state.pid, state.start_time)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            folder = os.open(layout.container_run(container_id), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._socket.connect(f"/proc/self/fd/{folder}/attach")
            finally:
                os.close(folder)
        except OSError as error:
            self.close()
            raise Conflict(f"{name} cannot be attached to: {error.strerror}", resource=name, operation="attach") from (
                error
            )

    def close(self) -> None:
        """Hang up; the container goes on."""
        self._socket.close()
        os.close(self._monitor)

    def copy_size(self, *, redraw: bool = False) -> None:
        """Give the container's terminal the size of ours; `redraw` makes a program paint itself anew."""
        from orchestrator.engines.native.runtime.terminal import read_size

        size = (read_size(0) or read_size(1)) if self.tty else None
        if size is not None:
            if redraw:
                resize_terminal(self._layout, self._id, size[0] + 1, size[1])
            resize_terminal(self._layout, self._id, *size)

    def signal(self, number: int) -> None:
        """Send a signal to the container's main process; one that has ended is success."""
        send_signal(*self._process, number)

    def await_end(self) -> None:
        """Wait until the container's monitor has ended, and with it the container."""
        waiter = select.poll()
        waiter.register(self._monitor, select.POLLIN)
        waiter.poll()

    def converse(self, request: AttachRequest, begin: Callable[[], None]) -> Ending:
        """Relay until the container closes its output, or the user types the detach keys.

        `begin` is called once everything is in place. Signals are handled as before when it returns.
        """
        from orchestrator.engines.native.runtime.terminal import RawMode

        forward = request.stdin and self.stdin
        relay = _Relay(self._socket, forward=forward, keys=request.detach_keys if forward and self.tty else b"")
        with RawMode(0 if forward and self.tty else -1), _Signals(passed=request.sig_proxy) as signals:
            begin()
            while relay.open:
                ready = relay.wait(signals.fileno())
                if signals.fileno() in ready:
                    for number in signals.take():
                        if number == signal.SIGWINCH:
                            self.copy_size()
                        else:
                            self.signal(number)
                relay.step(ready)
        return "detached" if relay.detached else "ended"


class _Relay:
    """The two directions between our stdio and the attach socket; neither ever waits for the other."""

    def __init__(self, connection: socket.socket, *, forward: bool, keys: bytes) -> None:
        connection.setblocking(False)
        self._socket, self._forward = connection, forward
        self._keys = _KeyWatch(keys)
        self._pending = b""
        self._closed_input = not forward
        self.open = True
        self.detached = False

    def wait(self, *others: int) -> dict[int, int]:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._pending else 0))
        if self._forward and not self._pending:
            poll.register(0, select.POLLIN)
        for one in others:
            poll.register(one, select.POLLIN)
        return dict(poll.poll())

    def step(self, ready: dict[int, int]) -> None:
        events = ready.get(self._socket.fileno(), 0)
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._take_output()
        if 0 in ready and self.open:
            self._take_input()
        if self.open and (self._pending or not self._closed_input):
            self._send_input()

    def _take_output(self) -> None:
        while True:
            try:
                packet = self._socket.recv(_LONGEST_PACKET)
            except BlockingIOError:
                return
            except ConnectionError:
                packet = b""
            if not packet:
                self.open = False
                return
            target = _STREAMS.get(packet[0])
            rest = memoryview(packet)[1:]
            while target is not None and rest:
                rest = rest[_write(target, rest) :]

    def _take_input(self) -> None:
        try:
            data = os.read(0, _PACKET)
        except OSError:  # EIO: the terminal was closed
            data = b""
        if not data:
            self._forward = False
            return
        self._pending, self.detached = self._keys.filter(data)
        if self.detached:
            self.open = False

    def _send_input(self) -> None:
        try:
            while self._pending:
                self._socket.send(self._pending[:_PACKET])
                self._pending = self._pending[_PACKET:]
            if not self._forward:
                self._closed_input = True
                # To conmon, a connection that sends no more is the end of the container's input.
                self._socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except ConnectionError:
            self._pending, self._closed_input = b"", True


def _write(target: int, data: memoryview) -> int:
    try:
        return os.write(target, data)
    except BlockingIOError:
        # Somebody shares the terminal with us and has made it so.
        waiter = select.poll()
        waiter.register(target, select.POLLOUT)
        waiter.poll()
        return 0
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise BrokenPipeError(error.errno, error.strerror) from error


class _KeyWatch:
    """Looks for the detach keys in what is typed; what may be their beginning is held back."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def filter(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys have been typed."""
        if not self._keys:
            return data, False
        passed = bytearray()
        for number in data:
            self._held += bytes([number])
            while self._held and not self._keys.startswith(self._held):
                passed.append(self._held[0])
                self._held = self._held[1:]
            if self._held == self._keys:
                return bytes(passed), True
        return bytes(passed), False


class _Signals:
    """While entered, signals to this process are kept for the container, or end the command with the terminal whole."""

    def __init__(self, *, passed: bool) -> None:
        self._passed = passed
        self._waiting: list[int] = []
        self._before: dict[int, Any] = {}
        self._wake = -1

    def __enter__(self) -> _Signals:
        import threading

        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        if threading.current_thread() is threading.main_thread():
            self._before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._keep)
            for number in _PASSED_ON:
                self._before[number] = signal.signal(number, self._keep if self._passed else _interrupt)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._wake)

    def fileno(self) -> int:
        return self._wake

    def take(self) -> list[int]:
        os.eventfd_read(self._wake)
        taken, self._waiting = self._waiting, []
        return taken

    def _keep(self, number: int, _frame: object) -> None:
        self._waiting.append(number)
        os.eventfd_write(self._wake, 1)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
