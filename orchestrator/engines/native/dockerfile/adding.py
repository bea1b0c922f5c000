"""What ADD can do beyond COPY: files from the web, git repositories, archives that are unpacked into the stage."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.failures import CopyError
from orchestrator.engines.native.dockerfile.remote import Download, download
from orchestrator.engines.native.dockerfile.selecting import Selection
from orchestrator.engines.native.dockerfile.views import View
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.site import BuildSite
    from orchestrator.engines.native.dockerfile.steps import CopyStep

_BLOCK = 512
_PIECE = 1 << 18
_REMOTE_MODE = 0o600


class Fetched(Record):
    """A remote source of a step. `digest` says what would be copied; `select` makes the files be there."""

    source: str
    digest: str
    select: Callable[[CopyStep], Selection]


class Unpacked(Record):
    """An archive's members below `root`; `implicit` are directories that it does not mention by themselves."""

    root: Path
    implicit: tuple[str, ...]


def fetch_source(source: str, step: CopyStep, site: BuildSite) -> Fetched:
    """A file is downloaded or found unchanged; of a repository only the commit is asked for. Raises BuildError."""
    from orchestrator.engines.native.dockerfile.git import parse_git_reference

    reference = parse_git_reference(source, step.location)
    if reference is not None:
        return _fetch_repository(source, step, site)
    found = site.remember(
        ("download", source, step.checksum),
        lambda: download(source, site, checksum=step.checksum, location=step.location),
    )
    if step.directory and not found.name:
        raise CopyError(
            f"{source} has no file name to use in {step.destination}",
            location=step.location,
            code="copy-needs-name",
            hint="give the destination a file name",
        )
    return Fetched(
        source=source,
        digest=f"{found.digest} {found.mtime_ns} {found.name}",
        select=lambda step: _select_download(found, source, step),
    )


def _select_download(found: Download, source: str, step: CopyStep) -> Selection:
    return Selection(
        view=View(found.path.parent, own=False),
        path=found.path.name,
        name=found.name,
        directory=False,
        unpack=bool(step.unpack),
        mode=_REMOTE_MODE,
        mtime_ns=found.mtime_ns,
        label=source,
    )


def _fetch_repository(source: str, step: CopyStep, site: BuildSite) -> Fetched:
    from orchestrator.engines.native.dockerfile.git import check_out, parse_git_reference, resolve_commit

    reference = parse_git_reference(source, step.location)
    assert reference is not None
    if step.checksum is not None:
        if reference.checksum and reference.checksum != step.checksum:
            raise CopyError(
                f"two different commits: --checksum={step.checksum} and {reference.checksum} in the address",
                location=step.location,
                code="checksum-mismatch",
            )
        reference = reference.replace(checksum=step.checksum, ref=reference.ref or step.checksum)
    found = site.remember(("commit", reference), lambda: resolve_commit(reference, site, step.location))
    keep = step.keep_git_dir or bool(reference.keep_git_dir)

    def select(step: CopyStep) -> Selection:
        from orchestrator.engines.native.dockerfile.matching import PathPatterns
        from orchestrator.engines.native.dockerfile.views import Chosen

        tree = check_out(found, site, keep_git_dir=keep, location=step.location)
        chosen = Chosen(exclude=PathPatterns(step.exclude)) if step.exclude else Chosen()
        return Selection(view=View(tree, own=False), path="", name="", directory=True, chosen=chosen, label=source)

    said = (found.commit, reference.subdir, keep, reference.submodules is not False, step.exclude)
    return Fetched(source=source, digest=f"git {said!r}", select=select)


# -- archives --------------------------------------------------------------------------------------------------------


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


def unpack_archive(selection: Selection, step: CopyStep, site: BuildSite) -> Unpacked:
    """Unpack an archive into a new folder of the workspace. Raises CopyError, UnsafeLayer, InvalidImage, DiskFull."""
    from orchestrator.engines.native.images.failures import InvalidImage, UnsafeLayer
    from orchestrator.engines.native.images.unpack import unpack_layer

    folder = site.workspace / f"archive-{os.urandom(4).hex()}"
    folder.mkdir(mode=0o755)
    descriptor = selection.view.open(selection.path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        report = unpack_layer(iterate_file(descriptor), folder, cancel=site.cancel).report
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
