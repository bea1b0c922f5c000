"""What was built before: for each step a record of the image store, found by the hash of all that decides its result.

A record names the layer that the step made and the layers below it, and keeps them from the collector. The key of a
step is made from the layers under it, its meaning and the content that it takes in, never from times. Records go when
they were not used for `MAX_AGE`, when what only they keep is more than `MAX_SIZE` (the least recently used first), or
when somebody prunes them; a layer that lost its record is found again by its name as long as an image keeps it.

Persistent directories of ``RUN --mount=type=cache`` stand below ``builds/mounts``, one folder for each, with the
modification time of their last use; they go after `MAX_AGE` too.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orchestrator.engines.native.images.content import Cancel, hold_lock, remove_tree, try_lock
from orchestrator.engines.native.images.layers import SNAPSHOT, measure_directory

if TYPE_CHECKING:
    from orchestrator.engines.native.images.build_cache import CacheRecord
    from orchestrator.engines.native.images.store import ImageStore

FOLDER: Final = "builds"
FIELD: Final = "stack.build-cache.v1"
"""The field of an image's configuration that a cache travels in (see :mod:`.cache_exchange`)."""
MAX_AGE: Final = 30 * 86400.0  # seconds
MAX_SIZE: Final = 20 << 30  # bytes
_TOUCH: Final = 600.0  # seconds; a younger use need not be noted again
_SWEEP: Final = 3600.0  # seconds between two automatic prunings


class StepRecord(NamedTuple):
    """One step that was performed. `layer` is what it made, `chain` all layers with it, base first.

    `names` are the directories of the chain, base first. `created` is RFC 3339 text, `text` the step as it was written.
    `alias` is the identifier that the layer had where it was made; empty for one that was made here.
    """

    key: str
    layer: str
    chain: tuple[str, ...]
    names: tuple[str, ...]
    created: str
    text: str = ""
    alias: str = ""


class CacheDirectory(NamedTuple):
    """A persistent directory of ``RUN --mount=type=cache``; `last_used` is seconds since the epoch, `size` bytes."""

    path: Path
    last_used: float
    size: int


def compute_key(*parts: Any) -> str:
    """A hash of plain data; mappings count without their order."""
    import hashlib

    text = json.dumps(parts, separators=(",", ":"), sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


class StepCache:
    """The steps that an image store remembers. Constructing it does no I/O."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._records = store.cache
        self.root = store.root / FOLDER
        self.mounts = self.root / "mounts"
        self._locks = self.root / "locks"

    def prepare(self) -> None:
        """Make the folders."""
        for path in (self._locks, self.mounts):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def find(self, key: str, names: Iterable[str] | None = None) -> StepRecord | None:
        """The record of `key` if all of its layers are there; `names` are the directories to look for instead."""
        found = self._records.read(key)
        record = _parse_record(found)
        if found is None or record is None:
            return None
        wanted = record.names if names is None else names
        if any(self._store.layers.read_layer(name) is None for name in wanted):
            return None
        if time.time() - found.last_used > _TOUCH:
            self._records.touch(key)
        return record

    def peek(self, key: str) -> StepRecord | None:
        """The record of `key`, whether its layers are there or not."""
        return _parse_record(self._records.read(key))

    def save(self, record: StepRecord) -> None:
        """Write a record; its layers are in the store and kept by an open workspace."""
        data = {name: getattr(record, name) for name in ("layer", "names", "created", "text", "alias")}
        self._records.write(record.key, record.chain, data)

    @contextmanager
    def lock(
        self, key: str, *, cancel: Cancel | None = None, on_wait: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Only one thread of one process performs a step. Raises TransferCancelled."""
        with hold_lock(self._locks / key, cancel=cancel, on_wait=on_wait):
            yield

    # -- pruning -----------------------------------------------------------------------------------------------------

    def prune_sometimes(self) -> None:
        """Apply the limits if that was not done within the last hour."""
        mark = self.root / "pruned"
        now = time.time()
        try:
            due = now - mark.stat().st_mtime > _SWEEP
        except FileNotFoundError:
            due = False
        if due or not mark.exists():
            mark.touch()
        if due:
            self._store.prune_cache(used_before=now - MAX_AGE, keep_bytes=MAX_SIZE)
            self.prune_mounts(used_before=now - MAX_AGE)
            self._sweep_locks(now - _SWEEP)

    def list_mounts(self) -> tuple[CacheDirectory, ...]:
        """The cache directories, the least recently used first."""
        found = []
        for path in self.mounts.iterdir() if self.mounts.is_dir() else ():
            with suppress(FileNotFoundError):
                used = path.stat().st_mtime
                found.append(CacheDirectory(path, used, measure_directory(path)[0]))
        return tuple(sorted(found, key=lambda one: (one.last_used, one.path)))

    def prune_mounts(self, *, used_before: float | None = None) -> int:
        """Remove cache directories that no step is using, all or those last used before a moment; the bytes freed."""
        freed = 0
        for one in self.list_mounts():
            if used_before is not None and one.last_used >= used_before:
                continue
            with suppress(FileNotFoundError):
                freed += one.size if self._remove_mount(one.path) else 0
        return freed

    def _remove_mount(self, path: Path) -> bool:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not try_lock(descriptor):
                return False
            # Out of sight at once: whoever waits for the lock finds the folder gone, and makes another.
            doomed = self.root / f"removed-{os.urandom(6).hex()}"
            os.rename(path, doomed)
            remove_tree(doomed)
            return True
        finally:
            os.close(descriptor)

    def _sweep_locks(self, before: float) -> None:
        for path in self._locks.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    _unlink_unlocked(path)
        for path in self.root.glob("removed-*"):  # a pruning that was killed
            remove_tree(path)


def choose_layer_id(key: str, taken: Callable[[str], bool], *, anew: bool) -> str:
    """The identifier for a layer that is about to be made: the key's own, or another one if that is `taken`.

    A step that was performed `anew` (no cache) must not be mistaken for its former result.
    """
    own = f"{SNAPSHOT}{key}"
    return f"{own}.{os.urandom(4).hex()}" if anew and taken(own) else own


def _unlink_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if try_lock(descriptor):
            path.unlink()
    finally:
        os.close(descriptor)


def _parse_record(found: CacheRecord | None) -> StepRecord | None:
    if found is None:
        return None
    try:
        data = found.data
        return StepRecord(
            key=found.key,
            layer=data["layer"],
            chain=found.layers,
            names=tuple(data["names"]),
            created=data["created"],
            text=data["text"],
            alias=data.get("alias", ""),
        )
    except (KeyError, TypeError):
        return None
