"""``push``: what the registry has already is not sent; the rest is compressed while it goes out, layers in parallel.

An image that was pulled goes out with its own manifest, so that its digest stays the same.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from orchestrator.engines.native.images.attestations import describe_attestation, make_attestation
from orchestrator.engines.native.images.content import Cancel, compute_digest
from orchestrator.engines.native.images.export import (
    ExportImage,
    ExportLayer,
    annotate_manifest,
    iterate_tar,
    resolve_export,
)
from orchestrator.engines.native.images.failures import (
    InvalidReference,
    RateLimited,
    RegistryFault,
    RegistryUnreachable,
)
from orchestrator.engines.native.images.manifest import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Manifest,
    parse_manifest,
)
from orchestrator.engines.native.images.pull import Progress, PullProgress, run_parallel, tell_wait
from orchestrator.engines.native.images.reference import Reference, parse_reference
from orchestrator.engines.native.images.registry import ERROR_LIMIT, Document, Repository
from orchestrator.engines.native.images.transport import Transport, compute_delay
from orchestrator.engines.native.images.uploads import begin_upload, expect_status, finish_upload, put_manifest

if TYPE_CHECKING:
    from orchestrator.engines.native.images.registries import RegistrySettings
    from orchestrator.engines.native.images.store import ImageStore

_LEVEL = 2  # isal: about zlib's ratio at 3, at several times its speed
_ATTEMPTS = 4
_SOURCES = 4  # repositories asked for a mount


def push_image(
    store: ImageStore,
    settings: RegistrySettings,
    name: str,
    target: str,
    progress: Progress | None,
    cancel: Cancel | None,
) -> str:
    """See `ImageStore.push`."""
    reference = parse_reference(target)
    if reference.digest:
        raise InvalidReference(f"{target!r} has a digest: a push goes to a tag")
    stop = threading.Event()

    def stopped() -> bool:
        return stop.is_set() or (cancel is not None and cancel())

    with store.open_workspace() as workspace:
        images = [resolve_export(store, one.id, workspace, stopped) for one in store.list_group(name)]
        endpoint = settings.resolve_endpoints(reference)[-1]
        report = progress or (lambda _: None)
        waiting = functools.partial(tell_wait, report)
        with Transport(settings, cancel=stopped, on_wait=waiting) as transport:
            repository = Repository(
                transport, endpoint, actions="pull,push", also_pull=_list_near(images, endpoint.host), cancel=stopped
            )
            pushes = [_Push(store, one, repository, transport, report, stop, stopped) for one in images]
            indexed = len(pushes) > 1 or any(one.provenance for one in images)
            sent = [one.run("" if indexed else reference.tag) for one in pushes]
            digest = _push_index(pushes, sent, reference) if indexed else sent[0].digest
        for one, document in zip(images, sent, strict=True):
            store.note_digest(one.image.id, f"{reference.name}@{document.digest}")
        store.note_digest(images[0].image.id, f"{reference.name}@{digest}")
        return digest


def _list_near(images: Sequence[ExportImage], host: str) -> list[str]:
    """Repositories of the same registry that have layers of the images."""
    blobs = (blob for image in images for one in image.layers for blob in one.layer.blobs)
    sources = {source for blob in blobs for source in blob["sources"]}
    return sorted(one.partition("/")[2] for one in sources if one.startswith(f"{host}/"))[:_SOURCES]


def _push_index(pushes: Sequence[_Push], sent: Sequence[Document], reference: Reference) -> str:
    """Make the images of several platforms, and what is attested of them, one by the index that is sent last. Returns
    its digest.
    """
    entries, attested = [], []
    for push, document in zip(pushes, sent, strict=True):
        system, _, rest = push.platform.partition("/")
        architecture, _, variant = rest.partition("/")
        platform = {"architecture": architecture, "os": system, **({"variant": variant} if variant else {})}
        described = {"mediaType": document.media_type, "digest": document.digest, "size": len(document.data)}
        entries.append({**described, "platform": platform})
        if attestation := push.attest(document.digest, f"{reference.name}:{reference.tag}"):
            attested.append(attestation)
    raw = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*entries, *attested]}
    index = json.dumps(raw, separators=(",", ":")).encode()
    pushes[0].put_manifest(Document(index, OCI_INDEX, compute_digest(index)), reference.tag)
    return compute_digest(index)


class _Push:
    def __init__(
        self,
        store: ImageStore,
        exported: ExportImage,
        repository: Repository,
        transport: Transport,
        report: Progress,
        stop: threading.Event,
        cancel: Cancel,
    ) -> None:
        self._store = store
        self._exported = exported
        self._repository = repository
        self._transport = transport
        self._report = report
        self._stop = stop
        self._cancel = cancel

    @property
    def platform(self) -> str:
        """What the image is for."""
        return self._exported.image.platform

    def run(self, tag: str = "") -> Document:
        """Send everything; return the manifest. Without a tag it is known by its digest alone."""
        original = self._find_original()
        if original is None:
            data = self._send_layers()
            original = Document(data, OCI_MANIFEST, compute_digest(data))
        else:
            for one in self._exported.layers:
                self._report(PullProgress(one.diff_id, "exists", one.size, one.size))
        self._send_blob(self._exported.configuration)
        self.put_manifest(original, tag or original.digest)
        return original

    def attest(self, digest: str, name: str) -> dict[str, Any] | None:
        """Send what is attested of the manifest `digest`; its entry for the index, None if there is nothing."""
        if not self._exported.provenance:
            return None
        attestation = make_attestation(self._exported.provenance, name, self.platform, digest)
        for blob in attestation.blobs:
            self._send_blob(blob)
        key = compute_digest(attestation.manifest)
        self.put_manifest(Document(attestation.manifest, OCI_MANIFEST, key), key)
        return describe_attestation(attestation, digest)

    def put_manifest(self, document: Document, name: str) -> None:
        """Send a manifest or an index; with it the image appears."""
        put_manifest(self._repository, document.data, document.media_type, name)

    def _find_original(self) -> Document | None:
        """The manifest that the image came with, if the registry has (or can mount) every layer of it."""
        image = self._exported.image
        if self._exported.annotations:
            return None
        for digest in self._store.read_record(image.id)["blobs"]:
            data = self._store.blobs.read(digest)
            parsed = parse_manifest(data) if data is not None else None
            if not isinstance(parsed, Manifest) or parsed.config.digest != image.id:
                continue
            known = {blob["digest"]: blob for one in self._exported.layers for blob in one.layer.blobs}
            if all(self._is_there(known.get(one.digest, {"digest": one.digest})) for one in parsed.layers):
                return Document(data or b"", parsed.media_type, digest)
        return None

    def _is_there(self, blob: dict[str, Any]) -> bool:
        """Whether the registry has a blob in this repository, now or after a mount."""
        digest = blob["digest"]
        response = self._repository.send("HEAD", f"blobs/{digest}")
        response.close()
        if response.status == 200:
            return True
        host = f"{self._repository.endpoint.host}/"
        for source in blob.get("sources", ())[:_SOURCES]:
            if not source.startswith(host) or source == self._repository.endpoint.name:
                continue
            query = f"mount={quote(digest)}&from={quote(source[len(host) :], safe='')}"
            response = self._repository.send("POST", f"blobs/uploads/?{query}", headers={"Content-Length": "0"})
            location = response.header("Location")
            response.read(ERROR_LIMIT)
            if response.status == 201:
                return True
            if response.status == 202 and location:  # not mounted, an upload was begun instead: give it up
                self._repository.send("DELETE", location).read(ERROR_LIMIT)
        return False

    def _send_layers(self) -> bytes:
        layers = {one.diff_id: one for one in self._exported.layers}
        descriptors: dict[str, dict[str, Any]] = {}
        run_parallel(
            [
                lambda one=one: descriptors.__setitem__(one.diff_id, self._send_layer(one))  # type: ignore[misc]
                for one in layers.values()
            ],
            self._stop,
        )
        config = {
            "mediaType": OCI_CONFIG,
            "digest": compute_digest(self._exported.configuration),
            "size": len(self._exported.configuration),
        }
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config,
            "layers": [descriptors[one.diff_id] for one in self._exported.layers],
        }
        return json.dumps(annotate_manifest(self._exported, document), separators=(",", ":")).encode()

    def _send_layer(self, one: ExportLayer) -> dict[str, Any]:
        for blob in one.layer.blobs:
            if self._is_there(blob):
                self._report(PullProgress(one.diff_id, "exists", one.size, one.size))
                return _describe(blob)
        for attempt in range(_ATTEMPTS):
            try:
                digest, size = self._upload(one)
                break
            except (RegistryUnreachable, RegistryFault, RateLimited) as error:
                if attempt == _ATTEMPTS - 1 or getattr(error, "final", False):
                    raise
                self._transport.wait(compute_delay(attempt))
        sources = [self._repository.endpoint.name]
        blob = {"digest": digest, "size": size, "mediaType": f"{OCI_LAYER}+gzip", "sources": sources}
        self._store.layers.note_blob(one.layer.id, blob)
        self._report(PullProgress(one.diff_id, "done", one.size, one.size))
        return _describe(blob)

    def _upload(self, one: ExportLayer) -> tuple[str, int]:
        """Stream one layer in an upload session of its own; a broken one is not taken up, it begins anew."""
        from isal import isal_zlib

        digest, size = hashlib.sha256(), 0

        def body() -> Iterator[bytes]:
            nonlocal digest, size
            digest, size = hashlib.sha256(), 0  # the transport may begin anew
            deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, 31)
            done = told = 0
            for piece in iterate_tar(self._store, one, self._cancel):
                done += len(piece)
                if done - told >= 1 << 20:
                    told = done
                    self._report(PullProgress(one.diff_id, "uploading", done, one.size))
                if packed := deflate.compress(piece):
                    digest.update(packed)
                    size += len(packed)
                    yield packed
            packed = deflate.flush()
            digest.update(packed)
            size += len(packed)
            yield packed

        location = begin_upload(self._repository)
        headers = {"Content-Type": "application/octet-stream"}
        response = self._repository.send("PATCH", location, headers=headers, body=body, attempts=1)
        location = expect_status(self._repository, response, 202)
        complete = f"sha256:{digest.hexdigest()}"
        finish_upload(self._repository, location, complete, 0, b"")
        return complete, size

    def _send_blob(self, data: bytes) -> None:
        digest = compute_digest(data)
        if not self._is_there({"digest": digest}):
            finish_upload(self._repository, begin_upload(self._repository), digest, len(data), data)


def _describe(blob: dict[str, Any]) -> dict[str, Any]:
    kind = blob["mediaType"]
    if "docker" in kind:  # our manifests are OCI throughout
        kind = OCI_LAYER + ("+gzip" if kind.endswith("gzip") else "+zstd" if kind.endswith("zstd") else "")
    return {"mediaType": kind, "digest": blob["digest"], "size": blob["size"]}
