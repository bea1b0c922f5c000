"""``load``: images from an OCI layout (folder or tar) or a docker-archive, plain or compressed, seekable or a pipe.

The archive's members are never unpacked as files: they are read where they lie, each layer straight into its directory.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from orchestrator.engines.native.images.compression import detect_compression, iterate_decompressed
from orchestrator.engines.native.images.content import Cancel, check_cancel, compute_digest, disk_error
from orchestrator.engines.native.images.failures import InvalidImage, InvalidReference, UnsupportedImage
from orchestrator.engines.native.images.importer import iterate_chunks, open_source
from orchestrator.engines.native.images.manifest import (
    MANIFEST_LIMIT,
    Descriptor,
    Manifest,
    parse_configuration,
    parse_manifest,
    select_manifest,
)
from orchestrator.engines.native.images.platform import detect_platform
from orchestrator.engines.native.images.reference import is_digest, parse_reference

if TYPE_CHECKING:
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.images.workspace import Workspace

_CONFIG_LIMIT = 8 << 20
_PIECE = 1 << 18
_MEMBER_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class _Entry:
    """One image of an archive: its configuration, and each layer with the member that holds it."""

    configuration: bytes
    diff_ids: tuple[str, ...]
    members: tuple[str, ...]
    references: tuple[str, ...]
    blobs: dict[str, bytes]
    digests: tuple[str, ...]  # of the members, where the archive promises them


def load_archive(store: ImageStore, source: BinaryIO | Path, cancel: Cancel | None) -> tuple[Image, ...]:
    """See `ImageStore.load_archive`."""
    with store.open_workspace() as workspace, _open_members(source, workspace, cancel) as members:
        entries = _read_entries(members)
        if not entries:
            raise InvalidImage("the archive holds no image", operation="load")
        return tuple(_load_entry(store, members, entry, workspace, cancel) for entry in entries)


def _load_entry(
    store: ImageStore, members: Members, entry: _Entry, workspace: Workspace, cancel: Cancel | None
) -> Image:
    workspace.keep(entry.diff_ids)
    for diff_id, member, digest in zip(entry.diff_ids, entry.members, entry.digests, strict=True):
        blob: dict[str, Any] | None = None
        if digest and digest != diff_id:
            kind = members.media_type(member)
            blob = {"digest": digest, "size": members.size(member), "mediaType": kind, "sources": []}
        store.layers.ensure_layer(
            diff_id,
            workspace.path,
            lambda member=member: members.iterate(member, cancel),  # type: ignore[misc]
            blob=blob,
            cancel=cancel,
        )
    names = sorted({parse_reference(one).name for one in entry.references})
    return store.commit_image(
        entry.configuration,
        entry.diff_ids,
        workspace,
        references=entry.references,
        repo_digests=[f"{name}@{digest}" for name in names for digest in entry.blobs],
        blobs=entry.blobs,
    )


# -- where the members lie -------------------------------------------------------------------------------------------


class Members:
    """The named byte ranges of an archive."""

    def size(self, name: str) -> int:
        """Length in bytes. Raises InvalidImage if there is no such member."""
        raise NotImplementedError

    def iterate(self, name: str, cancel: Cancel | None = None) -> Iterator[bytes]:
        """The content."""
        raise NotImplementedError

    def has(self, name: str) -> bool:
        """Whether there is such a member."""
        raise NotImplementedError

    def read(self, name: str, limit: int) -> bytes:
        """A small member whole. Raises InvalidImage."""
        if self.size(name) > limit:
            raise InvalidImage(f"{name} in the archive is too large", operation="load")
        return b"".join(self.iterate(name))

    def media_type(self, name: str) -> str:
        """The OCI media type of a layer, from its first bytes."""
        kind = detect_compression(next(self.iterate(name), b"")[:6])
        return "application/vnd.oci.image.layer.v1.tar" + (f"+{kind}" if kind in ("gzip", "zstd") else "")


class TarMembers(Members):
    """Members of a plain, seekable tar."""

    def __init__(self, stream: BinaryIO) -> None:
        self._descriptor = stream.fileno()
        self._places: dict[str, tuple[int, int]] = {}
        links: list[tuple[str, str]] = []
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for count, member in enumerate(archive):
                    if count > _MEMBER_LIMIT:
                        raise InvalidImage("the archive has too many members", operation="load")
                    name = os.path.normpath(member.name.lstrip("/"))
                    if member.isreg():
                        self._places[name] = (member.offset_data, member.size)
                    elif member.islnk():
                        links.append((name, os.path.normpath(member.linkname)))
                    elif member.issym():
                        links.append((name, os.path.normpath(f"{os.path.dirname(name)}/{member.linkname}")))
        except tarfile.TarError as error:
            raise InvalidImage(f"not an image archive: {error}", operation="load") from error
        for name, target in links:  # older docker-archives share equal layers by links
            if target in self._places:
                self._places.setdefault(name, self._places[target])

    def has(self, name: str) -> bool:
        return name in self._places

    def size(self, name: str) -> int:
        return self._place(name)[1]

    def iterate(self, name: str, cancel: Cancel | None = None) -> Iterator[bytes]:
        offset, left = self._place(name)
        while left:
            check_cancel(cancel)
            data = os.pread(self._descriptor, min(left, _PIECE), offset)
            if not data:
                raise InvalidImage("the archive is truncated", operation="load")
            offset, left = offset + len(data), left - len(data)
            yield data

    def _place(self, name: str) -> tuple[int, int]:
        try:
            return self._places[os.path.normpath(name)]
        except KeyError:
            raise InvalidImage(f"the archive lacks {name}", operation="load") from None


class FolderMembers(Members):
    """Members of an OCI layout folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, name: str) -> bool:
        return (self._root / name).is_file()

    def size(self, name: str) -> int:
        try:
            return (self._root / name).stat().st_size
        except FileNotFoundError:
            raise InvalidImage(f"{self._root} lacks {name}", operation="load") from None

    def iterate(self, name: str, cancel: Cancel | None = None) -> Iterator[bytes]:
        with (self._root / name).open("rb", buffering=0) as stream:
            yield from iterate_chunks(stream, cancel)


@contextmanager
def _open_members(source: BinaryIO | Path, workspace: Workspace, cancel: Cancel | None) -> Iterator[Members]:
    if isinstance(source, Path) and source.is_dir():
        yield FolderMembers(source)
        return
    with open_source(source) as stream:
        if _is_plain_file(stream):
            stream.seek(0)
            yield TarMembers(stream)
            return
        spool = workspace.path / "archive.tar"
        try:
            with spool.open("wb") as copy:
                for piece in iterate_decompressed(iterate_chunks(stream, cancel)):
                    copy.write(piece)
        except OSError as error:
            raise disk_error(error, spool) from error
        with spool.open("rb") as plain:
            yield TarMembers(plain)


def _is_plain_file(stream: BinaryIO) -> bool:
    try:
        return not detect_compression(os.pread(stream.fileno(), 6, 0))
    except (OSError, AttributeError, ValueError):
        return False


# -- what the archive says -------------------------------------------------------------------------------------------


def _read_entries(members: Members) -> list[_Entry]:
    if members.has("manifest.json"):
        return _read_docker_entries(members)
    if members.has("index.json") and members.has("oci-layout"):
        return _read_oci_entries(members)
    raise InvalidImage(
        "not an image archive: it has neither manifest.json nor index.json",
        operation="load",
        hint="a root filesystem tar is read by 'import', not by 'load'",
    )


def _read_docker_entries(members: Members) -> list[_Entry]:
    raw = _parse_list(members.read("manifest.json", MANIFEST_LIMIT))
    entries = []
    for one in raw:
        if not isinstance(one.get("Config"), str) or not isinstance(one.get("Layers"), list):
            raise InvalidImage("manifest.json of the archive is malformed", operation="load")
        configuration = members.read(one["Config"], _CONFIG_LIMIT)
        diff_ids = parse_configuration(configuration)[1]
        if len(diff_ids) != len(one["Layers"]):
            raise InvalidImage("manifest.json of the archive lists another number of layers", operation="load")
        references = tuple(str(parse_reference(tag)) for tag in one.get("RepoTags") or ())
        layers = tuple(str(layer) for layer in one["Layers"])
        entries.append(_Entry(configuration, diff_ids, layers, references, {}, ("",) * len(layers)))
    return entries


def _read_oci_entries(members: Members) -> list[_Entry]:
    index = parse_manifest(members.read("index.json", MANIFEST_LIMIT))
    if isinstance(index, Manifest):
        raise InvalidImage("index.json of the archive is not an index", operation="load")
    return [_read_oci_entry(members, descriptor) for descriptor in index.manifests]


def _read_oci_entry(members: Members, descriptor: Descriptor) -> _Entry:
    blobs: dict[str, bytes] = {}
    name = descriptor.annotations.get("io.containerd.image.name") or descriptor.annotations.get(
        "org.opencontainers.image.ref.name", ""
    )
    references = _parse_annotation(name)
    manifest = None
    for _ in range(4):
        data = _read_verified(members, descriptor.digest, MANIFEST_LIMIT)
        blobs[descriptor.digest] = data
        parsed = parse_manifest(data, descriptor.media_type)
        if isinstance(parsed, Manifest):
            manifest = parsed
            break
        if len(parsed.manifests) == 1:
            descriptor = parsed.manifests[0]
        else:
            descriptor = select_manifest(parsed, detect_platform(), name or "the archive")
    if manifest is None:
        raise UnsupportedImage("the archive nests its indexes too deeply", operation="load")
    configuration = _read_verified(members, manifest.config.digest, _CONFIG_LIMIT)
    diff_ids = parse_configuration(configuration)[1]
    if len(diff_ids) != len(manifest.layers):
        raise InvalidImage("the archive's manifest and configuration disagree on the layers", operation="load")
    digests = tuple(layer.digest for layer in manifest.layers)
    return _Entry(configuration, diff_ids, tuple(map(_blob_name, digests)), references, blobs, digests)


def _read_verified(members: Members, digest: str, limit: int) -> bytes:
    data = members.read(_blob_name(digest), limit)
    if compute_digest(data, digest.partition(":")[0]) != digest:
        raise InvalidImage(f"digest mismatch: {digest} in the archive is damaged", resource=digest, operation="load")
    return data


def _blob_name(digest: str) -> str:
    if not is_digest(digest):
        raise InvalidImage(f"invalid digest {digest!r} in the archive", operation="load")
    return f"blobs/{digest.replace(':', '/')}"


def _parse_annotation(name: str) -> tuple[str, ...]:
    """A complete reference is one; a bare word is a tag of nothing that is known, and names no image."""
    if "/" not in name and ":" not in name:
        return ()
    try:
        reference = parse_reference(name)
    except InvalidReference:
        return ()
    return (str(reference),) if reference.tag else ()


def _parse_list(data: bytes) -> list[dict[str, Any]]:
    import json

    try:
        raw = json.loads(data)
    except ValueError as error:
        raise InvalidImage("manifest.json of the archive is not valid JSON", operation="load") from error
    if not isinstance(raw, list) or not all(isinstance(one, dict) for one in raw):
        raise InvalidImage("manifest.json of the archive is not a list", operation="load")
    return raw
