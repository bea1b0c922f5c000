"""Files of this machine made the same in a container, at once: each appears whole, under its name, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

from orchestrator.engines.base import FileSync
from orchestrator.engines.native import host
from orchestrator.engines.native.files.file_syscalls import exchange_names
from orchestrator.engines.native.files.rootfs import make_path
from orchestrator.errors import Conflict

_PIECE: Final = 1 << 24
_SMALL: Final = 1 << 20
"""Bytes up to which a file takes the place of another by an exchange of names: ext4 writes a file to the disk before it
lets it replace another one, and a thousand of them take their time. What is only in a layer is copied for that."""


def sync_tree(root: int, syncs: Sequence[FileSync], *, changed_only: bool = False) -> int:
    """Make each target below the directory `root` what its source is now; return how many had to be made.

    Links in the container are followed inside `root`, but for the last part of a target. With `changed_only` what is
    the same is left alone, and nothing is removed. Raises Conflict for what the file system refuses,
    after everything else has been made.
    """
    made = 0
    failed: list[tuple[FileSync, OSError]] = []
    with _Folder(root) as folder:
        for one in syncs:
            try:
                made += _sync_one(folder, one, changed_only=changed_only)
            except OSError as problem:
                failed.append((one, problem))
    if failed:
        (first, error), more = failed[0], len(failed) - 1
        reason = error.strerror or str(error)
        also = f" (and {more} more)" if more else ""
        raise Conflict(f"{first.target}: {reason}{also}", resource=first.target, operation="sync") from error
    return made


class _Folder:
    """The directory that the last target was in, held open: targets come in order, and many are in one."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._path = ""
        self._fd = -1

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def open(self, path: str) -> int:
        """The directory at `path`, made where it is missing; to be used until the next call."""
        if path != self._path or self._fd < 0:
            self.close()
            self._fd = _open_folder(self.root, path)
            self._path = path
        return self._fd

    def close(self) -> None:
        """Forget it: it may be about to go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _sync_one(open_folder: _Folder, one: FileSync, *, changed_only: bool) -> bool:
    status = _lstat(one.source)
    target = os.path.normpath(one.target)
    folder, name = os.path.split(target)
    if status is None or not name:
        open_folder.close()
        return bool(name) and not changed_only and _remove_from(open_folder.root, folder, name)
    parent = open_folder.open(folder)
    there = _lstat(name, parent)
    if stat.S_ISDIR(status.st_mode):
        return _make_folder(parent, name, there, status)
    if changed_only and there is not None and _is_same(one.source, status, name, parent, there):
        return False
    if stat.S_ISLNK(status.st_mode):
        _make_link(parent, name, there, os.readlink(one.source))
    elif stat.S_ISREG(status.st_mode):
        try:
            source = os.open(one.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return not changed_only and _remove(parent, name)
        try:
            _write_file(parent, name, there, source)
        finally:
            os.close(source)
    return True


def _is_same(source: str, status: os.stat_result, name: str, parent: int, there: os.stat_result) -> bool:
    if stat.S_IFMT(status.st_mode) != stat.S_IFMT(there.st_mode):
        return False
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(source) == os.readlink(name, dir_fd=parent)
    if status.st_size != there.st_size or stat.S_IMODE(status.st_mode) != stat.S_IMODE(there.st_mode):
        return False
    # Images keep whole seconds, and a build its own idea of time: then only the content tells.
    try:
        return status.st_mtime_ns == there.st_mtime_ns or _holds_same(source, name, parent)
    except FileNotFoundError:
        return False


def _holds_same(source: str, name: str, parent: int) -> bool:
    with (
        open(source, "rb", buffering=0) as one,
        open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent), "rb", buffering=0) as other,
    ):
        while piece := one.read(_PIECE):
            if other.read(len(piece)) != piece:
                return False
    return True


def _open_folder(root: int, path: str) -> int:
    """A directory below `root`, made where it is missing; a new one belongs to whom the one above it belongs."""
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        return host.open_in_root(root, path, flags)
    except FileNotFoundError:
        above, name = os.path.split(path)
    parent = _open_folder(root, above)
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
        _give_owner(parent, name)
    except FileExistsError:
        # A link that leads nowhere yet.
        make_path(root, path, folder=True)
    finally:
        os.close(parent)
    return host.open_in_root(root, path, flags)


def _make_folder(parent: int, name: str, there: os.stat_result | None, status: os.stat_result) -> bool:
    if there is not None and (stat.S_ISDIR(there.st_mode) or stat.S_ISLNK(there.st_mode)):
        return False
    if there is not None:
        os.unlink(name, dir_fd=parent)
    os.mkdir(name, 0o700, dir_fd=parent)
    _give_owner(parent, name)
    os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=parent)
    return True


def _make_link(parent: int, name: str, there: os.stat_result | None, leads_to: str) -> None:
    fresh = _fresh_name(name)
    os.symlink(leads_to, fresh, dir_fd=parent)
    _give_owner(parent, fresh, there)
    _put_in_place(parent, fresh, name, there)


def _write_file(parent: int, name: str, there: os.stat_result | None, source: int) -> None:
    status = os.fstat(source)
    fresh = _fresh_name(name)
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        try:
            _copy(source, file)
            owner = _choose_owner(parent, there)
            os.fchown(file, *owner)
            os.fchmod(file, stat.S_IMODE(status.st_mode))
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(file)
        _put_in_place(parent, fresh, name, there)
    except OSError as error:
        _unlink(fresh, parent)
        if error.errno != errno.EBUSY:
            raise
        # Something is mounted on the file itself: it can only be written where it is.
        file = os.open(name, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.lseek(source, 0, os.SEEK_SET)
            _copy(source, file)
        finally:
            os.close(file)


def _copy(source: int, target: int) -> None:
    while os.sendfile(target, source, None, _PIECE):
        pass


def _put_in_place(parent: int, fresh: str, name: str, there: os.stat_result | None) -> None:
    if there is not None and stat.S_ISDIR(there.st_mode):
        _remove(parent, name)
    try:
        if (
            there is not None
            and stat.S_ISREG(there.st_mode)
            and there.st_size <= _SMALL
            and exchange_names(parent, fresh, name)
        ):
            _unlink(fresh, parent)
            return
        os.rename(fresh, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError:
        _unlink(fresh, parent)
        raise


def _fresh_name(name: str) -> str:
    # Hidden, and what editors call their own: whoever watches the folder from inside lets it pass.
    return f".{name[:200]}.{os.getpid():x}.swx"


def _choose_owner(parent: int, there: os.stat_result | None) -> tuple[int, int]:
    one = there or os.fstat(parent)
    return one.st_uid, one.st_gid


def _give_owner(parent: int, name: str, there: os.stat_result | None = None) -> None:
    os.chown(name, *_choose_owner(parent, there), dir_fd=parent, follow_symlinks=False)


def _remove_from(root: int, folder: str, name: str) -> bool:
    try:
        parent = host.open_in_root(root, folder, os.O_PATH | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return _remove(parent, name)
    finally:
        os.close(parent)


def _remove(parent: int, name: str) -> bool:
    """Remove what is there, whole trees too; never what is mounted below. False if there was nothing."""
    status = _lstat(name, parent)
    if status is None:
        return False
    if not stat.S_ISDIR(status.st_mode):
        _unlink(name, parent)
        return True
    if status.st_dev != os.fstat(parent).st_dev:
        return False
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        for entry in os.listdir(fd):
            _remove(fd, entry)
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EBUSY, errno.ENOENT):
            raise
    return True


def _unlink(name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return


def _lstat(name: str, parent: int | None = None) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
