"""An image in the form that leaves this machine: a configuration whose diff_ids are real, and its layers' tars.

A snapshot layer gets its diff_id here, by hashing its tar once; the tar itself is not stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.images.attestations import PROVENANCE
from orchestrator.engines.native.images.content import Cancel
from orchestrator.engines.native.images.failures import InvalidImage
from orchestrator.engines.native.images.layers import Layer

if TYPE_CHECKING:
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.images.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ExportLayer:
    """One layer to write: `diff_id` and `size` (bytes) are those of its plain tar."""

    layer: Layer
    diff_id: str
    size: int


@dataclass(frozen=True, slots=True)
class ExportImage:
    """Everything of an image, base layer first. `annotations` belong into its manifest; `provenance`, if it was asked
    for, is a predicate of SLSA.
    """

    image: Image
    configuration: bytes
    layers: tuple[ExportLayer, ...]
    annotations: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] | None = None


def resolve_export(store: ImageStore, name: str, workspace: Workspace, cancel: Cancel | None = None) -> ExportImage:
    """Find an image, protect it from removal, and make what it needs to leave. Raises ImageMissing, InvalidImage."""
    found = store.require_image(name)
    workspace.keep((*found.diff_ids, found.id))
    image = store.require_image(found.id)  # it may have gone before it was protected
    configuration = store.read_configuration(image.id)
    if configuration is None:
        raise InvalidImage(f"the configuration of {name} is missing", resource=image.id, operation="export")
    layers = []
    for layer_id in image.diff_ids:
        layer = store.layers.find_layer(layer_id)
        if layer is None:
            raise InvalidImage(f"a layer of {name} is missing", resource=layer_id, operation="export")
        layers.append(_measure(store, layer, cancel))
    diff_ids = [one.diff_id for one in layers]
    if diff_ids != list(image.diff_ids):
        raw = json.loads(configuration)
        raw["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
        configuration = json.dumps(raw, separators=(",", ":")).encode()
    annotations = dict(store.read_record(image.id).get("annotations") or {})
    provenance = annotations.pop(PROVENANCE, "")
    return ExportImage(image, configuration, tuple(layers), annotations, json.loads(provenance) if provenance else None)


def annotate_manifest(exported: ExportImage, manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with the image's annotations, if it has any."""
    return {**manifest, "annotations": dict(sorted(exported.annotations.items()))} if exported.annotations else manifest


def _measure(store: ImageStore, layer: Layer, cancel: Cancel | None) -> ExportLayer:
    known = layer.record.get("diff_id") or (layer.id if layer.record.get("exact") else "")
    if known and "tar_size" in layer.record:
        return ExportLayer(layer, str(known), int(layer.record["tar_size"]))
    digest, size = hashlib.sha256(), 0
    for piece in store.layers.render_tar(layer, cancel=cancel):
        digest.update(piece)
        size += len(piece)
    diff_id = f"sha256:{digest.hexdigest()}"
    return ExportLayer(store.layers.note_tar(layer, diff_id, size), diff_id, size)


def iterate_tar(store: ImageStore, one: ExportLayer, cancel: Cancel | None = None) -> Iterator[bytes]:
    """The layer's tar, verified: InvalidImage is raised after the last piece if it is not what it should be."""
    digest = hashlib.sha256()
    for piece in store.layers.render_tar(one.layer, cancel=cancel):
        digest.update(piece)
        yield piece
    if one.diff_id != f"sha256:{digest.hexdigest()}":
        raise InvalidImage(
            f"the files of the layer {one.diff_id} were changed on disk",
            resource=str(one.layer.path),
            operation="export",
            hint="remove the image and pull or build it again",
        )
