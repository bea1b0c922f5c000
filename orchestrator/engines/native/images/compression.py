"""Compressed streams, recognised by their first bytes, inflated in bounded pieces so that a bomb cannot fill memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from orchestrator.engines.native.images.failures import InvalidImage

PIECE = 1 << 20  # bytes of output at a time

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)


def detect_compression(head: bytes) -> str:
    """``gzip``, ``zstd``, ``bzip2``, ``xz`` or an empty text for anything else. Six bytes are enough."""
    if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return "zstd"  # a skippable frame comes first (zstd:chunked)
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


def iterate_decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Inflate a stream of chunks. Raises InvalidImage when the data is damaged or ends too early."""
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= 6:
            break
    kind = detect_compression(head)
    joined = _chain(head, source)
    if kind == "":
        return joined
    if kind == "zstd":
        return _inflate_zstd(joined)
    return _inflate(joined, kind)


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _new_decompressor(kind: str) -> Any:
    if kind == "gzip":
        from isal import igzip_lib

        return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor()
    import lzma

    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ)


def _inflate(source: Iterator[bytes], kind: str) -> Iterator[bytes]:
    stream = _new_decompressor(kind)
    errors: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, *_codec_errors(kind))
    fresh = True  # nothing of the current member has been read yet
    try:
        for chunk in source:
            data = chunk
            while True:
                if stream.eof:
                    data = stream.unused_data + data
                    if not data.strip(b"\0"):  # zero padding after the last member is customary
                        break
                    stream, fresh = _new_decompressor(kind), True
                piece = stream.decompress(data, PIECE)
                fresh = fresh and not data
                data = b""
                if piece:
                    yield piece
                if stream.eof:
                    if not stream.unused_data:
                        break
                elif stream.needs_input:
                    break
    except errors as error:
        raise InvalidImage(f"the {kind} data of the layer is corrupt: {error}", operation="unpack") from error
    if not stream.eof and not fresh:
        raise InvalidImage(f"the {kind} data of the layer is truncated", operation="unpack")


def _codec_errors(kind: str) -> tuple[type[Exception], ...]:
    if kind == "gzip":
        from isal import isal_zlib

        return (cast("type[Exception]", isal_zlib.error),)  # its stub declares an instance
    if kind == "xz":
        import lzma

        return (lzma.LZMAError,)
    return ()


class _Reader:
    """What zstandard wants to read from."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._rest = b""

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._rest = next(self._source, b"")
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _inflate_zstd(source: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    # 128 MiB is the largest window that registries' clients accept; memory stays bounded.
    context = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    try:
        with context.stream_reader(_Reader(source), read_size=1 << 17, read_across_frames=True) as stream:  # type: ignore[arg-type]
            while piece := stream.read(PIECE):
                yield piece
    except zstandard.ZstdError as error:
        raise InvalidImage(f"the zstd data of the layer is corrupt: {error}", operation="unpack") from error
