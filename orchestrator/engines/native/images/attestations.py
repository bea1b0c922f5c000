"""What is attested of an image: in-toto statements in a manifest of their own, beside the image in its index.

The form is BuildKit's: an entry for the platform ``unknown/unknown`` whose annotations name the manifest that it is
about. Whoever does not look for attestations passes it over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from orchestrator.engines.native.images.content import compute_digest
from orchestrator.engines.native.images.manifest import OCI_CONFIG, OCI_MANIFEST

PROVENANCE: Final = "stack.provenance"
"""The annotation of a stored image that its provenance is kept in until it leaves; never sent as one."""
_PREDICATE: Final = "https://slsa.dev/provenance/v1"
_STATEMENT: Final = "https://in-toto.io/Statement/v0.1"
_IN_TOTO: Final = "application/vnd.in-toto+json"


class Attestation(NamedTuple):
    """A manifest, and the blobs that it names."""

    manifest: bytes
    blobs: tuple[bytes, ...]


def make_attestation(predicate: Mapping[str, Any], name: str, platform: str, digest: str) -> Attestation:
    """Attest the provenance of the manifest `digest`, which goes to `name` (with its tag) for `platform`."""
    subject = {
        "name": f"pkg:docker/{quote(name, safe='/@:')}?platform={quote(platform, safe='')}",
        "digest": {"sha256": digest.removeprefix("sha256:")},
    }
    statement = _dump({"_type": _STATEMENT, "predicateType": _PREDICATE, "subject": [subject], "predicate": predicate})
    configuration = _dump(
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [compute_digest(statement)]},
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _describe(OCI_CONFIG, configuration),
        "layers": [{**_describe(_IN_TOTO, statement), "annotations": {"in-toto.io/predicate-type": _PREDICATE}}],
    }
    return Attestation(_dump(manifest), (configuration, statement))


def describe_attestation(attestation: Attestation, subject: str) -> dict[str, Any]:
    """The entry of an index for an attestation of the manifest `subject` (a digest)."""
    return {
        **_describe(OCI_MANIFEST, attestation.manifest),
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {
            "vnd.docker.reference.digest": subject,
            "vnd.docker.reference.type": "attestation-manifest",
        },
    }


def _describe(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": compute_digest(data), "size": len(data)}


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
