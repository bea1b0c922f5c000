"""The recipe of a layer: everything of its tar that is not file content, so that the very same tar can be written
again from the unpacked directory. It costs a fraction of a per cent of the layer and saves keeping the tar.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.engines.native.images.failures import InvalidImage

_RAW = struct.Struct("<cI")
_FILE = struct.Struct("<cHQ")
_PIECE = 1 << 20


class RecipeWriter:
    """Receives what TarScanner reports and writes it, deflated, to `path`."""

    def __init__(self, path: Path) -> None:
        from isal import isal_zlib

        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._deflate = isal_zlib.compressobj(1)
        self._raw: list[bytes] = []
        self._raw_size = 0

    def add_raw(self, data: bytes) -> None:
        """Headers, padding, and whatever else is not in a file."""
        self._raw.append(data)
        self._raw_size += len(data)
        if self._raw_size > _PIECE:
            self._flush_raw()

    def add_file(self, path: str, size: int) -> None:
        """`size` bytes that are the content of `path`."""
        name = path.encode("utf-8", "surrogateescape")
        self._flush_raw()
        self._write(_FILE.pack(b"F", len(name), size) + name)

    def close(self) -> None:
        """Write what is pending."""
        try:
            self._flush_raw()
            os.write(self._descriptor, self._deflate.flush())
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close without finishing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _flush_raw(self) -> None:
        if self._raw_size:
            self._write(_RAW.pack(b"R", self._raw_size) + b"".join(self._raw))
            self._raw, self._raw_size = [], 0

    def _write(self, data: bytes) -> None:
        deflated = memoryview(self._deflate.compress(data))
        while deflated:
            deflated = deflated[os.write(self._descriptor, deflated) :]


def render_recipe(recipe: Path, directory: Path) -> Iterator[bytes]:
    """The tar's bytes, from its recipe and the unpacked directory. The caller verifies the digest.

    Raises InvalidImage when the recipe or a file is damaged.
    """
    with recipe.open("rb") as stream:
        reader = _InflatingReader(stream.read)
        while kind := reader.take(1):
            if kind == b"R":
                (size,) = struct.unpack("<I", reader.take(4))
                yield reader.take(size)
            elif kind == b"F":
                length, size = struct.unpack("<HQ", reader.take(10))
                name = reader.take(length).decode("utf-8", "surrogateescape")
                yield from _read_content(directory / name, size)
            else:
                raise InvalidImage(f"the recipe {recipe.name} of a layer is damaged", operation="read")


def _read_content(path: Path, size: int) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidImage(f"a file of an unpacked layer is missing: {path}", operation="read") from error
    try:
        left = size
        while left:
            data = os.read(descriptor, min(left, _PIECE))
            if not data:
                raise InvalidImage(f"a file of an unpacked layer was shortened: {path}", operation="read")
            left -= len(data)
            yield data
    finally:
        os.close(descriptor)


class _InflatingReader:
    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._inflate = zlib.decompressobj()
        self._buffer = bytearray()

    def take(self, size: int) -> bytes:
        while len(self._buffer) < size and not self._inflate.eof:
            chunk = self._inflate.unconsumed_tail or self._read(1 << 16)
            if not chunk:
                break
            self._buffer += self._inflate.decompress(chunk, _PIECE)
        if len(self._buffer) < size and (self._buffer or size > 1):
            raise InvalidImage("the recipe of a layer is truncated", operation="read")
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken
