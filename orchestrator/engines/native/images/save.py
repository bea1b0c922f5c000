"""``save``: images as one tar that is an OCI layout and a docker-archive at once, as `docker save` writes it; or only
one of them, for readers that are confused by both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from orchestrator.engines.native.images.content import Cancel, compute_digest, disk_error
from orchestrator.engines.native.images.export import ExportImage, annotate_manifest, iterate_tar, resolve_export
from orchestrator.engines.native.images.manifest import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from orchestrator.engines.native.images.reference import parse_reference, render_familiar
from orchestrator.engines.native.images.tarwriter import BLOCK, render_header
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.engines.native.images.store import ImageStore


ArchiveForm = Literal["both", "oci", "docker"]


def save_archive(
    store: ImageStore, names: Sequence[str], target: BinaryIO | Path, cancel: Cancel | None, form: ArchiveForm = "both"
) -> None:
    """See `ImageStore.save_archive`."""
    if not names:
        raise UsageError("name at least one image to save")
    chosen: dict[str, tuple[ExportImage, set[str]]] = {}
    with store.open_workspace() as workspace:
        for name in names:
            exported = resolve_export(store, name, workspace, cancel)
            _, references = chosen.setdefault(exported.image.id, (exported, set()))
            references.update(_choose_references(exported, name))
        with _open_target(target) as stream:
            images = [(one, sorted(names)) for one, names in chosen.values()]
            for piece in _render_archive(store, images, cancel, form):
                stream.write(piece)


def _choose_references(exported: ExportImage, name: str) -> tuple[str, ...]:
    """The name that was asked for; all names when it was an identifier or a digest."""
    known = exported.image.references
    if name.startswith("sha256:"):
        return known
    asked = str(parse_reference(name))
    return (asked,) if asked in known else known


@contextmanager
def _open_target(target: BinaryIO | Path) -> Iterator[BinaryIO]:
    """A stream is written to; a path appears only when it is complete."""
    if not isinstance(target, Path):
        yield target
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        beside.rename(target)
    except OSError as error:
        raise disk_error(error, target) from error
    finally:
        beside.unlink(missing_ok=True)


def _render_archive(
    store: ImageStore, images: Iterable[tuple[ExportImage, list[str]]], cancel: Cancel | None, form: ArchiveForm
) -> Iterator[bytes]:
    written: set[str] = set()
    manifests: list[dict[str, Any]] = []
    docker: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    yield _render_folder("blobs/") + _render_folder("blobs/sha256/")
    for exported, references in images:
        layers = []
        for one in exported.layers:
            layers.append({"mediaType": OCI_LAYER, "digest": one.diff_id, "size": one.size})
            if one.diff_id not in written:
                written.add(one.diff_id)
                yield render_header(_blob_name(one.diff_id), b"0", mode=0o644, size=one.size)
                yield from iterate_tar(store, one, cancel)
                yield bytes(-one.size % BLOCK)
        config = _describe(OCI_CONFIG, exported.configuration)
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
        manifest = _dump(annotate_manifest(exported, document))
        described = _describe(OCI_MANIFEST, manifest)
        documents = [(exported.configuration, config["digest"])]
        documents += [] if form == "docker" else [(manifest, described["digest"])]
        for content, digest in documents:
            if digest not in written:
                written.add(digest)
                yield _render_file(_blob_name(digest), content)
        manifests += _annotate(described, references)
        familiar = [render_familiar(one) for one in references]
        members = [_blob_name(one.diff_id) for one in exported.layers]
        docker.append({"Config": _blob_name(config["digest"]), "RepoTags": familiar or None, "Layers": members})
        for name in familiar:
            repository, _, tag = name.rpartition(":")
            if exported.layers:
                repositories.setdefault(repository, {})[tag] = exported.layers[-1].diff_id[7:]
    if form != "docker":
        yield _render_file("index.json", _dump({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}))
    if form != "oci":
        yield _render_file("manifest.json", _dump(docker))
    if form != "docker":
        yield _render_file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    if repositories and form != "oci":
        yield _render_file("repositories", _dump(repositories))
    yield bytes(2 * BLOCK)


def _annotate(described: dict[str, Any], references: list[str]) -> list[dict[str, Any]]:
    if not references:
        return [described]
    return [
        {
            **described,
            "annotations": {
                "io.containerd.image.name": reference,
                "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
            },
        }
        for reference in references
    ]


def _describe(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": compute_digest(data), "size": len(data)}


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _render_folder(name: str) -> bytes:
    return render_header(name, b"5", mode=0o755)


def _render_file(name: str, data: bytes) -> bytes:
    return render_header(name, b"0", mode=0o644, size=len(data)) + data + bytes(-len(data) % BLOCK)
