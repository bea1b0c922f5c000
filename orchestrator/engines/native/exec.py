"""Commands in running containers: attached with or without a terminal, captured for health checks, detached."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.base import ExecRequest, ExecResult
from orchestrator.engines.native.process import open_process
from orchestrator.engines.native.spawn import spawn, wait
from orchestrator.errors import Conflict, NotFound

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.runtime import Runtime

_KEPT_OUTPUT: Final = 4096
_TIMED_OUT: Final = 124
_PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Target:
    """A running container to execute in: its configuration and root file system as seen from here."""

    def __init__(self, layout: Layout, runtime: Runtime, container_id: str, name: str = "") -> None:
        import json

        from orchestrator.engines.native.monitor import observe_process

        self.runtime, self.container_id, self.name = runtime, container_id, name or container_id
        self.folder = str(layout.container_run(container_id))
        state = observe_process(layout, container_id)
        if state is None or not state.alive:
            raise Conflict(
                f"{self.name} is not running", resource=self.name, operation="exec", hint="start it first: stack start"
            )
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
        from orchestrator.engines.native.users import resolve_identity

        identity = resolve_identity(target.config["root"]["path"], request.user)
        process["user"] = {"uid": identity.uid, "gid": identity.gid, "additionalGids": list(identity.groups)}
        variables["HOME"] = identity.home
    if request.tty:
        variables.setdefault("TERM", os.environ.get("TERM") or "xterm")
    variables.update(request.environment)
    process["env"] = [f"{name}={value}" for name, value in variables.items()]
    if request.user is not None or request.privileged:
        from orchestrator.engines.native.bundle import render_capabilities

        held = base["capabilities"]["bounding"]
        if request.privileged:
            from orchestrator.engines.native.host import read_capabilities

            held = sorted(read_capabilities())
        process["capabilities"] = render_capabilities(held, process["user"]["uid"])
    # The score of the container's main process protects that one, not whatever is run beside it.
    process.pop("oomScoreAdj", None)
    return process


def _write_process(process: Mapping[str, Any]) -> int:
    """A memory file with the process, for the runtime to read; nothing to clean up."""
    import json

    fd = os.memfd_create("process", os.MFD_CLOEXEC)
    os.write(fd, json.dumps(process, separators=(",", ":")).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _render_command(target: Target, *options: str) -> list[str]:
    # Descriptor 3 is the process file: an inherited one, so that no other user and no crash can leave or change it.
    return target.runtime.render_command("exec", *options, "--process", "/proc/self/fd/3", target.container_id)


def exec_captured(target: Target, request: ExecRequest, *, timeout: float) -> ExecResult:
    """Run a command and keep the last 4 KiB of its output, stdout and stderr as they come; killed after `timeout` s.

    Never raises for what the command does: what cannot be executed gives 126 or 127 and the runtime's message.
    """
    import tempfile
    import time

    process = _write_process(render_process(target, request.replace(tty=False)))
    read, write = os.pipe2(os.O_CLOEXEC)
    with tempfile.NamedTemporaryFile(prefix="exec-", dir=target.folder) as note:
        try:
            command = _render_command(target, "--pid-file", note.name)
            child = spawn(command, {1: write, 2: write, 3: process}, new_session=True)
        finally:
            os.close(write)
            os.close(process)
        try:
            output, timed_out = _collect(child, read, time.monotonic() + timeout)
            if timed_out:
                _kill_noted(note.name, child)
            code = wait(child)
        finally:
            os.close(read)
    text = output[-_KEPT_OUTPUT:].decode("utf-8", "replace")
    if timed_out:
        return ExecResult(exit_code=_TIMED_OUT, output=text, timed_out=True)
    return ExecResult(exit_code=_map_code(code, text), output=text)


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


def _kill_noted(path: str, child: int) -> None:
    """Kill the command whose pid the runtime noted; the runtime itself where it did not come that far."""
    from orchestrator.engines.native import host

    try:
        with open(path) as file:
            pid = int(file.read())
        fd = open_process(pid, host.read_start_time(pid) or 0)
        if fd is not None:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)
            return
    except (OSError, ValueError):
        pass
    os.kill(child, signal.SIGKILL)


def _map_code(code: int, text: str) -> int:
    """The runtime's exit code as a shell would give it; crun says 1 or 255 for what it could not execute."""
    if code < 0:
        return 128 - code
    if code in (1, 255) and text:
        from orchestrator.engines.native.runtime_errors import explain_failure

        failure = explain_failure(text[-1024:], "", "exec")
        if failure.exit_code in (126, 127) and _is_runtime_message(text):
            return failure.exit_code
    return code


def _is_runtime_message(text: str) -> bool:
    last = text.strip().splitlines()[-1:] or [""]
    starts = ("exec failed", "executable file", "open executable", "exec ", "time=", "OCI runtime", "exec: ", "chdir")
    return last[0].startswith(starts) or 'level":"error"' in last[0]


def exec_attached(target: Target, request: ExecRequest) -> int:
    """Run a command with this process's stdio; with ``tty`` in raw mode, resizes passed on; its exit code.

    Signals that this process gets go to the command, and are handled as before when it returns. With ``detach`` it
    returns 0 once the command runs. StartFailed is raised when it could not be executed (126, 127).
    """
    if request.detach:
        return _exec_detached(target, request)
    if request.tty:
        from orchestrator.engines.native.exec_terminal import exec_on_terminal

        return exec_on_terminal(target, request)
    import tempfile

    process = _write_process(render_process(target, request))
    with tempfile.NamedTemporaryFile(prefix="exec-", dir=target.folder) as note:
        files = {1: 1, 2: 2, 3: process}
        if request.stdin:
            files[0] = 0
        try:
            child = spawn(_render_command(target, "--pid-file", note.name), files, new_session=True)
        finally:
            os.close(process)
        with PassedSignals(lambda number: signal_noted(note.name, number)):
            code = wait(child)
    return 128 - code if code < 0 else code


def _exec_detached(target: Target, request: ExecRequest) -> int:
    from orchestrator.engines.native.runtime_errors import explain_failure
    from orchestrator.engines.native.spawn import run

    process = _write_process(render_process(target, request.replace(tty=False)))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    errors = os.memfd_create("errors", os.MFD_CLOEXEC)
    try:
        finished = run(_render_command(target, "--detach"), {1: null, 2: errors, 3: process})
        if finished.exit_code != 0:
            said = os.pread(errors, 65536, 0).decode("utf-8", "replace")
            raise explain_failure(said, target.name, "exec")
    finally:
        for fd in (process, null, errors):
            os.close(fd)
    return 0


def signal_noted(path: str, number: int) -> None:
    """Signal the process whose pid the runtime wrote to `path`; nothing when it has not, or the process has ended."""
    try:
        with open(path) as file:
            os.kill(int(file.read()), number)
    except (OSError, ValueError):
        return


class PassedSignals:
    """While entered, signals to this process are passed to `pass_on`. Outside the main thread it does nothing."""

    def __init__(self, pass_on: Callable[[int], None]) -> None:
        self._pass_on = pass_on
        self._before: dict[int, Any] = {}

    def __enter__(self) -> PassedSignals:
        for number in _PASSED_ON:
            try:
                self._before[number] = signal.signal(number, lambda got, _frame: self._pass_on(got))
            except ValueError:
                return self
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
