"""Host devices in containers: what ``devices`` and ``privileged`` name, looked up on this host."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from orchestrator.errors import NotFound, Unsupported
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.model import Service

# What the runtime makes itself, and what belongs to this host's session rather than to its hardware.
_SKIPPED: Final = frozenset(
    {"pts", "shm", "fd", "mqueue", "console", "stdin", "stdout", "stderr", "core", "ptmx", ".udev", "log"}
)


class DeviceNode(Record):
    """A device node to make in the container at `path`; `permissions` is a subset of ``rwm``."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    permissions: str = "rwm"

    def render_node(self) -> dict[str, Any]:
        """As an entry of ``linux.devices``."""
        return {
            "path": self.path,
            "type": self.kind,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }

    def render_rule(self) -> dict[str, Any]:
        """As an entry of ``linux.resources.devices``."""
        return {
            "allow": True,
            "type": self.kind,
            "major": self.major,
            "minor": self.minor,
            "access": self.permissions,
        }


def resolve_devices(service: Service) -> tuple[DeviceNode, ...]:
    """Look up the service's ``devices``; a directory stands for every device in it. NotFound names the attribute.

    Names of CDI devices are left to :mod:`.cdi`.
    """
    from orchestrator.engines.native.runtime.cdi import is_device_name

    found: list[DeviceNode] = []
    for index, device in enumerate(service.devices):
        path = f"services.{service.name}.devices[{index}]"
        if is_device_name(device.source):
            continue
        if not device.source.startswith("/"):
            raise Unsupported(
                f"{path}: {device.source!r} is neither a path nor the name of a CDI device",
                resource=device.source,
                operation="resolve devices",
                hint="write the device's path below /dev, or vendor.com/class=name",
            )
        try:
            info = os.stat(device.source)
        except OSError as error:
            raise NotFound(
                f"{path}: {device.source}: {error.strerror}",
                resource=device.source,
                operation="resolve devices",
                hint="the device must exist on this host before the container starts",
            ) from error
        if stat.S_ISDIR(info.st_mode):
            nodes = list(_walk(device.source, device.target or device.source, device.permissions))
        else:
            node = describe_device(info, device.target or device.source, device.permissions)
            nodes = [node] if node else []
        if not nodes:
            raise NotFound(
                f"{path}: {device.source} is not a device",
                resource=device.source,
                operation="resolve devices",
                hint="use volumes to share a file or a directory",
            )
        found += nodes
    return tuple(found)


def list_host_devices() -> tuple[DeviceNode, ...]:
    """Every device below ``/dev``: what a privileged container gets."""
    return tuple(sorted(_walk("/dev", "/dev", "rwm"), key=lambda one: one.path))


def resolve_block_devices(service: Service) -> dict[str, tuple[int, int]]:
    """The numbers of the block devices that ``blkio_config`` names."""
    numbers = {}
    for key, value in service.resources.blkio.items():
        if key == "weight":
            continue
        for index, entry in enumerate(value):
            path = entry["path"]
            try:
                info = os.stat(path)
            except OSError as error:
                raise NotFound(
                    f"services.{service.name}.blkio_config.{key}[{index}]: {path}: {error.strerror}",
                    resource=path,
                    operation="resolve devices",
                ) from error
            numbers[path] = (os.major(info.st_rdev), os.minor(info.st_rdev))
    return numbers


def _walk(folder: str, target: str, permissions: str) -> Iterator[DeviceNode]:
    try:
        entries = sorted(os.scandir(folder), key=lambda one: one.name)
    except OSError:
        return
    for entry in entries:
        if entry.name in _SKIPPED:
            continue
        inside = f"{target}/{entry.name}"
        try:
            if entry.is_symlink():
                continue
            if entry.is_dir():
                yield from _walk(entry.path, inside, permissions)
                continue
            node = describe_device(entry.stat(), inside, permissions)
        except OSError:  # unplugged between listing and looking
            continue
        if node:
            yield node


def describe_device(info: os.stat_result, path: str, permissions: str) -> DeviceNode | None:
    """The node that a container gets at `path` for the device `info`; None for what is no device."""
    if stat.S_ISCHR(info.st_mode):
        kind = "c"
    elif stat.S_ISBLK(info.st_mode):
        kind = "b"
    else:
        return None
    return DeviceNode(
        path=path,
        kind=kind,
        major=os.major(info.st_rdev),
        minor=os.minor(info.st_rdev),
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        permissions=permissions,
    )


def parse_device_rule(rule: str) -> Mapping[str, Any]:
    """Parse ``c 1:3 mr`` (``device_cgroup_rules``) into an entry of ``linux.resources.devices``. ValueError."""
    parts = rule.split()
    if len(parts) != 3 or parts[0] not in "abc" or set(parts[2]) - set("rwm"):
        raise ValueError(f"{rule!r} is not a device rule such as 'c 1:3 mr'")
    parsed: dict[str, Any] = {"allow": True, "type": parts[0], "access": parts[2]}
    major, colon, minor = parts[1].partition(":")
    if not colon:
        raise ValueError(f"{rule!r} is not a device rule such as 'c 1:3 mr'")
    if major != "*":
        parsed["major"] = int(major)
    if minor != "*":
        parsed["minor"] = int(minor)
    return parsed
