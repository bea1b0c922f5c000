"""The digest that a name leads to now, without fetching the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.engines.native.images.manifest import ImageIndex, parse_manifest
from orchestrator.engines.native.images.platform import detect_platform, parse_platform
from orchestrator.engines.native.images.pull import resolve_manifest
from orchestrator.engines.native.images.reference import Reference, parse_reference
from orchestrator.engines.native.images.transport import Transport

if TYPE_CHECKING:
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.store import ImageStore


def pin_reference(store: ImageStore, text: str, platform: str | None = None) -> str:
    """Return the complete reference of `text` with its digest, as in ``docker.io/library/web:1@sha256:...``.

    The digest is the one that the local image came with, else the one that the registry has. Raises InvalidReference,
    ImageMissing, Unauthorized, RegistryUnreachable ...
    """
    reference = parse_reference(text)
    if reference.digest:
        return str(reference)
    image = store.resolve_image(text)
    digest = _find_local(store, image, reference) if image is not None else ""
    return f"{reference}@{digest or find_registry_digest(store, reference, platform)}"


def _find_local(store: ImageStore, image: Image, reference: Reference) -> str:
    """An image that came for one platform of several has two digests: that of the index pins it on every machine."""
    own = [digest for name, _, digest in (one.partition("@") for one in image.repo_digests) if name == reference.name]
    for digest in own:
        data = store.blobs.read(digest)
        if data is not None and isinstance(parse_manifest(data), ImageIndex):
            return digest
    return own[0] if own else ""


def find_registry_digest(store: ImageStore, reference: Reference | str, platform: str | None = None) -> str:
    """The digest that a tag has in its registry now. Raises ImageMissing, Unauthorized, RegistryUnreachable ..."""
    if isinstance(reference, str):
        reference = parse_reference(reference)
    settings = store.load_settings()
    transport = Transport(settings, cancel=lambda: False)
    try:
        wanted = parse_platform(platform) if platform else detect_platform()
        return resolve_manifest(transport, settings, reference, wanted, lambda: False).digest
    finally:
        transport.close()
