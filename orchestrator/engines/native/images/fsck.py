"""A consistency check of the store: what it finds is a list of sentences, empty when all is well."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from orchestrator.engines.native.images.image import parse_image_config
from orchestrator.engines.native.images.layers import SNAPSHOT
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from orchestrator.engines.native.images.index import Index
    from orchestrator.engines.native.images.store import ImageStore


def check_store(store: ImageStore, index: Index, *, deep: bool) -> list[str]:
    """Check names, records, blobs and layers. Call with the store lock held.

    Layers that no image uses are no problem: a pull that died leaves them, the next one uses them, the collector
    removes them. `deep` reads every file: each layer's tar is written again and its digest compared.
    """
    problems = []
    for name, image_id in sorted({**index.tags, **index.digests}.items()):
        if image_id not in index.images:
            problems.append(f"{name} leads to {image_id}, which is not in the index")
    for image_id in sorted(index.images):
        problems += _check_image(store, image_id)
    for digest in store.blobs.list_digests():
        if store.blobs.read(digest) is None:
            problems.append(f"the blob {digest} does not have its digest")
    for name in sorted(store.layers.list_names()):
        problems += _check_layer(store, name, deep)
    return problems


def _check_image(store: ImageStore, image_id: str) -> list[str]:
    try:
        record = store.read_record(image_id)
        parse_image_config(record["config"])
        layers, blobs = record["layers"], record["blobs"]
        complete = {"created", "platform", "size", "diff_ids"} <= record.keys()
    except (StackError, KeyError, TypeError, AttributeError) as error:
        return [f"the image {image_id} has no valid record: {error}"]
    problems = [] if complete else [f"the record of the image {image_id} is not complete"]
    if len(layers) != max(1, len(record["diff_ids"])):
        problems.append(f"the image {image_id} has {len(layers)} layers for {len(record['diff_ids'])} diff_ids")
    for name in layers:
        layer = store.layers.read_layer(name)
        if layer is None:
            problems.append(f"the image {image_id} lacks the layer {name}")
        elif "boot" in layer.record:
            problems.append(f"the layer {name} of the image {image_id} was never written to the disk")
    for digest in (image_id, *blobs):
        if store.blobs.read(digest) is None:
            problems.append(f"the image {image_id} lacks the blob {digest}")
    return problems


def _check_layer(store: ImageStore, name: str, deep: bool) -> list[str]:
    layer = store.layers.read_layer(name)
    if layer is None:
        return []  # left by a crash, invisible, and replaced or removed by whoever comes next
    if not os.path.isdir(layer.path):
        return [f"the layer {name} has no directory"]
    if not deep or layer.id.startswith(SNAPSHOT) or not layer.record.get("exact", True):
        return []
    digest = hashlib.sha256()
    try:
        for piece in store.layers.render_tar(layer):
            digest.update(piece)
    except StackError as error:
        return [f"the layer {name}: {error}"]
    if layer.id != f"sha256:{digest.hexdigest()}":
        return [f"the layer {name} is {digest.hexdigest()}, not {layer.id}"]
    return []
