"""Writes build contexts: files, folders, links, special files and archives, described as data."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import lzma
import os
import tarfile
from pathlib import Path
from typing import Any

TIME = 1_000_000_000
"""The modification time of everything in a context: seconds since the epoch."""

COMPRESSIONS = {
    "": bytes,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: _compress_zstd(data),
}


def write_tree(root: Path, files: dict[str, Any]) -> None:
    """Make `files` below `root`.

    A text or a mapping is a file: ``content`` or ``base64``, ``mode`` (0644), ``owner`` (``[uid, gid]``), ``xattrs``.
    A name with a slash at its end is a folder. ``link`` makes a symbolic link, ``hardlink`` a hard link to another name
    of the tree, ``fifo: true`` a pipe, ``archive`` a tar of such entries with ``compress``.
    """
    mask = os.umask(0o022)
    try:
        root.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            _write_entry(root, name, {"content": value} if isinstance(value, str) else dict(value or {}))
    finally:
        os.umask(mask)
    for folder, names, _ in os.walk(root, topdown=False):
        for name in names:
            os.utime(os.path.join(folder, name), (TIME, TIME), follow_symlinks=False)
        os.utime(folder, (TIME, TIME))


def _write_entry(root: Path, name: str, value: dict[str, Any]) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("/"):
        path.mkdir(exist_ok=True)
        path.chmod(value.get("mode", 0o755))
    elif "link" in value:
        path.symlink_to(value["link"])
    elif "hardlink" in value:
        os.link(root / value["hardlink"], path)
    elif value.get("fifo"):
        os.mkfifo(path)
        path.chmod(value.get("mode", 0o644))
    else:
        path.write_bytes(read_content(value))
        path.chmod(value.get("mode", 0o644))
    if "owner" in value:
        os.chown(path, *value["owner"], follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(value.get("mode", 0o755 if path.is_dir() else 0o644))
    for key, text in value.get("xattrs", {}).items():
        os.setxattr(path, key, text.encode("latin-1"), follow_symlinks=False)
    os.utime(path, (TIME, TIME), follow_symlinks=False)


def read_content(value: dict[str, Any]) -> bytes:
    """The bytes that an entry describes."""
    if "archive" in value:
        return COMPRESSIONS[value.get("compress", "")](make_tar(value["archive"]))
    if "base64" in value:
        return base64.b64decode(value["base64"])
    text: str = value.get("content", "")
    return text.encode()


def make_tar(entries: dict[str, Any]) -> bytes:
    """A tar of entries that are described like those of a tree; ``hardlink`` and ``link`` name their targets."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, raw in entries.items():
            value = {"content": raw} if isinstance(raw, str) else dict(raw or {})
            info = tarfile.TarInfo(name.rstrip("/") or ".")
            info.mtime = value.get("time", TIME)
            info.uid, info.gid = value.get("owner", (0, 0))
            info.mode = value.get("mode", 0o755 if name.endswith("/") else 0o644)
            data = b""
            if name.endswith("/"):
                info.type = tarfile.DIRTYPE
            elif "link" in value:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, value["link"], 0o777
            elif "hardlink" in value:
                info.type, info.linkname = tarfile.LNKTYPE, value["hardlink"]
            else:
                data = read_content(value)
            info.size = len(data)
            info.pax_headers = {f"SCHILY.xattr.{key}": text for key, text in value.get("xattrs", {}).items()}
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def compute_content_digest(value: dict[str, Any]) -> str:
    """The sha256 digest of what an entry describes."""
    return f"sha256:{hashlib.sha256(read_content(value)).hexdigest()}"


def _compress_zstd(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(data)
