"""Real containers for tests: a busybox root file system, and launches that leave nothing behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.engines.base import ExecRequest, ExecResult
from orchestrator.engines.native import host
from orchestrator.engines.native.images.image import ImageConfig
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.runtime import bundle, cgroups, devices, monitor, process, seccomp, users
from orchestrator.engines.native.runtime.exec import Target, exec_captured
from orchestrator.engines.native.runtime.facts import HostFacts
from orchestrator.engines.native.runtime.logs import LogSource, read_logs
from orchestrator.engines.native.runtime.oci_runtime import Runtime
from orchestrator.model import Service

BUSYBOX = Path("/bin/busybox")
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
web:x:101:102:web:/srv:/bin/sh
"""
GROUP = """\
root:x:0:
web:x:102:
extra:x:103:web,other
log:x:104:
"""


def make_rootfs(folder: Path) -> Path:
    """A root file system of busybox alone, with users, and a home with an owner."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "root", "srv"):
        (folder / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    for name in os.popen(f"{BUSYBOX} --list").read().split():
        if name != "busybox":
            (folder / "bin" / name).symlink_to("busybox")
    (folder / "etc/passwd").write_text(PASSWD)
    (folder / "etc/group").write_text(GROUP)
    (folder / "tmp").chmod(0o1777)
    (folder / "root").chmod(0o700)
    os.chown(folder / "srv", 101, 102)
    return folder


class Box:
    """One container of a test: launched at once, ended and forgotten at the end."""

    def __init__(
        self, layout: Layout, runtime: Runtime, facts: HostFacts, layer: Path, service: Service, **options: Any
    ) -> None:
        self.layout, self.runtime, self.facts, self.service = layout, runtime, facts, service
        self.id = options.pop("container_id", f"{service.name}-{os.urandom(4).hex()}")
        self.image: ImageConfig = options.pop("image", ImageConfig())
        self.state = layout.container_state(self.id)
        self.rootfs = layout.container_run(self.id) / "rootfs"
        for folder in (self.state / "upper", self.state / "work", self.rootfs):
            folder.mkdir(parents=True, exist_ok=True)
        host.mount_overlay(
            [str(layer)], str(self.rootfs), upper=str(self.state / "upper"), work=str(self.state / "work")
        )
        self.log = self.state / "log"
        self.cgroup = cgroups.render_cgroups_path(layout.tag, self.id)
        self.options = options
        self.launched: monitor.Launched | None = None

    def config(self) -> dict[str, Any]:
        service = self.service
        capabilities = bundle.resolve_capabilities(service, self.facts.capabilities)
        options = dict(self.options)
        confined = not service.privileged and bundle.parse_security_options(service).seccomp != "unconfined"
        filter_ = seccomp.load_filter(str(self.layout.cache), capabilities, compiled=self.runtime.takes_bpf)
        namespaces = options.pop("namespaces", None)
        if namespaces is None:
            netns = None if service.network_mode == "host" else ""
            namespaces = bundle.plan_namespaces(service, netns, {}, unified=self.facts.cgroups.mode == "v2")
        return bundle.render_bundle(
            bundle.BundleSpec(
                service=service,
                image=self.image,
                container_id=self.id,
                rootfs=str(self.rootfs),
                hostname=service.hostname or "box",
                facts=self.facts,
                cgroups_path=self.cgroup,
                identity=users.resolve_identity(str(self.rootfs), service.user or self.image.user, service.group_add),
                namespaces=namespaces,
                seccomp=filter_ if confined else None,
                host_devices=devices.list_host_devices() if service.privileged else (),
                mounts=tuple(options.pop("mounts", ())),
                **options,
            )
        )

    def launch(self, *, start: bool = True) -> monitor.Launched:
        self.launched = monitor.launch(
            self.layout,
            self.runtime,
            monitor.LaunchSpec(
                container_id=self.id,
                config=self.config(),
                cgroups_path=self.cgroup,
                log_path=str(self.log),
                tty=self.service.tty,
                stdin_open=self.service.stdin_open,
                start=start,
                name=self.service.name,
            ),
        )
        return self.launched

    def wait(self, timeout: float = 60) -> monitor.ExitInfo:
        assert self.launched is not None
        assert process.wait_process(self.launched.pid, self.launched.start_time, timeout), "still running"
        assert process.wait_process(self.launched.monitor_pid, self.launched.monitor_start_time, timeout)
        info = monitor.read_exit(self.layout, self.id)
        assert info is not None
        return info

    def run(self) -> tuple[int, str]:
        """Launch, wait for the end; exit code and output."""
        self.launch()
        info = self.wait()
        return info.exit_code, self.output()

    def output(self) -> str:
        return "\n".join(line.text for line in read_logs([LogSource(path=str(self.log), container=self.id)]))

    def exec(self, *command: str, timeout: float = 60, **options: Any) -> ExecResult:
        target = Target(self.layout, self.runtime, self.id, self.service.name)
        return exec_captured(target, ExecRequest(command=command, **options), timeout=timeout)

    def target(self) -> Target:
        return Target(self.layout, self.runtime, self.id, self.service.name)

    def end(self) -> None:
        if not self.rootfs.exists():
            return
        process.end_processes(self.cgroup)
        if self.launched is not None:
            process.send_signal(self.launched.pid, self.launched.start_time, 9)
            process.wait_process(self.launched.pid, self.launched.start_time, 20)
            process.wait_process(self.launched.monitor_pid, self.launched.monitor_start_time, 20)
        self.runtime.forget(self.id, self.cgroup)
        host.unmount(str(self.rootfs))
        self.rootfs.rmdir()
        monitor.remove_traces(self.layout, self.id)


BoxMaker = Callable[..., Box]
