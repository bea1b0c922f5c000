"""The OCI runtime: crun if it works on this host, else runc. Probed once and remembered.

crun 1.8 refuses a hybrid control group set-up that keeps a controller in its v2 part. There it runs in a mount
namespace of its own in which the v2 part is covered; the host is not touched.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.native import host
from orchestrator.engines.native.runtime.cgroups import CgroupFacts, remove_cgroup
from orchestrator.engines.native.spawn import Finished, find_program, run
from orchestrator.errors import EngineError, Unavailable
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout

_CANDIDATES: Final = ("crun", "runc")
_INSTALL_HINT: Final = "install one: apt-get install crun"


class Runtime(Record):
    """A runtime that works here. `root` is where it keeps its state; `covered` says that it needs a covered view."""

    name: str
    path: str
    root: str
    covered: bool = False

    @property
    def takes_bpf(self) -> bool:
        """Whether it can be given a compiled system call filter."""
        return self.name == "crun"

    def render_command(self, *arguments: str, view: int | None = None, program: str | None = None) -> list[str]:
        """The argument vector of a runtime command; `view` is what :func:`open_view` returned.

        `program` is what :func:`.sealed.lend_program` lends of it.
        """
        command = [program or self.path, "--root", self.root, *arguments]
        if view is not None:
            # By our pid: whoever runs this (the monitor's child) does not have our descriptors.
            command = [_NSENTER, f"--mount=/proc/{os.getpid()}/fd/{view}", *command]
        return command

    def open_view(self) -> int | None:
        """A descriptor of the mount namespace to create containers in; None for our own. The caller closes it.

        It is made anew each time: a kept one would miss what is mounted on the host later, and hold what is unmounted.
        """
        return host.call_in_thread(_cover_unified) if self.covered else None

    def start(self, container_id: str) -> None:
        """Start a created container."""
        self._check(run(self.render_command("start", container_id)), container_id, "start container")

    def update(self, container_id: str, resources: Mapping[str, Any]) -> None:
        """Change the limits of a running container; `resources` is ``linux.resources``."""
        import json

        read, write = os.pipe2(os.O_CLOEXEC)
        try:
            os.write(write, json.dumps(resources).encode())
            os.close(write)
            finished = run(self.render_command("update", "--resources", "/dev/stdin", container_id), {0: read})
        finally:
            os.close(read)
        self._check(finished, container_id, "update container")

    def forget(self, container_id: str, cgroups_path: str) -> None:
        """Drop the state of a container that has ended: what ``delete`` does, without starting a process for it."""
        _remove_state(f"{self.root}/{container_id}")
        remove_cgroup(cgroups_path)

    def knows(self, container_id: str) -> bool:
        """Whether there is state of that container, running or not."""
        return os.path.exists(f"{self.root}/{container_id}")

    def read_process(self, container_id: str) -> tuple[int, int] | None:
        """Pid and start time (clock ticks since boot) of the container's process, as the runtime remembers them."""
        import json

        names = (("status", "pid", "process-start-time"), ("state.json", "init_process_pid", "init_process_start"))
        for name, pid, start in names:
            try:
                with open(f"{self.root}/{container_id}/{name}") as file:
                    state = json.load(file)
                return int(state[pid]), int(state[start])
            except (OSError, ValueError, KeyError):
                continue
        return None

    def _check(self, finished: Finished, container_id: str, operation: str) -> None:
        if finished.exit_code != 0:
            from orchestrator.engines.native.runtime.runtime_errors import explain_failure

            raise explain_failure(finished.output, container_id, operation)


def forget_container(layout: Layout, container_id: str, cgroups_path: str) -> None:
    """:meth:`Runtime.forget` for whichever runtime it was, even where none works any longer."""
    for name in _CANDIDATES:
        _remove_state(f"{layout.run}/{name}/{container_id}")
    remove_cgroup(cgroups_path)


def _remove_state(folder: str) -> None:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        try:
            os.unlink(f"{folder}/{name}")
        except OSError:
            from shutil import rmtree

            rmtree(f"{folder}/{name}", ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):  # another process gives the same back
        os.rmdir(folder)


_NSENTER: Final = "/usr/bin/nsenter"


def _cover_unified() -> int:
    host.unshare(host.CLONE_NEWNS | host.CLONE_FS)
    # Private first, or on a host with shared mounts the cover would spread to it.
    host.mount(None, "/sys/fs/cgroup", None, host.MS_REC | host.MS_PRIVATE)
    host.mount("tmpfs", "/sys/fs/cgroup/unified", "tmpfs", 0, "size=64k,mode=755")
    return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def load_runtime(layout: Layout, facts: CgroupFacts, wanted: str | None = None) -> Runtime:
    """The runtime to use: `wanted` (a name or a path), else the first of crun and runc that works.

    The probe's result is remembered per boot and per installed version. Unavailable: none is installed, or none works,
    with what each of them said.
    """
    import json

    found = {}
    for name in (wanted,) if wanted else _CANDIDATES:
        path = find_program(name)
        if path is not None:
            info = os.stat(path)
            found[path] = [info.st_mtime_ns, info.st_size]
    if not found:
        missing = f"the runtime {wanted!r} is not installed" if wanted else "neither crun nor runc is installed"
        raise Unavailable(missing, resource=wanted or "crun", operation="find runtime", hint=_INSTALL_HINT)
    key = json.dumps([found, _read_boot_id(), facts.mode, facts.stray, os.geteuid(), str(layout.run)])
    memory = f"{layout.cache}/runtime{'-' + os.path.basename(wanted) if wanted else ''}.json"
    runtime = _recall(memory, key)
    if runtime is not None:
        return runtime
    from fcntl import LOCK_EX, flock

    os.makedirs(layout.cache, exist_ok=True)
    # One at a time, of threads too: a probe that meets another would say of a runtime that it does not work.
    lock = os.open(f"{memory}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        flock(lock, LOCK_EX)
        runtime = _recall(memory, key) or _probe_all(layout, facts, list(found))
        beside = f"{memory}.{os.getpid()}"
        with open(beside, "w") as file:
            json.dump({"key": key, **{name: getattr(runtime, name) for name in runtime._fields}}, file)
        os.replace(beside, memory)
    finally:
        os.close(lock)
    return runtime


def load_owner(layout: Layout, facts: CgroupFacts, container_id: str, wanted: str | None = None) -> Runtime:
    """The runtime that holds a container: that of :func:`load_runtime`, unless another was the one when it was made.

    Raises what :func:`load_runtime` raises.
    """
    runtime = load_runtime(layout, facts, wanted)
    if runtime.knows(container_id):
        return runtime
    for name in _CANDIDATES:
        path, root = find_program(name), f"{layout.run}/{name}"
        if path is not None and os.path.exists(f"{root}/{container_id}"):
            return Runtime(name=name, path=path, root=root)
    return runtime


def _recall(memory: str, key: str) -> Runtime | None:
    import json

    try:
        with open(memory) as file:
            known = json.load(file)
        if known["key"] == key:
            return Runtime(name=known["name"], path=known["path"], root=known["root"], covered=known["covered"])
    except (OSError, ValueError, KeyError):
        pass
    return None


def _read_boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _probe_all(layout: Layout, facts: CgroupFacts, paths: Sequence[str]) -> Runtime:
    said = []
    for path in paths:
        name = "crun" if "crun" in os.path.basename(path) else "runc"
        root = f"{layout.run}/{name}"
        variants = [False]
        if name == "crun" and facts.mode == "hybrid" and facts.stray and os.path.exists(_NSENTER):
            variants = [True]
        for covered in variants:
            runtime = Runtime(name=name, path=path, root=root, covered=covered)
            failure = _probe(runtime, layout)
            if failure is None:
                return runtime
            said.append(f"{path}: {failure}")
    raise Unavailable(
        "no OCI runtime works on this host\n" + "\n".join(said), operation="probe runtime", hint=_INSTALL_HINT
    )


def _probe(runtime: Runtime, layout: Layout) -> str | None:
    """Run a command that does not exist: a runtime that says just that has got as far as any container needs."""
    import json
    from tempfile import TemporaryDirectory

    os.makedirs(layout.run, exist_ok=True)
    name = f"probe-{os.getpid()}"
    # Not below the containers' group: nobody would remove that if no container is ever made.
    group = f"/{'stack-' + layout.tag if layout.tag else 'stack'}-{name}"
    config = {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["/no-such-program"], "env": ["PATH=/"], "user": {"uid": 0, "gid": 0}},
        # Its own /dev: the run directory is often mounted nodev, and runc opens /dev/null.
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        ],
        "linux": {
            "cgroupsPath": group,
            "namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }
    with TemporaryDirectory(prefix="probe-", dir=layout.run) as folder:
        os.mkdir(f"{folder}/rootfs")
        with open(f"{folder}/config.json", "w") as file:
            json.dump(config, file)
        view = runtime.open_view()
        try:
            finished = run(runtime.render_command("run", "--bundle", folder, name, view=view))
        except OSError as error:
            raise EngineError(f"{runtime.path} cannot be started: {error}", operation="probe runtime") from error
        finally:
            if view is not None:
                os.close(view)
            runtime.forget(name, group)
    text = finished.output.lower()
    if "not found" in text or "no such file" in text:
        return None
    return finished.output.strip() or f"exit code {finished.exit_code}"
