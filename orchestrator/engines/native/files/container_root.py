"""A container's root directory as its own processes see it, volumes included, whether it runs or not."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.engines.native import host
from orchestrator.engines.native.container import ContainerSpec, is_alive, load_spec, read_boot_id
from orchestrator.engines.native.files.rootfs import make_path, stack_layers
from orchestrator.engines.native.recovery import delete_state
from orchestrator.errors import NotFound, Unsupported

if TYPE_CHECKING:
    import sqlite3

    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.store import Store


class Root(NamedTuple):
    """`fd` is the root directory (O_PATH); `volumes` are the paths at which something of the user's is mounted.

    None is for this machine's own root, where everything is the user's.
    """

    fd: int
    volumes: tuple[str, ...] | None


@contextmanager
def open_container_root(layout: Layout, store: Store, images: ImageStore, container_id: str) -> Iterator[Root]:
    """The container's root directory. One that does not run is mounted for as long, where nobody else sees it.

    NotFound: no such container, or its image is gone. Unsupported: a volume that only a start can mount.
    """
    row = store.container(container_id)
    if row is None:
        raise NotFound(f"no container {container_id[:12]}", resource=container_id, operation="open its files")
    spec = load_spec(row)
    targets = {one["target"] for one in store.rows("SELECT target FROM mounts WHERE container_id = ?", container_id)}
    volumes = tuple(sorted(targets | {one.target for one in spec.service.volumes}))
    if is_alive(row, read_boot_id()):
        fd = _open_running(row)
        if fd >= 0:
            try:
                yield Root(fd, volumes)
                return
            finally:
                os.close(fd)
        row = store.container(container_id) or row
    try:
        with ExitStack() as opened:
            try:
                fd = opened.enter_context(open_layers(layout, images, row, _list_binds(layout, store, row, spec)))
            except FileNotFoundError as error:
                # It is being removed.
                told = f"the files of {row['name']} are gone"
                raise NotFound(told, resource=row["name"], operation="open its files") from error
            yield Root(fd, volumes)
    finally:
        if store.container(container_id) is None:
            # Removed meanwhile: its folders must not come back with the look at them.
            delete_state(layout, container_id)


def _open_running(row: sqlite3.Row) -> int:
    """The root directory of a container that runs; -1 if it has ended just now."""
    try:
        fd = os.open(f"/proc/{row['pid']}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return -1
    # The process may have ended, and its number gone to another, between the two looks.
    if is_alive(row, read_boot_id()):
        return fd
    os.close(fd)
    return -1


@contextmanager
def open_layers(
    layout: Layout, images: ImageStore, row: sqlite3.Row, binds: Sequence[tuple[str, str]] = ()
) -> Iterator[int]:
    """The container's layers as one directory (O_PATH), in a mount namespace of its own; `binds` are (source, target).

    For a container that does not run: its writable layer must not be mounted elsewhere.
    """
    image = images.resolve_image(row["image_id"])
    if image is None:
        raise NotFound(f"the image of container {row['name']} is gone", resource=row["image"], operation="open files")
    state = layout.container_state(row["id"])
    upper, work = f"{state}/upper", f"{state}/work"
    for folder in (upper, work):
        os.makedirs(folder, exist_ok=True)
    os.makedirs(layout.run, mode=0o711, exist_ok=True)
    place = tempfile.mkdtemp(prefix="open-", dir=layout.run)

    def mount() -> tuple[int, int]:
        host.unshare(host.CLONE_NEWNS | host.CLONE_FS)
        host.mount(None, "/", None, host.MS_REC | host.MS_PRIVATE)
        host.mount_overlay(stack_layers(layout, image.layers), place, upper=upper, work=work)
        root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for source, target in binds:
            _bind(root, source, target)
        return root, os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    try:
        # The namespace lives as long as its descriptor; with it everything mounted there goes.
        root, namespace = host.call_in_thread(mount)
        try:
            yield root
        finally:
            os.close(root)
            os.close(namespace)
    finally:
        os.rmdir(place)


def _bind(root: int, source: str, target: str) -> None:
    make_path(root, target, folder=os.path.isdir(source))
    fd = host.open_in_root(root, target, os.O_PATH)
    try:
        host.mount(source, f"/proc/thread-self/fd/{fd}", None, host.MS_BIND | host.MS_REC)
    finally:
        os.close(fd)


def _list_binds(layout: Layout, store: Store, row: sqlite3.Row, spec: ContainerSpec) -> list[tuple[str, str]]:
    """Sources and targets of the volumes and binds of a container that does not run, outer ones first."""
    found = {one.target: one.source for one in spec.service.volumes if one.type == "bind" and one.source}
    subpaths = {one.target: str(one.options.get("subpath") or "") for one in spec.service.volumes}
    held = store.rows(
        "SELECT m.target, m.volume, v.config FROM mounts m LEFT JOIN volumes v ON v.name = m.volume "
        "WHERE m.container_id = ?",
        row["id"],
    )
    for one in held:
        options = json.loads(one["config"] or "{}").get("driver_opts") or {}
        source = str(layout.volumes / one["volume"] / "_data")
        if options.get("device"):
            if "bind" not in str(options.get("o", "")).split(","):
                raise Unsupported(
                    f"volume {one['volume']} of {row['name']} is mounted by its start only",
                    resource=one["volume"],
                    operation="open files",
                    hint=f"start it first: stack start {row['service']}",
                )
            source = str(options["device"])
        found[one["target"]] = f"{source}/{subpaths.get(one['target'], '')}".rstrip("/")
    return [(source, target) for target, source in sorted(found.items()) if os.path.exists(source)]
