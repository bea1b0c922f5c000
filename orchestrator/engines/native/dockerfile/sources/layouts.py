"""``oci-layout://DIR[:TAG|@DIGEST]``: an image out of a folder, into the store without a name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.sources.failures import ContextError
from orchestrator.engines.native.images.failures import InvalidImage

if TYPE_CHECKING:
    from orchestrator.engines.native.images.archive import FolderMembers
    from orchestrator.engines.native.images.content import Cancel
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.manifest import Descriptor, Manifest
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.images.workspace import Workspace

_TAG = "org.opencontainers.image.ref.name"
_DEFAULT_TAG = "latest"
_BLOB_LIMIT = 8 << 20  # bytes of a manifest or configuration
_NESTED = 4  # indexes within indexes


def split_layout(text: str) -> tuple[str, str, str]:
    """A specification without its scheme as (folder, tag, digest); what is not given is empty."""
    path, at, digest = text.partition("@")
    if at:
        return path, "", digest
    head, slash, last = path.rpartition("/")
    name, colon, tag = last.rpartition(":")
    return (head + slash + name, tag, "") if colon and name else (path, "", "")


def load_layout(
    text: str, store: ImageStore, workspace: Workspace, *, platform: str | None = None, cancel: Cancel | None = None
) -> Image:
    """The image that `text` (without ``oci-layout://``) means. `workspace` protects it from the collector.

    Raises ContextError for a folder that is no layout or lacks the image, InvalidImage for damaged content.
    """
    from orchestrator.engines.native.images.archive import FolderMembers

    folder, tag, digest = split_layout(text)
    lacking = next((name for name in ("", "oci-layout", "index.json") if not Path(folder, name).exists()), None)
    if lacking is not None:
        raise ContextError(
            f"{folder} is not an OCI layout: " + (f"it has no {lacking}" if lacking else "there is no such folder"),
            hint="a layout is a folder with the files oci-layout and index.json and the folder blobs",
        )
    members = FolderMembers(Path(folder))
    descriptor = _choose(members, folder, tag, digest)
    return _enter(members, descriptor, store, workspace, platform, cancel, text)


def _choose(members: FolderMembers, folder: str, tag: str, digest: str) -> Descriptor:
    from orchestrator.engines.native.images.manifest import MANIFEST_LIMIT, Descriptor, ImageIndex, parse_manifest
    from orchestrator.engines.native.images.reference import is_digest

    if digest:
        if not is_digest(digest):
            raise ContextError(f"oci-layout://{folder}@{digest}: invalid digest", hint="sha256:<64 hexadecimal digits>")
        if not members.has(f"blobs/{digest.replace(':', '/')}"):
            raise ContextError(f"the OCI layout {folder} has no image {digest}", hint=_offer(members))
        return Descriptor("", digest, 0)
    index = parse_manifest(members.read("index.json", MANIFEST_LIMIT))
    entries = index.manifests if isinstance(index, ImageIndex) else ()
    tagged = [one for one in entries if _tag_of(one) == (tag or _DEFAULT_TAG)]
    if tagged:
        return tagged[0]
    if not tag and len(entries) == 1:
        return entries[0]
    raise ContextError(
        f"the OCI layout {folder} has no image with the tag {tag or _DEFAULT_TAG!r}", hint=_offer(members)
    )


def _tag_of(one: Descriptor) -> str:
    name = one.annotations.get(_TAG, "")
    return name.rpartition(":")[2] if "/" in name or ":" in name else name


def _offer(members: FolderMembers) -> str:
    from orchestrator.engines.native.images.manifest import MANIFEST_LIMIT, ImageIndex, parse_manifest

    index = parse_manifest(members.read("index.json", MANIFEST_LIMIT))
    entries = index.manifests if isinstance(index, ImageIndex) else ()
    offered = [f":{_tag_of(one)}" if _tag_of(one) else f"@{one.digest}" for one in entries]
    return f"it has {', '.join(offered)}" if offered else "it is empty"


def _enter(
    members: FolderMembers,
    descriptor: Descriptor,
    store: ImageStore,
    workspace: Workspace,
    platform: str | None,
    cancel: Cancel | None,
    name: str,
) -> Image:
    blobs, manifest = _read_manifest(members, descriptor, platform, name)
    configuration = _read_blob(members, manifest.config.digest)
    from orchestrator.engines.native.images.manifest import parse_configuration

    diff_ids = parse_configuration(configuration)[1]
    if len(diff_ids) != len(manifest.layers):
        raise InvalidImage(f"{name}: manifest and configuration disagree on the layers", operation="read layout")
    workspace.keep((*diff_ids, *blobs))
    for diff_id, layer in zip(diff_ids, manifest.layers, strict=True):
        member = _blob_name(layer.digest)
        store.layers.ensure_layer(
            diff_id,
            workspace.make_directory("layout"),
            lambda member=member: members.iterate(member, cancel),  # type: ignore[misc]
            cancel=cancel,
        )
    return store.commit_image(configuration, diff_ids, workspace, blobs=blobs)


def _read_manifest(
    members: FolderMembers, descriptor: Descriptor, platform: str | None, name: str
) -> tuple[dict[str, bytes], Manifest]:
    from orchestrator.engines.native.images.manifest import Manifest, parse_manifest, select_manifest
    from orchestrator.engines.native.images.platform import detect_platform, parse_platform

    wanted = parse_platform(platform) if platform else detect_platform()
    blobs: dict[str, bytes] = {}
    for _ in range(_NESTED):
        data = blobs[descriptor.digest] = _read_blob(members, descriptor.digest)
        parsed = parse_manifest(data, descriptor.media_type)
        if isinstance(parsed, Manifest):
            return blobs, parsed
        descriptor = select_manifest(parsed, wanted, name)
    raise InvalidImage(f"{name} nests its indexes too deeply", operation="read layout")


def _read_blob(members: FolderMembers, digest: str) -> bytes:
    from orchestrator.engines.native.images.content import compute_digest

    data = members.read(_blob_name(digest), _BLOB_LIMIT)
    if compute_digest(data, digest.partition(":")[0]) != digest:
        raise InvalidImage(f"digest mismatch: {digest} in the layout is damaged", operation="read layout")
    return data


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
