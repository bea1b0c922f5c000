"""Content digests of files, remembered by what stat(2) says: an unchanged context costs no read at all.

A file is known again by device, inode, size, modification and change time. The change time cannot be set by anybody,
so even a file with a restored modification time is read again.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from orchestrator.errors import StackError

_ROW = struct.Struct("<QQQqq32s")
_IDENTITY = struct.Struct("<32s32s")
_MAGIC = b"stack-hashes-1\n\0"
_PIECE = 1 << 20
_KEPT_IDENTITIES = 8192
_KEPT_TABLES = 256
_TABLE = ".table"
_FORGET_RATIO = 4  # a table is cut to what was used when it has this many times as many rows
_RACY = 100_000_000  # nanoseconds: a file this young may change again without a new time stamp
_RACY_COARSE = 2_000_000_000  # the same where times come in whole seconds

LOCAL_XATTRS = ("trusted.overlay.", "user.overlay.", "security.selinux", "system.nfs4_acl")
"""Extended attributes that belong to this machine and not to the file."""

Key = tuple[int, int, int, int, int]


def make_key(status: os.stat_result) -> Key:
    """What a file is known again by."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class HashTable:
    """Digests of the files below one root, kept in one file (or, without `path`, not kept). Thread-safe."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows = _load_rows(path) if path is not None else {}
        self._used: dict[Key, bytes] = {}
        self._changed = False

    def find(self, key: Key) -> bytes | None:
        """The digest noted under `key`."""
        found = self._rows.get(key)
        if found is not None:
            self._used[key] = found
        return found

    def note(self, key: Key, digest: bytes) -> None:
        """Remember a digest, unless the file is so young that it may yet change within the same time stamp."""
        age = time.time_ns() - key[4]
        coarse = key[4] % 1_000_000_000 == 0
        if age < (_RACY_COARSE if coarse else _RACY):
            return
        self._rows[key] = self._used[key] = digest
        self._changed = True

    def save(self) -> None:
        """Write the table if it has changed; otherwise note that it is in use."""
        if self._path is None:
            return
        rows = self._rows
        if len(rows) > _FORGET_RATIO * len(self._used) + 1000:
            rows, self._changed = self._used, True
        if not self._changed:
            with suppress(FileNotFoundError):
                os.utime(self._path)
            return
        _write(self._path, b"".join(_ROW.pack(*key, digest) for key, digest in list(rows.items())))
        self._changed = False


class HashCache:
    """Everything that is remembered about contents, below `folder`. Making one does no I/O. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tables: dict[str, HashTable] = {}
        self._identities: dict[bytes, bytes] | None = None
        self._fresh = False
        self._lock = Lock()

    def open_table(self, root: str, *, kept: bool = True) -> HashTable:
        """The table for the files below `root`; without `kept` it is forgotten with this object."""
        with self._lock:
            table = self._tables.get(root)
            if table is None:
                from hashlib import sha256

                name = sha256(os.fsencode(root)).hexdigest()[:24]
                path = self._folder / f"{name}{_TABLE}" if kept else None
                table = self._tables[root] = HashTable(path)
            return table

    def recall(self, identity: bytes) -> bytes | None:
        """What was noted about something that never changes; `identity` has 32 bytes."""
        with self._lock:
            return self._load_identities().get(identity)

    def note(self, identity: bytes, digest: bytes) -> None:
        """Remember the digest of something that never changes."""
        with self._lock:
            known = self._load_identities()
            if known.get(identity) != digest:
                known[identity] = digest
                self._fresh = True

    def save(self) -> None:
        """Write what is new. Never raises: it is only a cache."""
        with self._lock, suppress(OSError, StackError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for table in self._tables.values():
                table.save()
            if self._fresh and self._identities is not None:
                newest = list(self._identities.items())[-_KEPT_IDENTITIES:]
                _write(self._folder / "identities", b"".join(_IDENTITY.pack(*one) for one in newest))
                self._fresh = False
            self._forget_tables()

    def _forget_tables(self) -> None:
        """Drop the tables of contexts that nobody builds any more."""
        tables = [path for path in self._folder.iterdir() if path.suffix == _TABLE]
        if len(tables) > _KEPT_TABLES:
            tables.sort(key=lambda path: path.stat().st_mtime)
            for path in tables[:-_KEPT_TABLES]:
                path.unlink(missing_ok=True)

    def _load_identities(self) -> dict[bytes, bytes]:
        if self._identities is None:
            data = _read(self._folder / "identities", _IDENTITY.size)
            self._identities = dict(_IDENTITY.iter_unpack(data))
        return self._identities


def hash_file(descriptor: int, *, xattrs: Mapping[str, bytes] | None = None) -> bytes:
    """SHA-256 over the extended attributes and the content of an open file."""
    from hashlib import sha256

    digest = sha256()
    for name, value in sorted((xattrs or {}).items()):
        digest.update(b"%s=%d:%s\0" % (os.fsencode(name), len(value), value))
    digest.update(b"\0")
    while data := os.read(descriptor, _PIECE):
        digest.update(data)
    return digest.digest()


def read_xattrs(target: int | str) -> dict[str, bytes]:
    """The extended attributes that a copy keeps; of a symbolic link itself if `target` is a path."""
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError:
        return {}
    found: dict[str, bytes] = {}
    for name in names:
        if not name.startswith(LOCAL_XATTRS):
            with suppress(OSError):  # removed meanwhile, or not ours to read
                found[name] = os.getxattr(target, name, follow_symlinks=follow)
    return found


def _load_rows(path: Path) -> dict[Key, bytes]:
    return {row[:5]: row[5] for row in _ROW.iter_unpack(_read(path, _ROW.size))}


def _read(path: Path, size: int) -> bytes:
    """The rows of a table, or nothing if there is no sound one."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    head = len(_MAGIC) + 4
    rows = data[head:]
    if not data.startswith(_MAGIC) or len(rows) % size or data[head - 4 : head] != _compute_check(rows):
        return b""
    return rows


def _write(path: Path, rows: bytes) -> None:
    from orchestrator.engines.native.images.content import write_file

    write_file(path, _MAGIC + _compute_check(rows) + rows, durable=False)


def _compute_check(rows: bytes) -> bytes:
    # Not flushed to the disk at once: a power failure may leave a file with holes behind.
    return zlib.crc32(rows).to_bytes(4, "little")
