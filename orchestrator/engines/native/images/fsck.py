"""A consistency check of the store, and how to get rid of what is damaged."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.engines.native.images.image import parse_image_config
from orchestrator.engines.native.images.layers import SNAPSHOT
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.engines.native.images.index import Index
    from orchestrator.engines.native.images.store import ImageStore

_ROUNDS = 4


class Problem(NamedTuple):
    """One thing that is not as it should be: a sentence, and what has to go for it (one of the others)."""

    text: str
    name: str = ""
    image: str = ""
    blob: str = ""
    layer: str = ""


def check_store(store: ImageStore, index: Index, *, deep: bool) -> list[str]:
    """Check names, records, blobs and layers; a list of sentences, empty when all is well. Call with the store lock
    held.

    Layers that no image uses are no problem: a pull that died leaves them, the next one uses them, the collector
    removes them. `deep` reads every file: each layer's tar is written again and its digest compared.
    """
    return [one.text for one in find_problems(store, index, deep=deep)]


def repair_store(store: ImageStore, index: Index, trash: Path, *, deep: bool) -> list[str]:
    """Take out what is damaged, and with it the images that need it. Returns the names (or identifiers) that are lost.

    Call with the store lock held; the caller removes `trash`.
    """
    lost: set[str] = set()
    for _ in range(_ROUNDS):  # a layer that goes takes images along, which the next round finds
        problems = list(find_problems(store, index, deep=deep))
        for one in problems:
            if one.layer:
                store.layers.discard_layer(one.layer, trash)
            if one.blob:
                store.blobs.remove(one.blob)
            if one.name:
                index.tags.pop(one.name, None)
                index.digests.pop(one.name, None)
                index.groups.pop(one.name, None)
                lost.add(one.name)
            if one.image:
                lost.update(index.references(one.image) or (one.image,))
                index.drop_image(one.image)
        if not problems:
            break
    return sorted(lost)


def find_problems(store: ImageStore, index: Index, *, deep: bool) -> Iterator[Problem]:
    """Everything that is wrong."""
    for name, image_id in sorted({**index.tags, **index.digests}.items()):
        if image_id not in index.images:
            yield Problem(f"{name} leads to {image_id}, which is not in the index", name=name)
    for name, members in sorted(index.groups.items()):
        for image_id in members:
            if image_id not in index.images:
                yield Problem(f"{name} stands for {image_id}, too, which is not in the index", name=name)
    for image_id in sorted(index.images):
        for text in _check_image(store, image_id):
            yield Problem(text, image=image_id)
    for digest in store.blobs.list_digests():
        if store.blobs.read(digest) is None:
            yield Problem(f"the blob {digest} does not have its digest", blob=digest)
    for name in sorted(store.layers.list_names()):
        for text in _check_layer(store, name, deep):
            yield Problem(text, layer=name)


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
        return [f"the layer {name} is {digest.hexdigest()}, not {layer.id}: its files were changed"]
    return []
