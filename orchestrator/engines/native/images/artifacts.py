"""Artifacts: files of any kind in a registry, as the layers of an OCI manifest (image-spec v1.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from orchestrator.engines.native.images.content import compute_digest
from orchestrator.engines.native.images.failures import InvalidImage, InvalidReference, RegistryFault
from orchestrator.engines.native.images.manifest import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageIndex,
    parse_manifest,
)
from orchestrator.engines.native.images.reference import Reference, parse_reference
from orchestrator.engines.native.images.registries import Endpoint
from orchestrator.engines.native.images.registry import ERROR_LIMIT, Document, Repository
from orchestrator.engines.native.images.transport import Transport
from orchestrator.engines.native.images.uploads import begin_upload, finish_upload, put_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engines.native.images.registries import RegistrySettings

EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_EMPTY: Final = b"{}"
_FILE_LIMIT: Final = 16 << 20


class Part(NamedTuple):
    """One file of an artifact."""

    media_type: str
    data: bytes
    annotations: Mapping[str, str]


class Artifact(NamedTuple):
    """What came from a registry. `kind` is the artifact type, or in a manifest without one its configuration's type."""

    digest: str
    kind: str
    parts: tuple[Part, ...]


class ArtifactKind(NamedTuple):
    """How an artifact says what it is: by `artifact_type` (1.1), or before that by the `config_type` of its empty
    configuration.
    """

    artifact_type: str
    config_type: str


class ArtifactPush:
    """Sends artifacts, and images that belong to them, to one repository. A context manager.

    `insecure` allows plain HTTP and certificates that cannot be verified. Raises InvalidReference for a name with a
    digest, and what a push raises.
    """

    def __init__(self, settings: RegistrySettings, target: str, *, insecure: bool = False) -> None:
        self.reference = parse_reference(target)
        if self.reference.digest:
            raise InvalidReference(f"{target!r} has a digest: what is published goes to a tag")
        self._settings = settings
        self._transport = Transport(settings, cancel=lambda: False)
        endpoint = settings.resolve_endpoints(self.reference)[-1]
        if insecure:
            endpoint = Endpoint(endpoint.host, endpoint.path, plain=True)
        self._repository = Repository(self._transport, endpoint, actions="pull,push")

    def __enter__(self) -> ArtifactPush:
        return self

    def __exit__(self, *_error: object) -> None:
        self._transport.close()

    def send(
        self, kind: ArtifactKind, parts: Sequence[Part], annotations: Mapping[str, str], *, version: str = ""
    ) -> dict[str, Any]:
        """Send an artifact under the tag; return its descriptor. `version` is ``1.0``, ``1.1``, or empty: the later
        one, and the earlier one where the registry refuses that.
        """
        for data in (_EMPTY, *(one.data for one in parts)):
            self._send_blob(data)
        if version:
            return self._send_artifact(kind, parts, annotations, version)
        try:
            return self._send_artifact(kind, parts, annotations, "1.1")
        except RegistryFault as error:
            if not error.final and "answers 4" not in error.message:
                raise
            return self._send_artifact(kind, parts, annotations, "1.0")

    def _send_artifact(
        self, kind: ArtifactKind, parts: Sequence[Part], annotations: Mapping[str, str], version: str
    ) -> dict[str, Any]:
        modern = version != "1.0"
        config = {"mediaType": EMPTY_TYPE if modern else kind.config_type, **_describe(_EMPTY)}
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            **({"artifactType": kind.artifact_type} if modern else {}),
            "config": config,
            "layers": [
                {"mediaType": one.media_type, **_describe(one.data), "annotations": dict(one.annotations)}
                for one in parts
            ],
            "annotations": dict(annotations),
        }
        data = json.dumps(document, separators=(",", ":")).encode()
        put_manifest(self._repository, data, OCI_MANIFEST, self.reference.tag)
        return {"mediaType": OCI_MANIFEST, **_describe(data), "artifactType": kind.artifact_type}

    def send_index(
        self,
        kind: ArtifactKind,
        manifests: Sequence[Mapping[str, Any]],
        subject: Mapping[str, Any],
        notes: Mapping[str, str],
    ) -> str:
        """Send an index that refers to an artifact, known by its digest alone. Returns that."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "artifactType": kind.artifact_type,
            "manifests": [dict(one) for one in manifests],
            "subject": {name: subject[name] for name in ("mediaType", "digest", "size")},
            "annotations": dict(notes),
        }
        data = json.dumps(document, separators=(",", ":")).encode()
        put_manifest(self._repository, data, OCI_INDEX, compute_digest(data))
        return compute_digest(data)

    def copy_image(self, source: str) -> dict[str, Any]:
        """Copy an image, all its platforms, from its registry into this repository; return its descriptor."""
        reference = parse_reference(source)
        endpoint = self._settings.resolve_endpoints(reference)[-1]
        other = Repository(self._transport, endpoint)
        return self._copy_manifest(other, reference, other.fetch_manifest(reference))

    def _copy_manifest(self, other: Repository, reference: Reference, document: Document) -> dict[str, Any]:
        parsed = parse_manifest(document.data, document.media_type)
        if isinstance(parsed, ImageIndex):
            for one in parsed.manifests:
                inner = parse_reference(f"{reference.name}@{one.digest}")
                self._copy_manifest(other, inner, other.fetch_manifest(inner))
        else:
            for one in (parsed.config, *parsed.layers):
                self._copy_blob(other, one)
        put_manifest(self._repository, document.data, parsed.media_type, document.digest)
        return {"mediaType": parsed.media_type, "digest": document.digest, "size": len(document.data)}

    def _copy_blob(self, other: Repository, blob: Descriptor) -> None:
        if self._has_blob(blob.digest):
            return
        query = "blobs/uploads/"
        if other.endpoint.host == self._repository.endpoint.host:
            query += f"?mount={quote(blob.digest)}&from={quote(other.endpoint.path, safe='')}"
        response = self._repository.send("POST", query, headers={"Content-Length": "0"})
        location = response.header("Location")
        data = response.read(ERROR_LIMIT)
        if response.status == 201:
            return
        if response.status != 202:
            raise self._repository.explain(response, data)

        def body() -> Iterator[bytes]:
            return other.iterate_blob(blob)

        finish_upload(self._repository, location, blob.digest, blob.size, body)

    def _send_blob(self, data: bytes) -> None:
        digest = compute_digest(data)
        if not self._has_blob(digest):
            finish_upload(self._repository, begin_upload(self._repository), digest, len(data), data)

    def _has_blob(self, digest: str) -> bool:
        response = self._repository.send("HEAD", f"blobs/{digest}")
        response.close()
        return response.status == 200


def fetch_artifact(settings: RegistrySettings, source: str) -> Artifact:
    """Fetch an artifact, verified. Raises ImageMissing, InvalidImage, Unauthorized, RegistryUnreachable ..."""
    reference = parse_reference(source)
    transport = Transport(settings, cancel=lambda: False)
    try:
        repository = Repository(transport, settings.resolve_endpoints(reference)[-1])
        document = repository.fetch_manifest(reference)
        try:
            raw = json.loads(document.data)
            config, layers = raw.get("config") or {}, raw["layers"]
            kind = str(raw.get("artifactType") or config.get("mediaType") or "")
            found = [
                (
                    Descriptor(str(one["mediaType"]), str(one["digest"]), int(one["size"])),
                    dict(one.get("annotations") or {}),
                )
                for one in layers
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InvalidImage(f"{reference.familiar} is no artifact", resource=str(reference)) from None
        if any("image" in descriptor.media_type for descriptor, _notes in found):
            # Not even a look at the layers of what is an image.
            return Artifact(document.digest, kind, ())
        parts = tuple(
            Part(descriptor.media_type, repository.fetch_blob(descriptor, _FILE_LIMIT), notes)
            for descriptor, notes in found
        )
        return Artifact(document.digest, kind, parts)
    finally:
        transport.close()


def _describe(data: bytes) -> dict[str, Any]:
    return {"digest": compute_digest(data), "size": len(data)}
