"""Manifests, indexes and image configurations: OCI image-spec v1.1 and Docker v2 schema 2, into frozen dataclasses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.engines.native.images.failures import InvalidImage, UnsupportedImage
from orchestrator.engines.native.images.platform import Platform, choose_platform, detect_level, normalize_platform
from orchestrator.engines.native.images.reference import is_digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX)
MANIFEST_LIMIT = 4 << 20  # bytes; what registries accept

_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_LAYER_TYPES = frozenset(
    (
        *(OCI_LAYER + end for end in ("", "+gzip", "+zstd")),
        *(OCI_LAYER.replace("layer.v1", "layer.nondistributable.v1") + end for end in ("", "+gzip", "+zstd")),
        *(DOCKER_LAYER + end for end in ("", ".gzip", ".zstd")),
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.docker.container.image.rootfs.diff+x-gtar",
    )
)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content: media type, digest, length in bytes; `platform` only inside an index."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image for one platform. `layers` are base first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ImageIndex:
    """Manifests of several platforms."""

    media_type: str
    manifests: tuple[Descriptor, ...]


def parse_manifest(data: bytes, media_type: str = "") -> Manifest | ImageIndex:
    """Parse what a registry or a layout gave. `media_type` is the transport's; the document's own wins.

    Raises InvalidImage and UnsupportedImage.
    """
    raw = parse_object(data, "manifest")
    kind = str(raw.get("mediaType") or media_type.partition(";")[0].strip())
    if raw.get("schemaVersion") == 1 or kind in _SCHEMA_1:
        raise UnsupportedImage(
            "the image has a manifest of the retired schema 1",
            operation="read manifest",
            hint="pull and push it again with a current client, which rewrites the manifest",
        )
    if isinstance(raw.get("manifests"), list):
        entries = tuple(_parse_descriptor(one) for one in raw["manifests"])
        return ImageIndex(kind or OCI_INDEX, entries)
    if not isinstance(raw.get("layers"), list) or not isinstance(raw.get("config"), dict):
        raise UnsupportedImage(f"not an image manifest (media type {kind or 'unknown'})", operation="read manifest")
    config = _parse_descriptor(raw["config"])
    if config.media_type not in (OCI_CONFIG, DOCKER_CONFIG, "application/octet-stream", ""):
        raise UnsupportedImage(
            f"this is not a container image but an artifact of type {raw.get('artifactType') or config.media_type}",
            operation="read manifest",
        )
    layers = tuple(_parse_descriptor(one) for one in raw["layers"])
    for layer in layers:
        if layer.media_type not in _LAYER_TYPES:
            encrypted = "+encrypted" in layer.media_type
            raise UnsupportedImage(
                f"{'encrypted layers are' if encrypted else f'the layer type {layer.media_type} is'} not supported",
                resource=layer.digest,
                operation="read manifest",
            )
    return Manifest(kind or OCI_MANIFEST, config, layers)


def select_manifest(index: ImageIndex, wanted: Platform, name: str) -> Descriptor:
    """The entry for a platform. Raises UnsupportedImage that lists what there is."""
    entries = [
        one
        for one in index.manifests
        if one.annotations.get("vnd.docker.reference.type") != "attestation-manifest"
        and (one.platform is None or one.platform.os != "unknown")
        and (one.media_type in MANIFEST_TYPES or not one.media_type)
    ]
    # Without a platform an entry makes no statement; it is the one meant if it stands alone.
    offered = [one.platform or Platform("", "") for one in entries]
    chosen = choose_platform(offered, wanted)
    if chosen is None and (wanted.architecture, wanted.variant) == ("amd64", ""):
        # Only what is built for newer processors: this machine may have one.
        chosen = choose_platform(offered, Platform(wanted.os, wanted.architecture, f"v{detect_level()}"))
    if chosen is not None:
        return entries[chosen]
    if len(entries) == 1 and entries[0].platform is None:
        return entries[0]
    listed = ", ".join(sorted({str(one.platform) for one in entries if one.platform})) or "nothing"
    raise UnsupportedImage(
        f"{name} has no image for {wanted}",
        resource=name,
        operation="select platform",
        hint=f"it is there for {listed}; choose one with 'platform:'",
    )


def parse_configuration(data: bytes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """An image configuration and its diff_ids, base first. Raises InvalidImage."""
    raw = parse_object(data, "image configuration")
    rootfs = raw.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(isinstance(one, str) and is_digest(one) for one in diff_ids):
        if diff_ids is None and isinstance(rootfs, dict):
            return raw, ()
        raise InvalidImage("the image configuration has no valid list of layers", operation="read configuration")
    return raw, tuple(diff_ids)


def parse_object(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises InvalidImage."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidImage(f"the {what} is not valid JSON", operation=f"read {what}") from error
    if not isinstance(raw, dict):
        raise InvalidImage(f"the {what} is not a JSON object", operation=f"read {what}")
    return raw


def _parse_descriptor(raw: Any) -> Descriptor:
    if not isinstance(raw, dict):
        raise InvalidImage("the manifest has a malformed descriptor", operation="read manifest")
    digest, size = raw.get("digest"), raw.get("size")
    if not isinstance(digest, str) or not is_digest(digest) or not isinstance(size, int) or size < 0:
        raise InvalidImage(f"the manifest has an invalid digest or size: {digest!r}", operation="read manifest")
    platform = raw.get("platform")
    return Descriptor(
        media_type=str(raw.get("mediaType") or ""),
        digest=digest,
        size=size,
        urls=tuple(str(one) for one in raw.get("urls") or ()),
        annotations=raw.get("annotations") or {},
        platform=normalize_platform(
            str(platform.get("os") or ""), str(platform.get("architecture") or ""), str(platform.get("variant") or "")
        )
        if isinstance(platform, dict)
        else None,
    )
