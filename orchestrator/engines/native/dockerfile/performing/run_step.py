"""RUN: one command in a container of its own, by the OCI runtime alone; no monitor, the build itself waits for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orchestrator.engines.native import host
from orchestrator.engines.native.dockerfile.performing.build_network import BuildNetwork, render_build_resolv_conf
from orchestrator.engines.native.dockerfile.performing.layering import Bench, call_with_mounts, mount_bench, open_bench
from orchestrator.engines.native.dockerfile.performing.leftovers import end_run, forget_run, render_build_group
from orchestrator.engines.native.dockerfile.performing.mount_points import MountPoints
from orchestrator.engines.native.dockerfile.performing.run_mounts import (
    MountRequest,
    OpenOrigin,
    PreparedMounts,
    prepare_run_mounts,
)
from orchestrator.engines.native.dockerfile.performing.run_output import OutputPipe
from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.engines.native.files.rootfs import prepare_root
from orchestrator.engines.native.images.content import Cancel, check_cancel
from orchestrator.engines.native.images.image import ImageConfig
from orchestrator.engines.native.network.dns_zone import render_hosts
from orchestrator.engines.native.runtime.bundle import (
    DEFAULT_PATH,
    BundleSpec,
    plan_namespaces,
    render_bundle,
    resolve_capabilities,
)
from orchestrator.engines.native.runtime.devices import list_host_devices
from orchestrator.engines.native.runtime.facts import RLIMITS, HostFacts
from orchestrator.engines.native.runtime.oci_runtime import Runtime
from orchestrator.engines.native.runtime.seccomp import load_filter
from orchestrator.engines.native.runtime.users import Identity, resolve_identity
from orchestrator.engines.native.spawn import spawn
from orchestrator.errors import NotFound
from orchestrator.model import Service
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import RunStep
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.engines.native.layout import Layout

_HOSTNAME: Final = "build"
_SHOWN: Final = 40
"""Lines of output that a failure repeats."""
_KEPT: Final = 16384
_FILES: Final = 64
"""Open files from which on the runtime has enough for itself, and the least that is worth naming."""
_OUT_OF_FILES: Final = ("Too many open files", "cgroup.procs`: No space left on device")
_CANCEL_POLL: Final = 100
"""Milliseconds between two looks at whether the build was cancelled, while a command says nothing."""

Output = Callable[[str, str], None]
"""Takes ``stdout`` or ``stderr`` and text as it came."""


class RunSurroundings(Record):
    """What all RUN steps of one build share. `runs` is the folder where running commands are noted."""

    layout: Layout
    request: BuildRequest
    runtime: Runtime
    facts: HostFacts
    network: BuildNetwork
    runs: Path
    caches: Path
    secrets: Mapping[str, Any]
    ssh: Mapping[str, Any]


class RunFailed(BuildError):
    """The command of a RUN ended with `exit_code`; `output` is the last that it said."""

    code = "build-step-failed"

    def __init__(self, step: RunStep, exit_code: int, output: str) -> None:
        said = f"exit code {exit_code}"
        if exit_code > 128:
            import signal

            with suppress(ValueError):
                said = f"{said} ({signal.Signals(exit_code - 128).name})"
        super().__init__(f"{step.text}: {said}", location=step.location)
        self.exit_code = exit_code
        self.output = output


def perform_run(
    step: RunStep,
    bench: Bench,
    lower: Sequence[Path],
    surroundings: RunSurroundings,
    *,
    output: Output,
    on_wait: Callable[[str], None],
    open_origin: OpenOrigin,
    cancel: Cancel,
) -> None:
    """Run the command over `lower`; what it wrote is in ``bench.upper`` when this returns.

    Raises RunFailed, BuildError for what the step asks for and cannot have, TransferCancelled.
    """

    def perform(place: _Place) -> None:
        with ExitStack() as keep:
            if surroundings.runtime.covered:
                # See Runtime.open_view; here the namespace is our own already.
                host.mount("tmpfs", "/sys/fs/cgroup/unified", "tmpfs", 0, "size=64k,mode=755")
            open_bench(bench)
            # Sources of mounts may be large: they stand on the disk.
            mounts = bench.folder / "mounts"
            if step.mounts or step.files:
                mounts.mkdir(mode=0o700)
            request = MountRequest(
                step=step,
                folder=mounts,
                caches=surroundings.caches,
                secrets=surroundings.secrets,
                ssh=surroundings.ssh,
                open_origin=open_origin,
                keep=keep,
                cancel=cancel,
                on_wait=on_wait,
            )
            _Run(step, bench, lower, surroundings, prepare_run_mounts(request), place, output, cancel).perform()

    with ExitStack() as connected:
        # Before the step has a mount namespace of its own: network namespaces are held by mounts.
        place = _connect(step, surroundings, connected, cancel)
        call_with_mounts(lambda: perform(place))


class _Place(NamedTuple):
    """Where in the network a command is: its namespace (empty: a new one, or the host's) and its address there."""

    mode: str
    netns: str = ""
    address: str = ""


def _connect(step: RunStep, surroundings: RunSurroundings, keep: ExitStack, cancel: Cancel) -> _Place:
    mode = step.network if step.network != "default" else surroundings.request.network
    if mode in ("none", "host"):
        return _Place(mode)
    network = surroundings.network
    place = network.take(cancel)
    privileged = step.security == "insecure" or surroundings.request.privileged
    keep.callback(network.give, place, changed=privileged)
    return _Place(mode, str(place.netns), place.address)


class _Run:
    def __init__(
        self,
        step: RunStep,
        bench: Bench,
        lower: Sequence[Path],
        surroundings: RunSurroundings,
        prepared: PreparedMounts,
        place: _Place,
        output: Output,
        cancel: Cancel,
    ) -> None:
        self._step = step
        self._bench = bench
        self._lower = lower
        self._around = surroundings
        self._prepared = prepared
        self._place = place
        self._output = output
        self._cancel = cancel
        self._id = f"build-{os.urandom(8).hex()}"
        self._cgroup = f"{render_build_group(surroundings.layout, surroundings.runs.name)}/{self._id}"
        self._privileged = step.security == "insecure" or surroundings.request.privileged

    def perform(self) -> None:
        mounts = [*self._prepared.mounts, *self._render_etc()]
        self._lay_floor([one["destination"] for one in mounts], mounts)
        mount_bench(self._bench, self._lower)
        try:
            config = self._render(mounts)
            stubs = MountPoints(self._bench.root)
            stubs.note(mounts)
            prepare_root(config)
            try:
                code, said, tail = self._execute(config)
            finally:
                stubs.clear()
        finally:
            host.unmount(str(self._bench.root))
        check_cancel(self._cancel)
        if said:
            from orchestrator.engines.native.runtime.runtime_errors import explain_failure

            self._check_files(said)
            failure = explain_failure(said, self._step.text, "build")
            raise BuildError(failure.message, location=self._step.location, hint=failure.hint, code="build-step-failed")
        if code != 0:
            raise RunFailed(self._step, code, tail)

    def _check_files(self, said: str) -> None:
        """The runtime sets the command's limits before it has done its own work. Raises BuildError."""
        limit = self._around.request.ulimits.get("nofile")
        if limit is None or limit.soft < 0 or limit.soft >= _FILES or not any(one in said for one in _OUT_OF_FILES):
            return
        raise BuildError(
            f"{self._step.text}: the limit of {limit.soft} open files (nofile) is too low for the container runtime",
            location=self._step.location,
            hint=f"it needs some 30 of them itself before the command begins: give nofile {_FILES} or more",
            code="build-step-failed",
        )

    def _render_etc(self) -> list[Mapping[str, Any]]:
        """Files of the command's own: whatever it writes there, the layer does not have it."""
        mode, address = self._place.mode, self._place.address
        gateway = self._around.network.gateway if address else "127.0.0.1"
        hosts = render_hosts(_HOSTNAME, [address or "127.0.0.1"], self._around.request.extra_hosts, gateways=[gateway])
        resolv = _read_host_resolv() if mode == "host" else render_build_resolv_conf()
        texts = {"hosts": hosts, "resolv.conf": resolv}
        mounts: list[Mapping[str, Any]] = []
        for name, text in texts.items():
            path = self._bench.memory / name
            path.write_text(text)
            os.chmod(path, 0o644)
            options = ["rbind", "rprivate", "rw", "nosuid", "nodev"]
            mounts.append({"destination": f"/etc/{name}", "type": "bind", "source": str(path), "options": options})
        return mounts

    def _lay_floor(self, targets: Sequence[str], mounts: Sequence[Mapping[str, Any]]) -> None:
        """Mount points below all layers: they show where the image has nothing, and never get into its layer."""
        floor = self._bench.floor
        for name in ("dev", "proc", "sys", "etc"):
            (floor / name).mkdir(mode=0o755)
        for target, mount in zip(targets, mounts, strict=True):
            path = floor / target.strip("/")
            if target.startswith(("/dev/", "/proc/", "/sys/")) or path.exists() or ".." in path.parts:
                continue
            with suppress(OSError):
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                if mount["type"] == "bind" and not os.path.isdir(mount["source"]):
                    path.touch(mode=0o644)
                else:
                    path.mkdir(mode=0o755)

    def _render(self, mounts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        step, request, facts = self._step, self._around.request, self._around.facts
        root = str(self._bench.root)
        identity = self._resolve_user(root)
        service = Service(
            name="build",
            command=step.argv,
            working_dir=step.working_dir or "/",
            privileged=self._privileged,
            shm_size=request.shm_size,
            ulimits=request.ulimits,
        )
        namespaces = plan_namespaces(service, self._place.netns or None, {}, unified=facts.cgroups.mode == "v2")
        if self._place.mode == "none":
            namespaces["network"] = ""
        runtime = self._around.runtime
        held = resolve_capabilities(service, facts.capabilities)
        cache = str(self._around.layout.cache)
        config = render_bundle(
            BundleSpec(
                service=service,
                image=ImageConfig(),
                container_id=self._id,
                rootfs=root,
                hostname=_HOSTNAME,
                facts=facts,
                cgroups_path=self._cgroup,
                identity=identity,
                namespaces=namespaces,
                mounts=tuple(mounts),
                seccomp=None if self._privileged else load_filter(cache, held, compiled=runtime.takes_bpf),
                host_devices=list_host_devices() if self._privileged else (),
            )
        )
        variables = {"PATH": DEFAULT_PATH, **step.environment, **self._prepared.environment}
        variables.setdefault("HOME", identity.home)
        config["process"]["env"] = [f"{name}={value}" for name, value in variables.items()]
        self._make_working_dir(root, identity)
        return config

    def _resolve_user(self, root: str) -> Identity:
        try:
            return resolve_identity(root, self._step.user, path="USER")
        except NotFound as error:
            raise BuildError(error.message, location=self._step.location, hint=error.hint) from error

    def _make_working_dir(self, root: str, identity: Identity) -> None:
        """A base image may name a directory that it does not have."""
        from orchestrator.engines.native.dockerfile.sources.views import resolve_in_root

        path = resolve_in_root(root, self._step.working_dir or "/", missing_ok=True)
        made = root
        for part in path.split("/"):
            made = f"{made}/{part}"
            if part and not os.path.isdir(made):
                os.mkdir(made, 0o755)
                os.chmod(made, 0o755)
                os.chown(made, identity.uid, identity.gid)

    def _execute(self, config: Mapping[str, Any]) -> tuple[int, str, str]:
        """Run it; the exit code, what the runtime complains about if it could not, and the end of the output."""
        import json

        folder = self._around.runs / self._id
        folder.mkdir(mode=0o700, parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        log = folder / "log"
        runtime = self._around.runtime
        command = runtime.render_command("--log", str(log), "run", "--bundle", str(folder), self._id)
        out, err = OutputPipe("stdout"), OutputPipe("stderr")
        try:
            try:
                pid = spawn(command, {1: out.write, 2: err.write}, new_session=True)
            finally:
                out.close_write()
                err.close_write()
            try:
                tail = self._follow(out, err)
            except BaseException:
                end_run(self._id, self._cgroup, pid)
                raise
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        finally:
            out.close_read()
            err.close_read()
            forget_run(self._around.layout, self._id, self._cgroup)
        said = log.read_text(errors="replace").strip() if code and log.exists() else ""
        from orchestrator.engines.native.images.content import remove_tree

        remove_tree(folder)
        return (128 - code if code < 0 else code), said, tail

    def _follow(self, *streams: OutputPipe) -> str:
        from select import POLLHUP, POLLIN, poll

        waiter = poll()
        waiting = {one.read: one for one in streams}
        for descriptor in waiting:
            waiter.register(descriptor, POLLIN | POLLHUP)
        tail = ""
        while waiting:
            ready = waiter.poll(_CANCEL_POLL)
            check_cancel(self._cancel)
            for descriptor, _events in ready:
                stream = waiting[descriptor]
                text, over = stream.take()
                if text:
                    self._output(stream.name, text)
                    tail = (tail + text)[-_KEPT:]
                if over:
                    waiter.unregister(descriptor)
                    del waiting[descriptor]
        return "\n".join(tail.splitlines()[-_SHOWN:])


def check_limits(request: BuildRequest) -> None:
    """Refuse limits that do not exist. Raises BuildError."""
    for name in request.ulimits:
        if name not in RLIMITS:
            raise BuildError(f"there is no limit {name!r}", hint=f"one of: {', '.join(RLIMITS)}")


def _read_host_resolv() -> str:
    from orchestrator.engines.native.network.naming import read_host_resolv

    return read_host_resolv()


__all__ = [
    "RunFailed",
    "RunSurroundings",
    "check_limits",
    "perform_run",
]
