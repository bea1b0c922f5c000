"""Where the parts of an image stand on the disk, for whoever wants to know later whether they still do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.engines.native.images.failures import ImageMissing

if TYPE_CHECKING:
    from orchestrator.engines.native.images.store import ImageStore


def list_parts(store: ImageStore, image_id: str) -> list[str]:
    """The files and folders of an image: its record, its configuration, its layers with theirs.

    Raises ImageMissing if anything is not there, or might not survive a power failure.
    """
    record = store.read_record(image_id)
    digest = image_id.removeprefix("sha256:")
    found = [f"{store.root}/images/{digest}.json", f"{store.root}/blobs/sha256/{digest}"]
    for name in dict.fromkeys(record["layers"]):
        layer = store.layers.read_layer(name)
        if layer is None or "boot" in layer.record:
            raise ImageMissing(f"the layer {name} is not there", resource=image_id, operation="find image")
        found += [str(layer.path), f"{store.root}/layers/{name}.json"]
    return found
