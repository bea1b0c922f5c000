"""One step's file system: a writable overlay over the layers so far, in a mount namespace that nobody else sees.

Whoever dies in the middle leaves no mount: the namespace goes with its last process. What the step wrote stands in the
overlay's upper directory, which becomes the new layer.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from orchestrator.engines.native import host
from orchestrator.engines.native.images.stacking import find_in_layers, overlay_xattr

_T = TypeVar("_T")

# What the next step does must not depend on how this host's overlay module is set up. Nothing has to survive a power
# failure before the image is committed, so fsync in a step costs nothing.
_OPTIONS: Final = ("redirect_dir=off", "metacopy=off", "index=off", "xino=off", "volatile")


class Bench(NamedTuple):
    """The folders of one step below the build's workspace. `upper` becomes the layer, `work` is the overlay's own.

    What only the step sees is in `memory`, a file system that goes with its mount namespace: `root`, the merged view,
    and `floor`, the lowest layer, with mount points that the image does not have.
    """

    folder: Path
    upper: Path
    work: Path
    memory: Path
    root: Path
    floor: Path


class Measured(NamedTuple):
    """What a finished layer holds: bytes of file content and the number of entries."""

    size: int
    entries: int


def make_bench(folder: Path) -> Bench:
    """Make the folders of one step in the empty `folder`."""
    memory = folder / "memory"
    bench = Bench(folder, folder / "upper", folder / "work", memory, memory / "root", memory / "floor")
    for path in (bench.upper, bench.work, bench.memory):
        path.mkdir(mode=0o755)
    # It becomes the root directory that the step's processes see.
    os.chmod(bench.upper, 0o755)
    return bench


def open_bench(bench: Bench) -> None:
    """Make `root` and `floor` be there. Only within `call_with_mounts`."""
    host.mount("tmpfs", str(bench.memory), "tmpfs", host.MS_NODEV, "mode=755")
    for path in (bench.root, bench.floor):
        path.mkdir(mode=0o755)
        os.chmod(path, 0o755)


def call_with_mounts(function: Callable[[], _T]) -> _T:
    """Run `function` in a thread with a mount namespace of its own, gone with the last process that is in it."""

    def perform() -> _T:
        host.unshare(host.CLONE_NEWNS | host.CLONE_FS)
        # What the host unmounts later must not be held here; what is mounted here must not be seen there.
        host.mount(None, "/", None, host.MS_REC | host.MS_SLAVE)
        return function()

    return host.call_in_thread(perform)


def mount_bench(bench: Bench, lower: Sequence[Path]) -> None:
    """Mount the writable view of `lower` (topmost first) at ``bench.root``, after `open_bench`."""
    layers = [*map(str, lower), str(bench.floor)]
    upper, work = str(bench.upper), str(bench.work)
    try:
        host.mount_overlay(layers, str(bench.root), upper=upper, work=work, options=_OPTIONS)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A kernel before 5.10 does not know "volatile".
        host.mount_overlay(layers, str(bench.root), upper=upper, work=work, options=_OPTIONS[:-1])


def mount_view(lower: Sequence[Path], target: Path) -> None:
    """Mount a read-only view of `lower` (topmost first) at `target`. Only within `call_with_mounts`."""
    target.mkdir(mode=0o755, exist_ok=True)
    if not lower:
        return
    host.mount_overlay([str(one) for one in lower], str(target))


def finish_layer(upper: Path, lower: Sequence[Path], *, clamp: int | None = None) -> Measured:
    """Bring an unmounted upper directory into the form of a layer, in one walk.

    The kernel marks new directories as opaque even where nothing lies below; those marks go, because every consumer of
    the layer's tar would have to look for something to hide. `clamp` caps modification times (seconds since the epoch).
    """
    size = entries = 0
    seen: set[int] = set()
    opaque = overlay_xattr("opaque")
    pending = [""]
    while pending:
        prefix = pending.pop()
        folders = []
        with os.scandir(f"{upper}/{prefix}") as found:
            for entry in found:
                entries += 1
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    name = f"{prefix}{entry.name}"
                    folders.append(f"{name}/")
                    _drop_needless_mark(entry.path, name, lower, opaque)
                elif stat.S_ISREG(status.st_mode) and status.st_ino not in seen:
                    size += status.st_size
                    if status.st_nlink > 1:
                        seen.add(status.st_ino)
                if clamp is not None and status.st_mtime_ns > clamp * 10**9:
                    _set_time(entry.path, status, clamp)
        pending += folders
    return Measured(size, entries)


def _drop_needless_mark(path: str, name: str, lower: Sequence[Path], opaque: str) -> None:
    try:
        if os.getxattr(path, opaque, follow_symlinks=False) != b"y":
            return
    except OSError:
        return
    if find_in_layers(lower, name) is None:
        with suppress(OSError):
            os.removexattr(path, opaque, follow_symlinks=False)


def _set_time(path: str, status: os.stat_result, clamp: int) -> None:
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        return  # a deletion has no time in the layer's tar
    os.utime(path, ns=(min(status.st_atime_ns, clamp * 10**9), clamp * 10**9), follow_symlinks=False)
