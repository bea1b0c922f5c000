"""What the collector has to spare, and what it may always sweep up."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines.native.images.content import list_litter
from orchestrator.engines.native.images.layers import LayerStore, render_layer_name

if TYPE_CHECKING:
    from orchestrator.engines.native.images.build_cache import BuildCache
    from orchestrator.engines.native.images.index import Index, IndexFile


def list_used(
    index: Index, records: IndexFile, layers: LayerStore, cache: BuildCache, kept: Collection[str]
) -> tuple[set[str], set[str]]:
    """Names of layers and digests of blobs that images, results of builds, or work under way (`kept`) need.

    Call with the store lock held.
    """
    names = {render_layer_name(one) for one in {*kept, *cache.list_layers()}} | cache.list_names()
    blobs = set(kept)
    for image_id in index.images:
        record = records.read_record(image_id) or {}
        names.update(record.get("layers", ()))
        blobs.update((image_id, *record.get("blobs", ())))
    for name in list(names):
        layer = layers.read_layer(name)
        if layer is not None and "raw" in layer.record:
            names.add(layer.record["raw"])
    return names, blobs


def remove_litter(root: Path) -> None:
    """Remove half-written files whose writers are gone."""
    for folder in (root, *(root / one for one in ("images", "layers", "blobs/sha256", "cache"))):
        for path in list_litter(folder):
            path.unlink(missing_ok=True)


def list_image_layers(index: Index, records: IndexFile) -> set[str]:
    """Identifiers of the layers that images have."""
    return {one for image_id in index.images for one in (records.read_record(image_id) or {}).get("diff_ids", ())}
