"""Files that are written whole or not at all, locks between processes, and content-addressed blobs."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines.native.images.failures import DiskFull, InvalidImage, TransferCancelled
from orchestrator.engines.native.images.reference import is_digest
from orchestrator.errors import Unavailable

if TYPE_CHECKING:
    from orchestrator.errors import StackError

Cancel = Callable[[], bool]

_LOCK_POLL = 0.02  # seconds; flock(2) cannot be waited for and cancelled at once


def write_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write beside, fsync, rename. `durable=False` leaves the fsync to a later `sync_filesystem`."""
    beside = f"{path}.{os.getpid()}.{time.monotonic_ns():x}.new"
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(beside, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(beside)
        raise disk_error(error, path) from error
    if durable:
        sync_directory(path.parent)


def list_litter(folder: Path) -> list[Path]:
    """Half-written files of `write_file` whose writer is gone."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        parts = path.name.split(".")
        if len(parts) > 3 and parts[-1] == "new" and not Path("/proc", parts[-3]).exists():
            found.append(path)
    return found


def sync_directory(path: Path) -> None:
    """Make renames inside `path` survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(path: Path) -> None:
    """syncfs(2): one call for the thousands of files of a pull instead of an fsync for each."""
    import ctypes

    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise disk_error(OSError(code, os.strerror(code)), path)
    finally:
        os.close(descriptor)


def disk_error(error: OSError, path: Path | str) -> StackError | OSError:
    """Turn a full disk or a lack of rights into its own message; give every other error back."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"no space left on the disk that holds {path}",
            resource=str(path),
            operation="write",
            hint="remove unused images, or move the state directory (STACK_STATE_DIR) to a larger disk",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Unavailable(
            f"no right to use {error.filename or path}: {error.strerror}",
            resource=str(path),
            operation="write",
            hint="run as root, or set STACK_STATE_DIR to a folder of your own",
        )
    return error


@contextmanager
def hold_lock(path: Path, *, cancel: Cancel | None = None, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive flock on `path`, between processes and between threads.

    `on_wait` is called once if somebody else holds it. Raises TransferCancelled when `cancel()` becomes true.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not try_lock(descriptor):
                if on_wait is not None:
                    on_wait()
                    on_wait = None
                check_cancel(cancel)
                time.sleep(_LOCK_POLL)
            if not _is_same_file(descriptor, path):
                continue  # a collector removed the lock file between open and flock
            yield
            return
        finally:
            os.close(descriptor)


@contextmanager
def hold_shared_lock(path: Path) -> Iterator[None]:
    """Hold a shared flock on `path`: beside others of this kind, but not beside `hold_lock`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take an exclusive flock if nobody holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def check_cancel(cancel: Cancel | None) -> None:
    """Raise TransferCancelled if the caller asked to stop."""
    if cancel is not None and cancel():
        raise TransferCancelled("cancelled", operation="transfer")


def remove_tree(path: Path) -> None:
    """Delete a directory tree (or file) that others may be deleting at the same moment."""
    import shutil

    try:
        shutil.rmtree(path)
    except NotADirectoryError:
        with suppress(FileNotFoundError):
            path.unlink()
    except OSError:
        shutil.rmtree(path, ignore_errors=True)


class BlobStore:
    """Manifests, indexes and configurations by digest: ``<root>/sha256/<hex>``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, digest: str) -> Path:
        """Where the blob is or would be."""
        if not is_digest(digest):
            raise InvalidImage(f"invalid digest {digest!r}", resource=digest, operation="read")
        algorithm, _, value = digest.partition(":")
        return self._root / algorithm / value

    def read(self, digest: str) -> bytes | None:
        """The verified content, or None when it is absent or damaged (then it is to be fetched again)."""
        try:
            data = self.path(digest).read_bytes()
        except FileNotFoundError:
            return None
        return data if compute_digest(data, digest.partition(":")[0]) == digest else None

    def write(self, data: bytes, *, digest: str = "") -> str:
        """Store `data`, verified against `digest` if that is given. Returns the digest."""
        algorithm = digest.partition(":")[0] if digest else "sha256"
        actual = compute_digest(data, algorithm)
        if digest and actual != digest:
            raise InvalidImage(
                f"digest mismatch: expected {digest}, received {actual}", resource=digest, operation="verify"
            )
        path = self.path(actual)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(path, data)
        return actual

    def remove(self, digest: str) -> None:
        """Remove a blob; absent is fine."""
        with suppress(FileNotFoundError):
            self.path(digest).unlink()

    def list_digests(self) -> tuple[str, ...]:
        """Every stored digest, sorted."""
        found = [
            f"{algorithm.name}:{blob.name}"
            for algorithm in (self._root.iterdir() if self._root.is_dir() else ())
            for blob in algorithm.iterdir()
            if is_digest(f"{algorithm.name}:{blob.name}")
        ]
        return tuple(sorted(found))


def compute_digest(data: bytes, algorithm: str = "sha256") -> str:
    """``algorithm:hex`` of `data`."""
    import hashlib

    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
