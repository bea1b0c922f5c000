"""Commands in running containers: attached with or without a terminal, captured for health checks, detached."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.base import ExecRequest, ExecResult
from orchestrator.engines.native import host
from orchestrator.engines.native.spawn import spawn, wait
from orchestrator.errors import Conflict, NotFound

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.runtime.oci_runtime import Runtime
    from orchestrator.engines.native.runtime.runtime_errors import StartFailed

_KEPT_OUTPUT: Final = 4096
_TIMED_OUT: Final = 124
_PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Target:
    """A running container to execute in: its configuration and root file system as seen from here."""

    def __init__(self, layout: Layout, runtime: Runtime, container_id: str, name: str = "") -> None:
        import json

        from orchestrator.engines.native.runtime.monitor import observe_process

        self.layout, self.runtime, self.container_id, self.name = layout, runtime, container_id, name or container_id
        self.folder = str(layout.container_run(container_id))
        state = observe_process(layout, container_id)
        if state is None or not state.alive:
            raise Conflict(
                f"{self.name} is not running", resource=self.name, operation="exec", hint="start it first: stack start"
            )
        self.pid = state.pid
        try:
            with open(f"{self.folder}/config.json") as file:
                self.config: dict[str, Any] = json.load(file)
        except FileNotFoundError as error:
            raise NotFound(f"{self.name} has no bundle", resource=self.name, operation="exec") from error


def render_process(target: Target, request: ExecRequest) -> dict[str, Any]:
    """The OCI ``process`` of an exec: the container's own, changed by what the request says."""
    base = target.config["process"]
    process: dict[str, Any] = {
        **base,
        "args": list(request.command),
        "terminal": request.tty,
        "cwd": request.working_dir or base["cwd"],
    }
    variables = dict(one.partition("=")[::2] for one in base["env"])
    if request.user is not None:
        from orchestrator.engines.native.runtime.users import resolve_identity

        identity = resolve_identity(target.config["root"]["path"], request.user)
        process["user"] = {"uid": identity.uid, "gid": identity.gid, "additionalGids": list(identity.groups)}
        variables["HOME"] = identity.home
    if request.tty:
        from orchestrator.engines.native.runtime.terminal import read_size

        variables.setdefault("TERM", os.environ.get("TERM") or "xterm")
        size = read_size(0) or read_size(1)
        if size is not None:  # set by the runtime, it is right from the command's first moment
            process["consoleSize"] = {"height": size[0], "width": size[1]}
    variables.update(request.environment)
    process["env"] = [f"{name}={value}" for name, value in variables.items()]
    if request.user is not None or request.privileged:
        from orchestrator.engines.native.runtime.bundle import render_capabilities

        held = base["capabilities"]["bounding"]
        if request.privileged:
            from orchestrator.engines.native.host import read_capabilities

            held = sorted(read_capabilities())
        process["capabilities"] = render_capabilities(held, process["user"]["uid"])
    # The score of the container's main process protects that one, not whatever is run beside it.
    process.pop("oomScoreAdj", None)
    return process


class Invocation:
    """One call of the runtime's ``exec``: the memory files it reads and writes, and the file with the command's pid.

    Memory files are inherited descriptors: no other user and no crash can leave or change them.
    """

    def __init__(self, target: Target, request: ExecRequest) -> None:
        import json
        import tempfile

        self._target = target
        self.process = os.memfd_create("process", os.MFD_CLOEXEC)
        os.write(self.process, json.dumps(render_process(target, request), separators=(",", ":")).encode())
        os.lseek(self.process, 0, os.SEEK_SET)
        self.log = os.memfd_create("log", os.MFD_CLOEXEC)
        # In the run folder, where a killed process's leavings go with the container; only the socket that an exec with
        # a terminal needs would have too long a path there.
        try:
            self.folder = tempfile.mkdtemp(prefix="exec-", dir=None if request.tty else target.folder)
        except FileNotFoundError:
            os.close(self.process)
            os.close(self.log)
            raise NotFound(f"{target.name} is gone", resource=target.name, operation="exec") from None

    def __enter__(self) -> Invocation:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.process)
        os.close(self.log)
        # A command that ended its container may find that removed already, with everything below its run folder.
        with suppress(FileNotFoundError):
            for name in os.listdir(self.folder):
                os.unlink(f"{self.folder}/{name}")
            os.rmdir(self.folder)

    def start(self, files: Mapping[int, int], *options: str, terminal: str | None = None) -> int:
        """Start the runtime; its pid. A session of its own keeps this terminal's Ctrl-C away from it."""
        command = self._target.runtime.render_command(
            "--log=/proc/self/fd/4", "--log-format=json", "exec", *options, "--pid-file", f"{self.folder}/pid"
        )
        command += ["--process", "/proc/self/fd/3", self._target.container_id]
        return spawn(command, {**files, 3: self.process, 4: self.log}, new_session=True, terminal=terminal)

    def send(self, number: int) -> bool:
        """Signal the command; False while the runtime has not noted its pid. One that has ended is success."""
        try:
            with open(f"{self.folder}/pid") as file:
                pid = int(file.read())
        except (FileNotFoundError, ValueError):
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return True
        return True

    def explain(self) -> StartFailed | None:
        """Why the command could not be executed; None when the runtime did not complain."""
        said = os.pread(self.log, 65536, 0).decode("utf-8", "replace")
        if not said.strip():
            return None
        from orchestrator.engines.native.runtime.runtime_errors import explain_failure

        return explain_failure(said, self._target.name, "exec")

    def refuse_ended(self, code: int) -> None:
        """Raise Conflict where the runtime could not do it (exit code `code`) because the container has ended."""
        from orchestrator.engines.native.runtime.monitor import observe_process

        if code in (1, 255) and self.explain() is not None:
            state = observe_process(self._target.layout, self._target.container_id)
            if state is None or not state.alive or state.pid != self._target.pid:
                name = self._target.name
                raise Conflict(f"{name} ended before the command could run in it", resource=name, operation="exec")

    def map_code(self, code: int) -> int:
        """The runtime's exit code as a shell would give it: runtimes say 1 or 255 for what they could not execute."""
        if code < 0:
            return 128 - code
        if code in (1, 255):
            failure = self.explain()
            if failure is not None and failure.exit_code in (126, 127):
                return failure.exit_code
        return code


def exec_captured(target: Target, request: ExecRequest, *, timeout: float) -> ExecResult:
    """Run a command and keep the last 4 KiB of its output, stdout and stderr as they come; killed after `timeout` s.

    Never raises for what the command does: what cannot be executed gives 126 or 127 and the runtime's message.
    """
    import time

    with Invocation(target, request.replace(tty=False)) as call:
        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                child = call.start({1: write, 2: write})
            finally:
                os.close(write)
            output, timed_out = _collect(child, read, time.monotonic() + timeout)
            # runc would go on until the last process with the pipe in its hands has ended, so it is ended too.
            if timed_out and (not call.send(signal.SIGKILL) or target.runtime.name != "crun"):
                os.kill(child, signal.SIGKILL)
            code = wait(child)
        finally:
            os.close(read)
        text = output[-_KEPT_OUTPUT:].decode("utf-8", "replace")
        if timed_out:
            return ExecResult(exit_code=_TIMED_OUT, output=text, timed_out=True)
        return ExecResult(exit_code=call.map_code(code), output=text)


def _collect(child: int, read: int, deadline: float) -> tuple[bytes, bool]:
    """Read until the runtime has ended, not until the pipe has: a background process may hold that for ever."""
    import time

    os.set_blocking(read, False)
    pidfd = os.pidfd_open(child)
    poll = select.poll()
    poll.register(read, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    output = b""
    try:
        while True:
            left = deadline - time.monotonic()
            events = dict(poll.poll(max(0.0, left) * 1000)) if left > 0 else {}
            if not events:
                return output + _drain(read), True
            if read in events:
                part = _drain(read)
                output = (output + part)[-2 * _KEPT_OUTPUT :]
                if not part:
                    poll.unregister(read)
            if pidfd in events:
                return output + _drain(read), False
    finally:
        os.close(pidfd)


def _drain(fd: int) -> bytes:
    kept = b""
    while True:
        try:
            part = os.read(fd, 65536)
        except BlockingIOError:
            return kept
        if not part:
            return kept
        kept = (kept + part)[-2 * _KEPT_OUTPUT :]


def exec_attached(target: Target, request: ExecRequest) -> int:
    """Run a command with this process's stdio; with ``tty`` in raw mode, resizes passed on; its exit code.

    Signals that this process gets go to the command, and are handled as before when it returns. 126 and 127 mean that
    it could not be executed; the runtime has then said why on stderr. With ``detach`` it returns 0 once the command
    runs, and raises StartFailed when it could not be executed.
    """
    if request.detach:
        return _exec_detached(target, request)
    if request.tty:
        from orchestrator.engines.native.runtime.exec_terminal import exec_on_terminal

        return exec_on_terminal(target, request)
    files = {0: 0, 1: 1, 2: 2} if request.stdin else {1: 1, 2: 2}
    with Invocation(target, request) as call:
        child = call.start(files)
        pidfd = os.pidfd_open(child)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        try:
            with PassedSignals(call, poll) as signals:
                while pidfd not in (ready := dict(poll.poll())):
                    signals.deliver(ready)
        finally:
            os.close(pidfd)
        code = wait(child)
        call.refuse_ended(code)
        return call.map_code(code)


def _exec_detached(target: Target, request: ExecRequest) -> int:
    with Invocation(target, request.replace(tty=False)) as call:
        code = wait(call.start({}, "--detach"))
        if code == 0:
            return 0
        from orchestrator.engines.native.runtime.runtime_errors import explain_failure

        raise call.explain() or explain_failure("", target.name, "exec")


class PassedSignals:
    """While entered, signals to this process are kept for the command and sent as soon as its pid is known.

    The caller polls `poll` and hands what is ready to :meth:`deliver`. Outside the main thread there are no signals.
    """

    def __init__(self, call: Invocation, poll: select.poll) -> None:
        self._call, self._poll = call, poll
        self._waiting: list[int] = []
        self._before: dict[int, Any] = {}
        self.resized = False

    def __enter__(self) -> PassedSignals:
        import threading

        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._noted = host.Inotify()
        # Gone with a container that is removed just now: then the runtime says so, and there is nobody to signal.
        with suppress(FileNotFoundError):
            self._noted.add(self._call.folder, host.IN_CLOSE_WRITE | host.IN_MOVED_TO)
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(self._noted.fileno(), select.POLLIN)
        if threading.current_thread() is threading.main_thread():
            for number in (*_PASSED_ON, signal.SIGWINCH):
                self._before[number] = signal.signal(number, self._keep)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._poll.unregister(self._wake)
        self._poll.unregister(self._noted.fileno())
        self._noted.close()
        os.close(self._wake)

    def _keep(self, number: int, _frame: object) -> None:
        if number == signal.SIGWINCH:
            self.resized = True
        else:
            self._waiting.append(number)
        os.eventfd_write(self._wake, 1)

    def deliver(self, ready: Mapping[int, int]) -> None:
        """Send what can be sent; what comes before the runtime has noted the pid waits for the note."""
        if self._wake in ready:
            os.eventfd_read(self._wake)
        if self._noted.fileno() in ready:
            list(self._noted.read())
        while self._waiting and self._call.send(self._waiting[0]):
            self._waiting.pop(0)
