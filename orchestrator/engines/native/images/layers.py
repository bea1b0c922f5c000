"""Unpacked layers on disk, shared by every image and container.

``l/<name>`` is the directory, ready for overlay's lowerdir; ``layers/<name>.json`` is its record, ``<name>.recipe``
what it takes to write its tar again. A layer is there when its record is. `name` is short: mount options have a length.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.engines.native.images.content import (
    Cancel,
    check_cancel,
    hold_lock,
    remove_tree,
    sync_filesystem,
    write_file,
)
from orchestrator.engines.native.images.failures import InvalidImage, TransferCancelled

if TYPE_CHECKING:
    from orchestrator.engines.native.images.unpack import Unpacked

SNAPSHOT = "snapshot:"
EMPTY_LAYER = "snapshot:empty"


class Layer(NamedTuple):
    """One unpacked layer. `id` is its diff_id, or ``snapshot:...`` if it was committed here without a tar."""

    id: str
    name: str
    path: Path
    record: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes of file content."""
        return int(self.record["size"])

    @property
    def blobs(self) -> tuple[dict[str, Any], ...]:
        """Compressed forms that are known: ``digest``, ``size``, ``mediaType``, ``sources`` (repositories)."""
        return tuple(self.record.get("blobs", ()))


def render_layer_name(key: str) -> str:
    """A directory name of 16 characters (80 bits of the key's hash)."""
    import base64
    import hashlib

    return base64.b32encode(hashlib.sha256(key.encode()).digest()[:10]).decode().lower()


def compute_chain_id(parent: str, diff_id: str) -> str:
    """The OCI ChainID of `diff_id` on top of `parent` (empty for a base layer)."""
    import hashlib

    return f"sha256:{hashlib.sha256(f'{parent} {diff_id}'.encode()).hexdigest()}" if parent else diff_id


def list_chain_keys(layer_ids: Sequence[str]) -> list[str]:
    """The keys under which the layers of a chain stand if they depend on what is below them."""
    keys, chain = [], ""
    for layer_id in layer_ids:
        chain = compute_chain_id(chain, layer_id)
        keys.append(f"chain:{chain}")
    return keys


@functools.cache
def read_boot_id() -> str:
    """Changes at every boot of the kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class LayerStore:
    """Layers below `root`. Constructing it does no I/O."""

    def __init__(self, root: Path) -> None:
        self._directories = root / "l"
        self._records = root / "layers"
        self._locks = root / "locks"

    def prepare(self) -> None:
        """Make the folders."""
        for path in (self._directories, self._records, self._locks):
            path.mkdir(mode=0o711 if path is self._directories else 0o700, parents=True, exist_ok=True)

    def directory(self, name: str) -> Path:
        """The lowerdir of a layer name."""
        return self._directories / name

    def find_layer(self, layer_id: str) -> Layer | None:
        """The layer with this diff_id or snapshot identifier, or None."""
        layer = self.read_layer(render_layer_name(layer_id))
        if layer is not None and layer.id != layer_id:
            raise InvalidImage(
                f"two layers share the short name {layer.name}", resource=layer_id, operation="find layer"
            )
        return layer

    def has_all(self, directories: Iterable[Path]) -> bool:
        """Whether the layers of an image, as `Image.layers` has them, are all there."""
        return all(self.read_layer(one.name) is not None for one in directories)

    def read_layer(self, name: str) -> Layer | None:
        """The layer with this short name, or None."""
        try:
            record = json.loads((self._records / f"{name}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        path = self.directory(name)
        # An unsynced layer may have lost content if the machine went down since.
        if record.get("boot", read_boot_id()) != read_boot_id() or not path.is_dir():
            return None
        return Layer(record["id"], name, path, record)

    def list_names(self) -> set[str]:
        """Every name that has a directory or a record."""
        found: set[str] = set()
        with suppress(FileNotFoundError):
            found.update(os.listdir(self._directories))
        with suppress(FileNotFoundError):
            found.update(one.split(".")[0] for one in os.listdir(self._records))
        return found

    def ensure_layer(
        self,
        diff_id: str,
        workspace: Path,
        open_chunks: Callable[[], Iterable[bytes]],
        *,
        blob: dict[str, Any] | None = None,
        cancel: Cancel | None = None,
        on_wait: Callable[[], None] | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> tuple[Layer, bool]:
        """Unpack a layer once, however many threads and processes want it. Returns it, and whether it is new.

        `open_chunks` is called only if the layer is not there; it raises at the end if the blob's own digest is wrong.
        """
        if (layer := self.find_layer(diff_id)) is not None:
            return self._note_blob(layer, blob), False
        with hold_lock(self._locks / render_layer_name(diff_id), cancel=cancel, on_wait=on_wait):
            if (layer := self.find_layer(diff_id)) is not None:
                return self._note_blob(layer, blob), False
            unpacked, made, recipe = self._unpack(workspace, diff_id, open_chunks(), cancel, on_bytes)
            if unpacked.diff_id != diff_id:
                remove_tree(made)
                raise InvalidImage(
                    f"digest mismatch: the layer should be {diff_id}, its content is {unpacked.diff_id}",
                    resource=diff_id,
                    operation="verify",
                )
            return self._commit(made, recipe, diff_id, _render_record(diff_id, unpacked, blob)), True

    def add_layer(
        self,
        workspace: Path,
        chunks: Iterable[bytes],
        announce: Callable[[Iterable[str]], None],
        *,
        cancel: Cancel | None = None,
    ) -> tuple[Layer, bool]:
        """Unpack a layer whose diff_id is not known beforehand (an imported tar).

        `announce` protects it from the collector; it is called before the layer leaves `workspace`.
        """
        unpacked, made, recipe = self._unpack(workspace, "new", chunks, cancel, None)
        announce([unpacked.diff_id])
        with hold_lock(self._locks / render_layer_name(unpacked.diff_id), cancel=cancel):
            if (layer := self.find_layer(unpacked.diff_id)) is not None:
                remove_tree(made)
                return layer, False
            record = _render_record(unpacked.diff_id, unpacked, None)
            return self._commit(made, recipe, unpacked.diff_id, record), True

    def adopt_directory(
        self, directory: Path, layer_id: str, *, measured: tuple[int, int] | None = None, created: str = ""
    ) -> Layer:
        """Make a finished overlay upper directory a layer, without writing a tar. It is moved, so it must stand on the
        same filesystem. `layer_id` is ``snapshot:`` and any unique text (a cache key, say). `measured` is what
        `measure_directory` would find, `created` (RFC 3339) is kept with the layer.
        """
        if not layer_id.startswith(SNAPSHOT):
            raise InvalidImage(f"not a snapshot identifier: {layer_id!r}", operation="commit layer")
        with hold_lock(self._locks / render_layer_name(layer_id)):
            if (layer := self.find_layer(layer_id)) is not None:
                remove_tree(directory)
                return layer
            os.chmod(directory, 0o755)  # containers' root directory, whatever the folder for work had
            size, entries = measured or measure_directory(directory)
            record = {"id": layer_id, "size": size, "entries": entries, **({"created": created} if created else {})}
            return self._commit(directory, None, layer_id, record)

    def _unpack(
        self,
        workspace: Path,
        diff_id: str,
        chunks: Iterable[bytes],
        cancel: Cancel | None,
        on_bytes: Callable[[int], None] | None,
    ) -> tuple[Unpacked, Path, Path]:
        from orchestrator.engines.native.images.unpack import unpack_layer

        name = render_layer_name(diff_id)
        made, recipe = workspace / name, workspace / f"{name}.recipe"
        made.mkdir(mode=0o755)
        os.chmod(made, 0o755)  # whatever the umask
        try:
            unpacked = unpack_layer(chunks, made, recipe=recipe, cancel=cancel, on_bytes=on_bytes)
        except BaseException:
            remove_tree(made)
            raise
        return unpacked, made, recipe

    def _commit(self, made: Path, recipe: Path | None, key: str, record: dict[str, Any]) -> Layer:
        """Move a finished directory into place; the record, written last, makes it visible."""
        name = render_layer_name(key)
        target = self.directory(name)
        if target.exists():  # left by a crash before its record was written
            leftover = made.parent / f"{name}.leftover"
            os.rename(target, leftover)
            remove_tree(leftover)
        if recipe is not None and recipe.exists():
            os.rename(recipe, self._records / f"{name}.recipe")
        os.rename(made, target)
        return self._write_record(name, {**record, "boot": read_boot_id()})

    def _write_record(self, name: str, record: dict[str, Any], *, durable: bool = False) -> Layer:
        text = json.dumps(record, separators=(",", ":"))
        write_file(self._records / f"{name}.json", text.encode(), durable=durable)
        return Layer(record["id"], name, self.directory(name), record)

    def _note_blob(self, layer: Layer, blob: dict[str, Any] | None) -> Layer:
        """Remember another compressed form (or another repository that has it): a push need not send it then."""
        if blob is None or blob in layer.blobs:
            return layer
        known = {one["digest"]: one for one in layer.blobs}
        before = known.get(blob["digest"], blob)
        known[blob["digest"]] = {**blob, "sources": sorted({*before["sources"], *blob["sources"]})}
        if list(known.values()) == list(layer.blobs):
            return layer
        return self._write_record(layer.name, {**layer.record, "blobs": list(known.values())})

    def note_blob(self, layer_id: str, blob: dict[str, Any]) -> None:
        """Remember a compressed form of a layer after a push."""
        with hold_lock(self._locks / render_layer_name(layer_id)):
            if (layer := self.find_layer(layer_id)) is not None:
                self._note_blob(layer, blob)

    def note_tar(self, layer: Layer, diff_id: str, tar_size: int) -> Layer:
        """Remember what a snapshot's tar is, once it was rendered."""
        return self._write_record(layer.name, {**layer.record, "diff_id": diff_id, "tar_size": tar_size})

    def settle(self, names: Iterable[str]) -> None:
        """After this, the layers survive a power failure. One syncfs for all of them."""
        pending = [
            layer
            for layer in (self.read_layer(name) for name in dict.fromkeys(names))
            if layer is not None and "boot" in layer.record
        ]
        if not pending:
            return
        sync_filesystem(self._directories)
        for layer in pending:
            record = {key: value for key, value in layer.record.items() if key != "boot"}
            self._write_record(layer.name, record)
        sync_filesystem(self._directories)

    def resolve_chain(self, layer_ids: Sequence[str], workspace: Path) -> tuple[str, ...]:
        """The layer names for a chain, base first. All layers must be there.

        Nearly always a layer's directory does not depend on what lies below it. It does if its tar leaves out parent
        directories that exist below with other attributes, or has hard links to files below.
        """
        names: list[str] = []
        for layer_id, key in zip(layer_ids, list_chain_keys(layer_ids), strict=True):
            layer = self.find_layer(layer_id)
            if layer is None:
                raise InvalidImage(f"the layer {layer_id} is missing", resource=layer_id, operation="resolve")
            if layer.record.get("implicit") or layer.record.get("links"):
                from orchestrator.engines.native.images.inherit import plan_inheritance

                lower = [self.directory(name) for name in reversed(names)]
                inherited = plan_inheritance(layer.path, layer.record, lower)
                if inherited:
                    names.append(self._derive(layer, key, workspace, inherited))
                    continue
            names.append(layer.name)
        return tuple(names)

    def _derive(self, raw: Layer, key: str, workspace: Path, inherited: Any) -> str:
        from orchestrator.engines.native.images.inherit import derive_directory

        name = render_layer_name(key)
        with hold_lock(self._locks / name):
            if self.read_layer(name) is None:
                made = workspace / name
                derive_directory(raw.path, made, inherited)
                record = {"id": raw.id, "chain": key, "raw": raw.name, "size": raw.size}
                self._commit(made, None, key, record)
        return name

    def discard_layer(self, name: str, trash: Path) -> bool:
        """Take a layer out of sight (fast: renames); False if somebody is working on it. The caller empties `trash`."""
        lock = self._locks / name
        try:
            with hold_lock(lock, cancel=lambda: True):
                for path in (self._records / f"{name}.json", self._records / f"{name}.recipe"):
                    path.unlink(missing_ok=True)
                with suppress(FileNotFoundError):
                    os.rename(self.directory(name), trash / name)
                lock.unlink(missing_ok=True)
        except TransferCancelled:
            return False
        return True

    def render_tar(self, layer: Layer, *, cancel: Cancel | None = None) -> Iterator[bytes]:
        """The layer's tar: byte for byte the one it came from, or, for a snapshot, a reproducible one."""
        raw = self.read_layer(layer.record["raw"]) if "raw" in layer.record else layer
        if raw is None:
            raise InvalidImage(f"the layer {layer.id} is missing", resource=layer.id, operation="render tar")
        recipe = self._records / f"{raw.name}.recipe"
        if recipe.exists():
            from orchestrator.engines.native.images.recipe import render_recipe

            pieces = render_recipe(recipe, raw.path)
        else:
            from orchestrator.engines.native.images.tarwriter import render_directory

            pieces = render_directory(raw.path)
        for piece in pieces:
            check_cancel(cancel)
            yield piece


def measure_directory(directory: Path) -> tuple[int, int]:
    """Bytes of regular files (hard links once) and the number of entries."""
    size = entries = 0
    seen: set[int] = set()
    pending = [os.fspath(directory)]
    while pending:
        with os.scandir(pending.pop()) as found:
            for entry in found:
                entries += 1
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_ino not in seen:
                        size += status.st_size
                        if status.st_nlink > 1:
                            seen.add(status.st_ino)
    return size, entries


def _render_record(layer_id: str, unpacked: Unpacked, blob: dict[str, Any] | None) -> dict[str, Any]:
    report = unpacked.report
    record: dict[str, Any] = {
        "id": layer_id,
        "size": report.size,
        "entries": report.entries,
        "tar_size": unpacked.tar_size,
        "exact": report.reproducible,
        "blobs": [blob] if blob else [],
    }
    if report.implicit:
        record["implicit"] = report.implicit
    if report.foreign_links:
        record["links"] = report.foreign_links
    return record
