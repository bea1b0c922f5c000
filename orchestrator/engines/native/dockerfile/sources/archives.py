"""Tars, plain or compressed, as ADD and contexts take them: known by their content, unpacked with care."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.sources.failures import CopyError
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import CopyStep
    from orchestrator.engines.native.dockerfile.sources.selecting import Selection
    from orchestrator.engines.native.dockerfile.sources.site import BuildSite

_BLOCK = 512
_PIECE = 1 << 18


class Unpacked(Record):
    """An archive's members below `root`; `implicit` are directories that it does not mention by themselves."""

    root: Path
    implicit: tuple[str, ...]


def is_archive(selection: Selection) -> bool:
    """Whether what is selected is a tar, plain or compressed; its name does not matter."""
    view = selection.view
    if not stat.S_ISREG(view.lstat(selection.path).st_mode):
        return False
    descriptor = view.open(selection.path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return is_archive_file(descriptor)
    finally:
        os.close(descriptor)


def is_archive_file(descriptor: int) -> bool:
    """Whether an open file begins like a tar, possibly compressed with gzip, bzip2, xz or zstd."""
    from orchestrator.engines.native.images.compression import iterate_decompressed
    from orchestrator.engines.native.images.failures import InvalidImage

    head = b""
    try:
        for piece in iterate_decompressed(iterate_file(descriptor)):
            head += piece[:_BLOCK]
            if len(head) >= _BLOCK:
                break
    except InvalidImage:
        return False
    return is_tar_header(head[:_BLOCK])


def is_tar_header(block: bytes) -> bool:
    """Whether 512 bytes are the header of a tar entry: the checksum says so, in either of its two readings."""
    if len(block) < _BLOCK or not block.strip(b"\0"):
        return False
    try:
        expected = int(block[148:156].strip(b" \0") or b"-1", 8)
    except ValueError:
        return False
    blank = block[:148] + b" " * 8 + block[156:]
    return expected in (sum(blank), sum(one - 256 if one > 127 else one for one in blank))


def unpack_archive(selection: Selection, step: CopyStep, site: BuildSite, folder: Path) -> Unpacked:
    """Unpack an archive into the empty `folder`. Raises CopyError, DiskFull, TransferCancelled."""
    from orchestrator.engines.native.images.failures import InvalidImage, UnsafeLayer
    from orchestrator.engines.native.images.unpack import unpack_layer

    descriptor = selection.view.open(selection.path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        report = unpack_layer(iterate_file(descriptor), folder, cancel=site.cancel, deletions=False).report
    except (InvalidImage, UnsafeLayer) as error:
        message = error.message.replace("the layer's tar", "its tar").replace("the layer", "it")
        raise CopyError(
            f"{selection.label} cannot be unpacked: {message}",
            location=step.location,
            code=error.code,
            hint="use COPY, or --unpack=false, to put the archive itself there",
        ) from error
    finally:
        os.close(descriptor)
    if report.whiteouts or report.opaques:
        first = (report.whiteouts or report.opaques)[0]
        raise CopyError(
            f"{selection.label} cannot be unpacked: it is an image layer that deletes {first!r}",
            location=step.location,
            hint="use an ordinary archive of the files",
        )
    if report.foreign_links:
        name, target = report.foreign_links[0]
        raise CopyError(
            f"{selection.label} cannot be unpacked: {name!r} is a hard link to {target!r}, which it does not hold",
            location=step.location,
        )
    return Unpacked(root=folder, implicit=tuple(report.implicit))


def iterate_file(descriptor: int) -> Iterator[bytes]:
    """The content of an open file from where it stands."""
    while data := os.read(descriptor, _PIECE):
        yield data
