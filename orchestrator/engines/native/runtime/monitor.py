"""conmon, the process that holds a container's stdio, writes its log and collects its exit code, and survives us.

Everything about one run of a container lies in its run folder: ``config.json``, ``pid``, ``monitor.pid``, ``process``
(pid and start time of both), the sockets ``attach`` and ``ctl``. Exit codes are files in one folder of all containers,
so that one watch sees every end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.native import host
from orchestrator.engines.native.files.rootfs import prepare_root
from orchestrator.engines.native.runtime.cgroups import hasten_attaching
from orchestrator.engines.native.runtime.sealed import lend_program
from orchestrator.engines.native.spawn import find_program, spawn
from orchestrator.errors import Conflict, EngineError, Unavailable
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.runtime.oci_runtime import Runtime

_START_LIMIT: Final = 120.0
"""Seconds after which a start that says nothing has failed; a loaded disk can hold a mount up for long."""


class LaunchSpec(Record):
    """How to launch a container whose ``config`` is rendered and whose root file system is mounted.

    `log_path` None keeps no output. Without `start` the process waits before its first instruction until
    :meth:`Runtime.start`, so that somebody can attach and miss nothing. `stdin_once` closes its input with the
    first one that was attached. `name` is for messages.
    """

    container_id: str
    config: Mapping[str, Any]
    cgroups_path: str
    log_path: str | None = None
    tty: bool = False
    stdin_open: bool = False
    stdin_once: bool = False
    start: bool = True
    name: str = ""


class Launched(Record):
    """A container that runs. Start times are clock ticks since boot; with its pid each names one process for ever.

    `start_time` is 0 when the process has ended already.
    """

    pid: int
    start_time: int
    monitor_pid: int
    monitor_start_time: int


class ExitInfo(Record):
    """How a container ended. `lost` says that its monitor was killed first: nobody knows the code, 255 stands in."""

    container_id: str
    exit_code: int
    finished_at: float
    oom_killed: bool = False
    lost: bool = False


def exits_folder(layout: Layout) -> str:
    """The folder of exit files, one for each container, named by its id."""
    return f"{layout.run}/exits"


def launch(layout: Layout, runtime: Runtime, spec: LaunchSpec) -> Launched:
    """Write the bundle, start monitor and container, return when its process runs (or waits, without ``start``).

    What an earlier run left is removed first. Conflict: it runs already. StartFailed: the runtime's own message,
    understood, with the exit code that ``exec`` would give (126, 127). Unavailable: no conmon.
    """
    import json

    conmon = find_program("conmon")
    if conmon is None:
        raise Unavailable(
            "conmon is not installed", resource="conmon", operation="start container", hint="apt-get install conmon"
        )
    folder, name = str(layout.container_run(spec.container_id)), spec.name or spec.container_id
    known = observe_process(layout, spec.container_id)
    if known is not None and known.alive:
        raise Conflict(f"{name} is running already", resource=name, operation="start container")
    hasten_attaching()
    _clear(layout, folder, spec.container_id)
    if runtime.knows(spec.container_id):
        runtime.forget(spec.container_id, spec.cgroups_path)
    prepare_root(spec.config)
    with open(f"{folder}/config.json", "w") as file:
        # Not json.dump: that one is written in Python.
        file.write(json.dumps(spec.config, separators=(",", ":")))
    view = runtime.open_view()
    try:
        with lend_program(runtime.path) as program:
            command = _render_command(layout, runtime, spec, conmon, folder, view, program)
            pid = _start_monitor(command, folder, name)
    except BaseException:
        if runtime.knows(spec.container_id):
            _end_leftovers(runtime, spec)
        else:
            from orchestrator.engines.native.runtime.cgroups import remove_cgroup

            remove_cgroup(spec.cgroups_path)
        raise
    finally:
        if view is not None:
            os.close(view)
    with open(f"{folder}/monitor.pid") as file:
        monitor = int(file.read())
    launched = Launched(
        pid=pid,
        start_time=host.read_start_time(pid) or 0,
        monitor_pid=monitor,
        monitor_start_time=host.read_start_time(monitor) or 0,
    )
    _write(f"{folder}/process", " ".join(str(getattr(launched, field)) for field in Launched._fields))
    return launched


def _render_command(
    layout: Layout, runtime: Runtime, spec: LaunchSpec, conmon: str, folder: str, view: int | None, program: str
) -> list[str]:
    exits = exits_folder(layout)
    os.makedirs(exits, exist_ok=True)
    command = [conmon, "--api-version", "1", "--cid", spec.container_id, "--cuuid", spec.container_id]
    command += ["--name", spec.container_id, "--bundle", folder, "--full-attach", "--persist-dir", folder]
    command += ["--container-pidfile", f"{folder}/pid", "--conmon-pidfile", f"{folder}/monitor.pid"]
    command += ["--exit-dir", exits, "--log-path", f"k8s-file:{spec.log_path}" if spec.log_path else "none"]
    command += ["--log-level", "error", "--no-sync-log"]
    if spec.tty:
        command.append("--terminal")
    if spec.stdin_open:
        command += ["--stdin"] if spec.stdin_once else ["--stdin", "--leave-stdin-open"]
    arguments = runtime.render_command(view=view, program=program)
    if spec.start:
        # conmon says "create"; made the value of an option that it gives again afterwards, the word does no harm, and
        # "run" creates and starts in one process: a third faster than "create", then "start".
        arguments += ["run", "--detach", "--pid-file"]
    command += ["--runtime", arguments[0]]
    for argument in arguments[1:]:
        command += ["--runtime-arg", argument]
    return command


def _start_monitor(command: list[str], folder: str, name: str) -> int:
    """Start conmon and return the container's pid, as told through its sync pipe."""
    import json
    from select import POLLIN, poll

    read, write = os.pipe2(os.O_CLOEXEC)
    errors = os.memfd_create("conmon-errors", os.MFD_CLOEXEC)

    def start() -> int:
        # It writes a file "oom" into the folder that it is started in, whatever else it is told.
        host.unshare(host.CLONE_FS)
        os.chdir(folder)
        return spawn(command, {3: write, 2: errors}, env=_render_environment())

    try:
        try:
            child = host.call_in_thread(start)
        finally:
            os.close(write)
        answer = b""
        waiter = poll()
        waiter.register(read, POLLIN)
        while not answer.endswith(b"\n"):
            if not waiter.poll(_START_LIMIT * 1000):
                os.kill(child, 9)
                break
            part = os.read(read, 65536)
            if not part:
                break
            answer += part
        # conmon's first process has made itself a daemon and ended; this only collects it.
        os.waitpid(child, 0)
        said = os.pread(errors, 65536, 0).decode("utf-8", "replace")
    finally:
        os.close(read)
        os.close(errors)
    try:
        result = json.loads(answer)
    except ValueError:
        raise EngineError(
            f"{name}: conmon ended without an answer: {said.strip() or 'no message'}",
            resource=name,
            operation="start container",
        ) from None
    if result["data"] > 0:
        return int(result["data"])
    from orchestrator.engines.native.runtime.runtime_errors import explain_failure

    raise explain_failure(result.get("message") or said, name, "start container")


def _render_environment() -> dict[str, str]:
    keep = ("PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "TMPDIR")
    env = {name: os.environ[name] for name in keep if name in os.environ}
    env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {**env, "_OCI_SYNCPIPE": "3"}


def _end_leftovers(runtime: Runtime, spec: LaunchSpec) -> None:
    """A start that failed half-way may have left a process."""
    from orchestrator.engines.native.runtime.process import end_processes

    end_processes(spec.cgroups_path)
    runtime.forget(spec.container_id, spec.cgroups_path)


def _clear(layout: Layout, folder: str, container_id: str) -> None:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    stale = [f"{folder}/{name}" for name in os.listdir(folder) if name in _OWN_FILES]
    stale.append(f"{exits_folder(layout)}/{container_id}")
    for path in stale:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue


_OWN_FILES: Final = ("pid", "monitor.pid", "process", "attach", "ctl", "winsz", "oom", "exit", "shm-oom")


def remove_traces(layout: Layout, container_id: str) -> None:
    """Remove what :func:`launch` and conmon left in the run directory; the folder too, when nothing else is in it."""
    folder = str(layout.container_run(container_id))
    try:
        names = os.listdir(folder)
    except FileNotFoundError:  # another process gives the same back
        names = []
    for name in names:
        if name.startswith("exec-"):
            from shutil import rmtree

            rmtree(f"{folder}/{name}", ignore_errors=True)
            continue
        # Every file, and not those alone that have names: a writer that was killed leaves temporary ones.
        with suppress(OSError):
            os.unlink(f"{folder}/{name}")
    with suppress(OSError):
        os.rmdir(folder)
    _remove_exits(layout, container_id)


def _remove_exits(layout: Layout, container_id: str) -> None:
    exits = exits_folder(layout)
    with suppress(FileNotFoundError):
        os.unlink(f"{exits}/{container_id}")
    with suppress(FileNotFoundError):
        for name in os.listdir(exits):
            # conmon writes into a temporary file first, and it may have been killed then.
            if name.startswith(f"{container_id}."):
                with suppress(FileNotFoundError):
                    os.unlink(f"{exits}/{name}")


def read_exit(layout: Layout, container_id: str) -> ExitInfo | None:
    """How the container's last run ended; None while it runs, was never started, or its monitor was killed."""
    path = f"{exits_folder(layout)}/{container_id}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        text, moment = os.read(fd, 64), os.fstat(fd).st_mtime
    finally:
        os.close(fd)
    if not text.strip():
        return None
    oom = os.path.exists(f"{layout.container_run(container_id)}/oom")
    return ExitInfo(container_id=container_id, exit_code=int(text), finished_at=moment, oom_killed=oom)


class ProcessState(Record):
    """The processes of a container's last run. `alive` and `monitored` hold now, for exactly those processes."""

    pid: int
    start_time: int
    monitor_pid: int
    monitor_start_time: int
    alive: bool
    monitored: bool


def observe_process(layout: Layout, container_id: str) -> ProcessState | None:
    """Look at the container's processes; None when it was not launched since boot.

    A launch that was killed before it wrote its notes is found by conmon's pid files.
    """
    folder = str(layout.container_run(container_id))
    noted = _read(f"{folder}/process")
    if noted:
        pid, start, monitor, monitor_start = (int(one) for one in noted.split())
    else:
        text, monitor_text = _read(f"{folder}/pid"), _read(f"{folder}/monitor.pid")
        if not text and not monitor_text:
            return None
        pid, monitor = int(text or 0), int(monitor_text or 0)
        start = _read_start_of(pid, container_id, layout) if pid else 0
        monitor_start = _read_start_of(monitor, container_id, layout) if monitor else 0
    return ProcessState(
        pid=pid,
        start_time=start,
        monitor_pid=monitor,
        monitor_start_time=monitor_start,
        alive=bool(start) and host.read_start_time(pid) == start,
        monitored=bool(monitor_start) and host.read_start_time(monitor) == monitor_start,
    )


def _read_start_of(pid: int, container_id: str, layout: Layout) -> int:
    """The start time of a process known only by pid, if it is still the one: it carries the container's id."""
    command = _read(f"/proc/{pid}/cmdline") or ""
    if container_id not in command and container_id not in (_read(f"/proc/{pid}/cgroup") or ""):
        return 0
    return host.read_start_time(pid) or 0


def resize_terminal(layout: Layout, container_id: str, rows: int, columns: int) -> None:
    """Tell the container's terminal its size; a container that is gone is success."""
    _write_control(layout, container_id, f"1 {rows} {columns}\n")


def reopen_log(layout: Layout, container_id: str) -> bool:
    """Make the monitor open its log file anew, after a rotation has moved it. False when no monitor listens."""
    return _write_control(layout, container_id, "2 0 0\n")


def _write_control(layout: Layout, container_id: str, message: str) -> bool:
    try:
        fd = os.open(f"{layout.container_run(container_id)}/ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # ENXIO: nobody reads
        return False
    try:
        os.write(fd, message.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _read(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 65536).decode("utf-8", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(fd)


def _write(path: str, text: str) -> None:
    with open(f"{path}.new", "w") as file:
        file.write(text)
    os.replace(f"{path}.new", path)
