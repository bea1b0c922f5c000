"""A container's whole file system as an archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.engines.native.container import is_alive, read_boot_id
from orchestrator.engines.native.files.container_root import Root, open_layers
from orchestrator.engines.native.files.copying import render_tree
from orchestrator.errors import NotFound

if TYPE_CHECKING:
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.store import Store
    from orchestrator.state import Container


def render_filesystem(layout: Layout, store: Store, images: ImageStore, container: Container) -> Iterator[bytes]:
    """The tar of a container's own file system as it is now, without what is mounted in it. NotFound."""
    row = store.container(container.id)
    if row is None:
        raise NotFound(f"no container {container.name}", resource=container.name, operation="export")
    if is_alive(row, read_boot_id()):
        # On this machine the layers are mounted bare: volumes are in the container's own mount namespace only.
        try:
            fd = os.open(layout.container_run(row["id"]) / "rootfs", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"{container.name} is gone", resource=container.name, operation="export") from None
        try:
            yield from render_tree(Root(fd, ()), "/", ".")
        finally:
            os.close(fd)
        return
    with open_layers(layout, images, row) as fd:
        yield from render_tree(Root(fd, ()), "/", ".")
