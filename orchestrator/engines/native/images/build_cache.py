"""What builds may use again: records that keep layers from the collector although no image has them.

``cache/<hash of the key>.json`` holds a key, the layers it leads to and whatever else the builder wants to remember;
the file's modification time is when it was last used, so that noting a use costs one system call.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.engines.native.images.content import write_file

if TYPE_CHECKING:
    from orchestrator.engines.native.images.layers import LayerStore


class CacheRecord(NamedTuple):
    """One remembered result. `layers` are layer identifiers (diff_ids or ``snapshot:...``), `last_used` seconds since
    the epoch; `data` is the builder's own, any JSON object.
    """

    key: str
    layers: tuple[str, ...] = ()
    last_used: float = 0.0
    data: Mapping[str, Any] = {}


class PrunedCache(NamedTuple):
    """What a pruning did: the keys that went, bytes of layers given back."""

    keys: tuple[str, ...] = ()
    reclaimed: int = 0


class BuildCache:
    """The records below ``<images>/cache``. Constructing it does no I/O; every method is safe between processes.

    To use a record: open a workspace, `read` it, `Workspace.keep` its layers, and only then look whether
    `LayerStore.find_layer` still finds each of them (a pruning may have been faster); `touch` it. To add one: `write`
    it while the workspace that made or kept its layers is still open.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, key: str) -> CacheRecord | None:
        """The record of a key, or None if there is none (or it is damaged)."""
        found = self._load(self._path(key))
        return found if found is not None and found.key == key else None

    def write(self, key: str, layers: Sequence[str], data: Mapping[str, Any] | None = None) -> CacheRecord:
        """Remember a result, replacing an older one of the same key. Raises DiskFull, Unavailable."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps({"key": key, "layers": list(layers), "data": dict(data or {})}, separators=(",", ":"))
        path = self._path(key)
        # Losing a record to a power failure costs a step of a build; an fsync for each would cost every build.
        write_file(path, text.encode(), durable=False)
        return CacheRecord(key, tuple(layers), path.stat().st_mtime, data or {})

    def touch(self, key: str) -> None:
        """Note that a record was used now; absent is fine."""
        with suppress(FileNotFoundError):
            os.utime(self._path(key))

    def remove(self, key: str) -> None:
        """Forget a result; absent is fine. Its layers go with the next collection."""
        with suppress(FileNotFoundError):
            self._path(key).unlink()

    def list_records(self) -> tuple[CacheRecord, ...]:
        """Every record, the one that was not used for longest first."""
        try:
            names = os.listdir(self._root)
        except FileNotFoundError:
            return ()
        found = (self._load(self._root / name) for name in names if name.endswith(".json"))
        return tuple(sorted((one for one in found if one is not None), key=lambda one: (one.last_used, one.key)))

    def list_layers(self) -> set[str]:
        """Layer identifiers that records protect."""
        return {layer for record in self.list_records() for layer in record.layers}

    def list_names(self) -> set[str]:
        """Names of directories that records protect besides: those of layers that were derived for their chain."""
        return {str(name) for record in self.list_records() for name in record.data.get("names", ())}

    @property
    def folder(self) -> Path:
        """Where the records are."""
        return self._root

    def _path(self, key: str) -> Path:
        import hashlib

        return self._root / f"{hashlib.sha256(key.encode()).hexdigest()}.json"

    def _load(self, path: Path) -> CacheRecord | None:
        try:
            with path.open("rb") as stream:
                raw, used = json.loads(stream.read()), os.fstat(stream.fileno()).st_mtime
            return CacheRecord(str(raw["key"]), tuple(map(str, raw["layers"])), used, raw["data"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


def choose_prunable(
    records: Sequence[CacheRecord],
    layers: LayerStore,
    *,
    used_before: float | None,
    keep_bytes: int | None,
    protected: set[str],
) -> list[CacheRecord]:
    """Which records go, `records` being sorted by last use: all that were last used before `used_before`, then the
    longest unused until what only the cache holds takes at most `keep_bytes`. Without either: all.

    `protected` are layer identifiers that images hold anyway: they cost nothing and count for nothing.
    """
    if used_before is None and keep_bytes is None:
        return list(records)
    chosen = [one for one in records if used_before is not None and one.last_used < used_before]
    if keep_bytes is None:
        return chosen
    left = list(records[len(chosen) :])
    holders: dict[str, int] = {}
    for layer in (layer for one in left for layer in one.layers if layer not in protected):
        holders[layer] = holders.get(layer, 0) + 1
    found = {name: layers.find_layer(name) for name in holders}
    sizes = {name: layer.size for name, layer in found.items() if layer is not None}
    total = sum(sizes.values())
    for one in left:
        if total <= keep_bytes:
            break
        chosen.append(one)
        for layer in one.layers:
            if layer in holders:
                holders[layer] -= 1
                total -= 0 if holders[layer] else sizes.get(layer, 0)
    return chosen
