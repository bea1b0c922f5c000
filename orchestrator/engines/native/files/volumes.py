"""Storage of a container: named volumes with copy-up from the image, binds, tmpfs, images, secrets and configs.

What is mounted is handed to the runtime as OCI mounts; it makes the mount points inside the root file system, where
links of the image cannot lead it out. Only what the runtime cannot do is done here: folders, copies, checks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.native import host
from orchestrator.engines.native.files.volume_data import create_volume, fill_volume
from orchestrator.errors import Diagnostic, EngineError, NotFound, Unsupported
from orchestrator.record import Record
from orchestrator.source import SourceMap, render_path

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout
    from orchestrator.model import FileMount, FileSource, Service, VolumeMount

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_PROPAGATIONS: Final = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


class MountRequest(Record):
    """What a container is to find mounted, with everything looked up.

    `volume_names` gives the engine's volume name for each mount target, anonymous volumes and those that the image
    declares included; `volume_options` the ``driver_opts`` by volume name; `image_layers` the layers (topmost first) of
    each image that is mounted as a volume.
    """

    service: Service
    container_id: str
    rootfs: str
    image_volumes: tuple[str, ...] = ()
    volume_names: Mapping[str, str] = _NOTHING
    volume_options: Mapping[str, Mapping[str, str]] = _NOTHING
    image_layers: Mapping[str, Sequence[str]] = _NOTHING
    secrets: Mapping[str, FileSource] = _NOTHING
    configs: Mapping[str, FileSource] = _NOTHING


def prepare_mounts(
    layout: Layout, request: MountRequest, sources: SourceMap | None = None
) -> tuple[list[dict[str, Any]], list[Diagnostic]]:
    """Make ready and render every mount of the service: volumes, tmpfs, secrets, configs. Idempotent.

    NotFound, Unsupported and EngineError name the attribute. Undo the mounts made here with :func:`release_mounts`.
    """
    service, warnings = request.service, list[Diagnostic]()
    found: dict[str, dict[str, Any]] = {}
    for target in request.image_volumes:
        name = request.volume_names.get(target)
        if name is not None:
            source = create_volume(layout, name)
            fill_volume(layout, name, request.rootfs, target)
            found[_normal(target)] = _bind(target, source, "rbind", "rw", "rprivate")
    for index, text in enumerate(service.tmpfs):
        target, _, options = text.partition(":")
        path = f"services.{service.name}.tmpfs[{index}]"
        flags = [one for one in options.split(",") if one]
        found[_normal(target)] = _render_tmpfs(request.rootfs, target, flags, path)
    for index, mount in enumerate(service.volumes):
        place = ("services", service.name, "volumes", index)
        rendered = _render_volume(layout, request, mount, render_path(place), index)
        found[_normal(mount.target)] = rendered
        if (mount.options.get("selinux")) and os.path.exists("/sys/fs/selinux/enforce"):
            warnings.append(
                Diagnostic(
                    "selinux-label-ignored",
                    "files are not relabelled",
                    sources.locate(place) if sources is not None else None,
                    render_path(place),
                    "label the source with chcon, or run the service with security_opt: label=disable",
                    "warning",
                )
            )
    if service.ipc == "shareable" and "/dev/shm" not in found:
        found["/dev/shm"] = _bind("/dev/shm", _make_shared_memory(layout, request), "rbind", "rw", "rprivate")
    for rendered in _render_files(layout, request):
        found[rendered["destination"]] = rendered
    return list(found.values()), warnings


def release_mounts(layout: Layout, container_id: str) -> None:
    """Unmount what :func:`prepare_mounts` mounted for this container and remove its files in the run directory."""
    folder = f"{layout.container_run(container_id)}/mounts"
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    with suppress(FileNotFoundError):  # another process may be at it, too
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            from shutil import rmtree

            host.unmount(entry.path)
            rmtree(entry.path, ignore_errors=True)
        os.rmdir(folder)


def render_file_mount(
    layout: Layout, container_id: str, target: str, content: str, mode: int = 0o644
) -> dict[str, Any]:
    """Write `content` into the run folder and render its mount at `target` (``/etc/hosts``, ``/etc/resolv.conf`` ...).

    Writable, and written in place when it exists, so that a running container sees the change.
    """
    folder = f"{layout.container_run(container_id)}/mounts"
    path = f"{folder}/{target.strip('/').replace('/', '-')}"
    if not os.path.isdir(folder):
        os.makedirs(folder, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        os.write(fd, content.encode())
    finally:
        os.close(fd)
    return _bind(target, path, "bind", "rw", "rprivate")


def find_shared_memory(layout: Layout, container_id: str) -> str | None:
    """What ``ipc: service:x`` mounts at ``/dev/shm``: the shared memory of x, if x is ``ipc: shareable`` and runs."""
    folder = f"{layout.container_run(container_id)}/mounts/shm"
    return folder if os.path.isdir(folder) else None


def _make_shared_memory(layout: Layout, request: MountRequest) -> str:
    """On the host, because a mount inside a container's own namespace cannot be bound into another's."""
    folder = f"{layout.container_run(request.container_id)}/mounts/shm"
    os.makedirs(folder, exist_ok=True)
    host.unmount(folder)
    size = request.service.shm_size or 64 << 20
    flags = host.MS_NOSUID | host.MS_NODEV | host.MS_NOEXEC
    host.mount("shm", folder, "tmpfs", flags, f"mode=1777,size={size}")
    return folder


def _normal(target: str) -> str:
    # normpath keeps two leading slashes
    return os.path.normpath("/" + target.lstrip("/"))


def _bind(target: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": _normal(target), "type": "bind", "source": source, "options": list(options)}


def _render_volume(layout: Layout, request: MountRequest, mount: VolumeMount, path: str, index: int) -> dict[str, Any]:
    access = "ro" if mount.read_only else "rw"
    if mount.type == "bind":
        return _render_bind(mount, path)
    if mount.type == "tmpfs":
        options = []
        if mount.options.get("size"):
            options.append(f"size={mount.options['size']}")
        if mount.options.get("mode") is not None:
            options.append(f"mode={mount.options['mode']:o}")
        return _render_tmpfs(request.rootfs, mount.target, [*options, *(["ro"] if mount.read_only else [])], path)
    if mount.type == "image":
        return _render_image(layout, request, mount, path, index)
    if mount.type != "volume":
        raise Unsupported(f"{path}: mounts of type {mount.type} do not exist here", operation="mount", resource=path)
    name = request.volume_names.get(mount.target) or mount.source
    if name is None:
        raise EngineError(f"{path}: the volume has no name", operation="mount", resource=path)
    special = _render_special_volume(mount, request.volume_options.get(name, _NOTHING), path, access)
    if special is not None:
        return special
    source = create_volume(layout, name)
    subpath = mount.options.get("subpath")
    if not mount.options.get("nocopy") and not subpath:
        fill_volume(layout, name, request.rootfs, mount.target)
    if subpath:
        source = _resolve_below(source, str(subpath), path)
    return _bind(mount.target, source, "rbind", access, "rprivate")


def _render_bind(mount: VolumeMount, path: str) -> dict[str, Any]:
    source, options = mount.source or "", mount.options
    if not os.path.isabs(source):
        raise EngineError(f"{path}: {source!r} is not an absolute path", operation="mount", resource=path)
    try:
        os.stat(source)
    except FileNotFoundError:
        if not options.get("create_host_path", False):
            raise NotFound(
                f"{path}: {source} does not exist",
                resource=source,
                operation="mount",
                hint="create it, or set bind.create_host_path: true to have an empty directory made",
            ) from None
        try:
            os.makedirs(source, mode=0o755, exist_ok=True)
        except OSError as error:
            raise EngineError(f"{path}: {source}: {error.strerror}", resource=source, operation="mount") from error
    except OSError as error:
        raise EngineError(f"{path}: {source}: {error.strerror}", resource=source, operation="mount") from error
    propagation = str(options.get("propagation") or "rprivate")
    if propagation not in _PROPAGATIONS:
        hint = f"one of {', '.join(_PROPAGATIONS)}"
        raise EngineError(f"{path}: there is no propagation {propagation!r}", resource=source, hint=hint)
    recursive = options.get("recursive", "enabled")
    kind = "bind" if recursive in ("disabled", False) else "rbind"
    flags = [kind, "ro" if mount.read_only else "rw", propagation]
    if kind == "bind":
        # crun takes the "recursive" of rprivate for one of the bind too.
        flags[-1] = propagation.removeprefix("r")
    if mount.read_only and kind == "rbind" and recursive != "writable" and os.path.isdir(source):
        # Without it what is mounted below the source would stay writable.
        flags.append("rro")
    return _bind(mount.target, source, *flags)


def _render_special_volume(
    mount: VolumeMount, options: Mapping[str, str], path: str, access: str
) -> dict[str, Any] | None:
    """A volume whose ``driver_opts`` say what to mount (type, o, device), as Docker's local driver has it."""
    if not options.get("type") and not options.get("device") and not options.get("o"):
        return None
    flags = [one for one in str(options.get("o", "")).split(",") if one]
    kind, device = str(options.get("type") or "none"), str(options.get("device") or "")
    if "bind" in flags or "rbind" in flags:
        if not os.path.exists(device):
            raise NotFound(
                f"{path}: the volume's device {device} does not exist",
                resource=device,
                operation="mount",
                hint="create the directory that driver_opts.device names",
            )
        return _bind(mount.target, device, *flags, access)
    if kind == "none":
        raise EngineError(f"{path}: driver_opts without a type need o: bind", operation="mount", resource=path)
    data = flags
    if kind.startswith("nfs") and any(one.startswith("addr=") for one in flags):
        data = [_resolve_address(one, path) for one in flags]
    return {
        "destination": _normal(mount.target),
        "type": kind,
        "source": device or kind,
        "options": [*data, *([access] if access == "ro" else [])],
    }


def _resolve_address(option: str, path: str) -> str:
    name, _, value = option.partition("=")
    if name != "addr":
        return option
    import socket

    try:
        return f"addr={socket.getaddrinfo(value, None)[0][4][0]}"
    except OSError as error:
        raise EngineError(f"{path}: {value}: {error}", operation="mount", resource=value) from error


def _render_tmpfs(rootfs: str, target: str, options: Sequence[str], path: str) -> dict[str, Any]:
    if not target.startswith("/"):
        raise EngineError(f"{path}: {target!r} is not an absolute path", operation="mount", resource=path)
    flags = ["noexec", "nosuid", "nodev"]
    opposites = {"exec": "noexec", "suid": "nosuid", "dev": "nodev"}
    for option in options:
        if option in opposites:
            flags = [one for one in flags if one != opposites[option]]
        elif option not in flags:
            flags.append(option)
    if not any(one.startswith("mode=") for one in flags):
        flags += _copy_mode(rootfs, target)
    return {"destination": _normal(target), "type": "tmpfs", "source": "tmpfs", "options": flags}


def _copy_mode(rootfs: str, target: str) -> list[str]:
    """The mode of the image's directory there, as an option; a fresh tmpfs has 1777."""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = host.open_in_root(root, target, os.O_PATH)
    except OSError:
        return []
    finally:
        os.close(root)
    try:
        return [f"mode={stat.S_IMODE(os.fstat(fd).st_mode):o}"]
    finally:
        os.close(fd)


def _render_image(layout: Layout, request: MountRequest, mount: VolumeMount, path: str, index: int) -> dict[str, Any]:
    layers = request.image_layers.get(mount.source or "")
    if not layers:
        raise NotFound(f"{path}: the image {mount.source} is not present", resource=mount.source or "")
    target = f"{layout.container_run(request.container_id)}/mounts/image-{index}"
    os.makedirs(target, exist_ok=True)
    host.unmount(target)
    host.mount_overlay(list(layers), target)
    source = target
    if mount.options.get("subpath"):
        source = _resolve_below(target, str(mount.options["subpath"]), path)
    return _bind(mount.target, source, "bind", "ro", "rprivate")


def _resolve_below(folder: str, subpath: str, path: str) -> str:
    """The real path of `subpath` below `folder`; links in it, which a container may have made, cannot lead out."""
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = host.open_in_root(root, subpath, os.O_PATH)
    except OSError as error:
        raise NotFound(
            f"{path}: the volume has no {subpath!r}: {error.strerror}",
            resource=subpath,
            operation="mount",
            hint="a subpath must exist before the container starts",
        ) from error
    finally:
        os.close(root)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _render_files(layout: Layout, request: MountRequest) -> Iterator[dict[str, Any]]:
    service = request.service
    kinds = (
        ("secrets", service.secrets, request.secrets, "/run/secrets/"),
        ("configs", service.configs, request.configs, "/"),
    )
    for kind, mounts, known, folder in kinds:
        for index, mount in enumerate(mounts):
            path = f"services.{service.name}.{kind}[{index}]"
            file = known.get(mount.source)
            if file is None:
                raise NotFound(f"{path}: there is no {kind[:-1]} {mount.source!r}", resource=mount.source)
            target = mount.target or file.key
            if not target.startswith("/"):
                target = folder + target
            source = _place_file(layout, request.container_id, kind, index, mount, file, path)
            yield _bind(target, source, "bind", "ro", "rprivate", "nosuid", "nodev")


def _place_file(
    layout: Layout, container_id: str, kind: str, index: int, mount: FileMount, file: FileSource, path: str
) -> str:
    """The host path to mount: the file itself, or a copy where content, owner or mode is its own, or where the file
    asks for one (``driver: copy``)."""
    plain = mount.uid is None and mount.gid is None and mount.mode is None and file.config.get("driver") != "copy"
    if file.file is not None and not os.path.exists(file.file):
        raise NotFound(
            f"{path}: {file.file} does not exist",
            resource=file.file,
            operation="mount",
            hint=f"create the file that {kind}.{file.key}.file names",
        )
    if file.file is not None and (plain or os.path.isdir(file.file)):
        return file.file
    if file.file is not None:
        with open(file.file, "rb") as opened:
            content = opened.read()
    elif file.content is not None or file.value is not None:
        content = (file.content if file.content is not None else file.value or "").encode()
    else:
        raise NotFound(
            f"{path}: the {kind[:-1]} {mount.source!r} has no content here",
            resource=mount.source,
            operation="mount",
            hint=f"set {kind}.{file.key}.file, content or environment",
        )
    folder = f"{layout.container_run(container_id)}/mounts/{kind}"
    if not os.path.isdir(folder):
        os.makedirs(folder, mode=0o700)
        if kind == "secrets" and not host.is_memory_backed(folder):
            host.mount("tmpfs", folder, "tmpfs", host.MS_NOSUID | host.MS_NODEV | host.MS_NOEXEC, "mode=700,size=16m")
    place = f"{folder}/{index}"
    fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o400)
    try:
        os.write(fd, content)
        os.fchown(fd, _number(mount.uid, path), _number(mount.gid, path))
        os.fchmod(fd, 0o444 if mount.mode is None else mount.mode)
    finally:
        os.close(fd)
    return place


def _number(text: str | None, path: str) -> int:
    if text is None:
        return 0
    if not text.isdigit():
        raise EngineError(
            f"{path}: {text!r} is not a numeric id", resource=path, operation="mount", hint="use a number"
        )
    return int(text)
