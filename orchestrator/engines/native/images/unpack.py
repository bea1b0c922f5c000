"""One layer: a stream of (compressed) tar bytes into a directory that overlayfs can stack.

inflate + sha256 + the scanner here, tar(1) at the other end of a pipe: on two cores that is faster than anything that
handles file contents in Python. Whiteouts never reach tar; they become overlay's own afterwards.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.engines.native.images.compression import iterate_decompressed
from orchestrator.engines.native.images.content import Cancel, check_cancel, disk_error
from orchestrator.engines.native.images.failures import DiskFull, InvalidImage, UnsafeLayer
from orchestrator.engines.native.images.recipe import RecipeWriter
from orchestrator.engines.native.images.stacking import in_user_namespace, overlay_xattr
from orchestrator.engines.native.images.tarstream import RESTART, TarReport, TarScanner
from orchestrator.errors import Unavailable

_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
_SPACE_STEP = 64 << 20  # bytes between two looks at the free space
_SPACE_RESERVE = 64 << 20  # bytes of the disk that unpacking never takes
_BOMB_FLOOR = 1 << 30  # below this many bytes no ratio is suspicious
_BOMB_RATIO = 400  # gzip's best is 1030; real layers stay below 100


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came out: the digest of the plain tar and its length in bytes, and the scanner's report."""

    diff_id: str
    tar_size: int
    report: TarReport


def unpack_layer(
    chunks: Iterable[bytes],
    directory: Path,
    *,
    recipe: Path | None = None,
    cancel: Cancel | None = None,
    on_bytes: Callable[[int], None] | None = None,
    deletions: bool = True,
) -> Unpacked:
    """Unpack into the empty `directory`; owners, modes, times, xattrs, capabilities, devices, holes are kept.

    `on_bytes` receives the number of plain bytes handled so far. Without `deletions` whiteouts are only reported: for a
    directory that is no layer. Raises InvalidImage, UnsafeLayer, DiskFull.
    """
    counter = _Counter(chunks)
    digest, total, checked = hashlib.sha256(), 0, 0
    writer = RecipeWriter(recipe) if recipe is not None else None
    scanner = TarScanner(
        on_raw=writer.add_raw if writer else None,
        on_file=writer.add_file if writer else None,
        skip_devices=in_user_namespace(),
    )
    tar = TarProcess(directory)
    try:
        for piece in iterate_decompressed(counter):
            check_cancel(cancel)
            digest.update(piece)
            total += len(piece)
            if total - checked >= _SPACE_STEP or not checked:
                checked = total
                check_growth(directory, counter.taken, total)
            tar = _pass_on(scanner.feed(piece), tar, directory)
            if on_bytes is not None:
                on_bytes(total)
        report = scanner.finish()
        tar.finish()
        if writer is not None:
            writer.close()
        if deletions:
            apply_whiteouts(directory, report.whiteouts, report.opaques)
        for name in report.implicit:  # tar gave them what the umask of this process happens to leave
            os.chmod(directory / name, 0o755)
    except OSError as error:
        raise disk_error(error, directory) from error
    finally:
        tar.abandon()
        if writer is not None:
            writer.abandon()
    if recipe is not None and not report.reproducible:
        recipe.unlink()
    return Unpacked(f"sha256:{digest.hexdigest()}", total, report)


def _pass_on(buffers: Iterable[bytes | memoryview], tar: TarProcess, directory: Path) -> TarProcess:
    """Write to `tar`; returns the one that takes what comes after."""
    waiting: list[bytes | memoryview] = []
    for one in buffers:
        if one is not RESTART:
            waiting.append(one)
            continue
        tar.write(waiting)
        tar.finish()
        waiting, tar = [], TarProcess(directory)
    tar.write(waiting)
    return tar


class _Counter:
    """Counts the compressed bytes that were taken."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.taken = 0

    def __iter__(self) -> _Counter:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self.taken += len(chunk)
        return chunk


def check_growth(directory: Path, taken: int, total: int) -> None:
    """Refuse a decompression bomb, and stop before the disk is full."""
    if total > _BOMB_FLOOR and total > taken * _BOMB_RATIO:
        raise UnsafeLayer(
            f"the layer grows from {taken} to more than {total} bytes: it looks like a decompression bomb",
            operation="unpack",
        )
    space = os.statvfs(directory)
    free = space.f_bavail * space.f_frsize
    if free < _SPACE_RESERVE:
        kept = f": {free >> 20} MB are, and the last {_SPACE_RESERVE >> 20} are kept free" if free >> 20 else ""
        raise DiskFull(
            f"no space left on the disk that holds {directory.parent}{kept}",
            resource=str(directory.parent),
            operation="unpack",
            hint="remove unused images, or move the state directory (STACK_STATE_DIR) to a larger disk",
        )


class TarProcess:
    """tar(1) reading an archive from a pipe, started without the cost of the subprocess module."""

    def __init__(self, directory: Path) -> None:
        arguments = [
            *("tar", "-x", "-p", "-f", "-", "-C", str(directory), "--same-owner", "--numeric-owner"),
            *("--xattrs", "--xattrs-include=*", "--xattrs-exclude=trusted.overlay.*"),
            *("--xattrs-exclude=user.overlay.*", "--warning=no-timestamp", "--no-recursion"),
        ]
        self._stderr = os.memfd_create("tar-stderr", os.MFD_CLOEXEC)
        read, self._pipe = os.pipe2(os.O_CLOEXEC)
        with suppress(OSError):  # an unprivileged user may be over the pipe quota
            import fcntl

            fcntl.fcntl(self._pipe, _F_SETPIPE_SZ, _PIPE_SIZE)
        actions = [
            (os.POSIX_SPAWN_DUP2, read, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, self._stderr, 2),
        ]
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        try:
            self._pid: int | None = os.posix_spawnp("tar", arguments, environment, file_actions=actions)
        except FileNotFoundError as error:
            os.close(self._pipe)
            os.close(self._stderr)
            raise Unavailable(
                "the program tar is not installed", operation="unpack", hint="install the package 'tar'"
            ) from error
        finally:
            os.close(read)

    def write(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Pass buffers on. tar may stop reading after the end of the archive: that is no error."""
        for buffer in buffers:
            view = memoryview(buffer)
            while view and self._pipe >= 0:
                try:
                    view = view[os.write(self._pipe, view) :]
                except BrokenPipeError:
                    self._close_pipe()

    def finish(self) -> None:
        """Wait for tar. Raises InvalidImage or DiskFull with what it said."""
        self._close_pipe()
        status = self._wait()
        if status == 0:
            return
        said = os.pread(self._stderr, 4000, 0).decode("utf-8", "replace").strip()
        if "No space left on device" in said or "Disk quota exceeded" in said:
            import errno

            raise OSError(errno.ENOSPC, said)
        if "unrecognized option" in said or "invalid option" in said:
            raise Unavailable(
                "the program tar of this machine is not GNU tar",
                operation="unpack",
                hint="install GNU tar (the package 'tar') beside busybox",
            )
        lines = [line.removeprefix("tar: ") for line in said.splitlines() if "exit delayed" not in line.lower()]
        raise InvalidImage(
            f"the layer cannot be unpacked: {'; '.join(lines[:3]) or f'tar ended with {status}'}", operation="unpack"
        )

    def abandon(self) -> None:
        """Close everything; end tar if it still runs."""
        self._close_pipe()
        if self._pid is not None:
            import signal

            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._wait()
        if self._stderr >= 0:
            os.close(self._stderr)
            self._stderr = -1

    def _wait(self) -> int:
        pid, self._pid = self._pid, None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid is not None else 0

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


def apply_whiteouts(directory: Path, whiteouts: Iterable[str], opaques: Iterable[str]) -> None:
    """Write deletions the way overlayfs reads them: 0:0 character devices and the opaque xattr.

    What the layer itself brings under the same name wins over its own whiteout, but a directory then is opaque.
    """
    opaque = set(opaques)
    for name in whiteouts:
        path = directory / name
        try:
            found = path.lstat()
        except FileNotFoundError:
            _make_whiteout(path)
            continue
        if stat.S_ISDIR(found.st_mode):
            opaque.add(name)
    for name in opaque:
        path = directory / name
        before = _make_directory(path)
        os.setxattr(path, overlay_xattr("opaque"), b"y", follow_symlinks=False)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _make_whiteout(path: Path) -> None:
    before = _make_directory(path.parent)
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def _make_directory(path: Path) -> os.stat_result:
    with suppress(FileExistsError):
        path.mkdir(mode=0o755, parents=True)
    return path.lstat()
