"""The root filesystem of an image as one tar: what a container of it would find, without whiteouts and layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from orchestrator.engines.native import host
from orchestrator.engines.native.images.content import Cancel, check_cancel
from orchestrator.engines.native.images.failures import ImageMissing
from orchestrator.engines.native.images.tarwriter import render_directory

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.engines.native.images.store import ImageStore


def export_rootfs(store: ImageStore, name: str, target: BinaryIO, *, cancel: Cancel | None = None) -> None:
    """Write the files of the image `name` as a tar. Raises ImageMissing."""
    with store.open_workspace() as workspace:
        found = store.require_image(name)
        workspace.keep((*found.diff_ids, found.id))
        image = store.resolve_image(found.id)
        if image is None:
            raise ImageMissing(f"No such image: {name}", resource=name, operation="export")
        # An empty layer below all others: a lowest layer may hold whiteouts too, and they are no files.
        layers = [*map(str, image.layers), str(workspace.make_directory("bottom"))]
        view = workspace.make_directory("view")
        host.call_in_thread(lambda: _write(layers, view, target, cancel))


def _write(layers: list[str], view: Path, target: BinaryIO, cancel: Cancel | None) -> None:
    # The mount stands in a namespace of this thread's own, so that no crash can leave it behind.
    host.unshare(host.CLONE_NEWNS)
    host.mount(None, "/", None, host.MS_REC | host.MS_PRIVATE)
    host.mount_overlay(layers, str(view))
    try:
        for piece in render_directory(view):
            check_cancel(cancel)
            target.write(piece)
    finally:
        host.unmount(str(view))
