"""Files from one tree into another: contents without passing through this process, attributes exactly.

A directory that is written to is held open, and names in it are used without following links: what a stage's file
system holds can lead nothing astray.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.engines.native import host
from orchestrator.engines.native.dockerfile.sources.failures import CopyError
from orchestrator.engines.native.dockerfile.sources.hashing import read_xattrs
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.performing.ownership import ModeChange
    from orchestrator.engines.native.dockerfile.sources.views import Chosen, View

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 30
_CANNOT = frozenset((errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EBADF))


class Attributes(Record):
    """What replaces the attributes of the source; None keeps them. `owner` is (uid, gid).

    Times later than `latest_ns` are set to it.
    """

    owner: tuple[int, int] | None = None
    mode: ModeChange | None = None
    mtime_ns: int | None = None
    latest_ns: int | None = None


class Folder:
    """A directory of the destination. It comes into being when something is put into it."""

    def __init__(self, parent: Folder | None, name: str, *, descriptor: int = -1, shown: str = "") -> None:
        self.parent = parent
        self.name = name
        self.shown: str = shown if parent is None else f"{parent.shown}/{name}"
        self.descriptor = descriptor
        self.source: tuple[View, str] | None = None


class Transfer:
    """One copy: knows what was hard-linked and what the file systems can do. For one thread."""

    def __init__(
        self, stage: View, attributes: Attributes, check: Callable[[], None], *, replace: bool = False
    ) -> None:
        """`stage` is what is copied into. `replace` lets a file take a directory's place and the reverse, as an
        archive's members do.
        """
        self._stage = stage
        self._attributes = attributes
        self._check = check
        self._replace = replace
        self._links: dict[tuple[int, int], tuple[str, str]] = {}
        self._clones = True
        self._ranges = True

    # -- directories -------------------------------------------------------------------------------------------------

    def copy_contents(self, view: View, path: str, folder: Folder, chosen: Chosen, shown: str = "") -> None:
        """The visible, chosen entries of a source directory into `folder`; directories are merged."""
        self._check()
        source = view.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for entry in view.scan(path):
                name = entry.name
                directory = entry.is_dir(follow_symlinks=False)
                if chosen.everything:
                    taken = below = True
                else:
                    taken, below = chosen.judge(f"{shown}/{name}" if shown else name, directory)
                    if not taken and not below:
                        continue
                if directory:
                    inner = Folder(folder, name)
                    inner.source = (view, f"{path}/{name}" if path else name)
                    self._copy_directory(inner, chosen, f"{shown}/{name}" if shown else name, taken, below)
                elif taken:
                    regular = entry.is_file(follow_symlinks=False)
                    self.copy_entry(view, source, name, self.enter(folder), name, folder.shown, regular=regular)
        finally:
            os.close(source)

    def _copy_directory(self, folder: Folder, chosen: Chosen, shown: str, taken: bool, below: bool) -> None:
        assert folder.source is not None
        view, path = folder.source
        try:
            if taken:
                self.enter(folder)
            if below:
                self.copy_contents(view, path, folder, chosen, shown)
        finally:
            self.leave(folder)

    def enter(self, folder: Folder) -> int:
        """The open directory, made (with those above it) if it was not there."""
        if folder.descriptor >= 0:
            return folder.descriptor
        assert folder.parent is not None
        above = self.enter(folder.parent)
        try:
            os.mkdir(folder.name, 0o700, dir_fd=above)
        except FileExistsError:
            self._check_directory(folder, above)
        folder.descriptor = os.open(folder.name, _FOLDER, dir_fd=above)
        return folder.descriptor

    def _check_directory(self, folder: Folder, above: int) -> None:
        status = os.stat(folder.name, dir_fd=above, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return
        if not self._replace:
            what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a directory"
            raise CopyError(
                f"cannot copy the directory to {folder.shown}: {what} is in its place",
                code="copy-conflict",
                hint="copy to the directory that the link leads to"
                if stat.S_ISLNK(status.st_mode)
                else "remove it in an earlier step, or choose another destination",
            )
        os.unlink(folder.name, dir_fd=above)
        os.mkdir(folder.name, 0o700, dir_fd=above)

    def leave(self, folder: Folder) -> None:
        """Close a directory and give it the attributes of its source, now that nothing in it changes any more."""
        if folder.descriptor < 0 or folder.source is None:
            return
        view, path = folder.source
        try:
            status = view.lstat(path)
            xattrs = read_xattrs(view.full(path))
            self._finish(folder.descriptor, view, status, xattrs)
        finally:
            os.close(folder.descriptor)
            folder.descriptor = -1

    # -- everything else ---------------------------------------------------------------------------------------------

    def copy_entry(
        self, view: View, source: int, name: str, target: int, as_name: str, shown: str, *, regular: bool
    ) -> None:
        """One entry of the open directory `source`, not a directory itself, into the open directory `target`.

        What is there under that name gives way, but not a directory. `regular` files are opened, nothing else is: to
        open a device can do things. Raises CopyError.
        """
        if not regular:
            self._copy_special(view, source, name, target, as_name, shown)
            return
        descriptor = os.open(name, _READ, dir_fd=source)
        try:
            self._copy_file(view, descriptor, os.fstat(descriptor), target, as_name, shown)
        finally:
            os.close(descriptor)

    def write_file(self, content: bytes, mode: int, target: int, name: str, shown: str) -> None:
        """A file with given content, owned by 0:0 unless the attributes say otherwise."""
        descriptor = self._create(target, name, shown)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchown(descriptor, *(self._attributes.owner or (0, 0)))
            change = self._attributes.mode
            os.fchmod(descriptor, change.apply(stat.S_IFREG | mode) if change else mode)
            os.utime(descriptor, ns=self._times(os.fstat(descriptor)))
        finally:
            os.close(descriptor)

    def _copy_file(self, view: View, source: int, status: os.stat_result, target: int, name: str, shown: str) -> None:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and (first := self._links.get(key)) is not None:
            self._make_way(target, name, shown)
            self._link(*first, target, name)
            return
        descriptor = self._create(target, name, shown)
        try:
            if status.st_size:
                self._copy_data(source, descriptor, status)
            self._finish(descriptor, view, status, read_xattrs(source))
        finally:
            os.close(descriptor)
        if status.st_nlink > 1:
            self._links[key] = (shown, name)

    def _link(self, folder: str, first: str, target: int, name: str) -> None:
        above = self._stage.open(folder.lstrip("/"), os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(first, name, src_dir_fd=above, dst_dir_fd=target, follow_symlinks=False)
        finally:
            os.close(above)

    def _create(self, target: int, name: str, shown: str) -> int:
        try:
            return os.open(name, _WRITE, 0o600, dir_fd=target)
        except FileExistsError:
            self._make_way(target, name, shown)
            return os.open(name, _WRITE, 0o600, dir_fd=target)

    def _make_way(self, target: int, name: str, shown: str) -> None:
        try:
            status = os.stat(name, dir_fd=target, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=target)
            return
        if not self._replace:
            raise CopyError(
                f"cannot replace the directory {shown}/{name} with a file",
                code="copy-conflict",
                hint=f"write {shown}/{name}/ to copy into it",
            )
        import shutil

        shutil.rmtree(name, dir_fd=target)

    def _copy_special(self, view: View, source: int, name: str, target: int, as_name: str, shown: str) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        mode = status.st_mode
        if stat.S_ISSOCK(mode):
            return  # only a process could do something with it, and no image format can hold it
        self._make_way(target, as_name, shown)
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=source), as_name, dir_fd=target)
        elif stat.S_ISFIFO(mode) or ((stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and status.st_rdev):
            host.make_node(as_name, stat.S_IFMT(mode) | 0o600, status.st_rdev, dir_fd=target)
        else:
            raise CopyError(
                f"{shown}/{as_name} cannot be copied: it is the mark of a deleted file, or has no known type"
            )
        os.chown(as_name, *(self._attributes.owner or view.owner(status)), dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(mode):
            change = self._attributes.mode
            os.chmod(as_name, change.apply(mode) if change else stat.S_IMODE(mode), dir_fd=target)
        place, origin = f"/proc/self/fd/{target}/{as_name}", f"/proc/self/fd/{source}/{name}"
        for key, value in read_xattrs(origin).items():
            with suppress(OSError):
                os.setxattr(place, key, value, follow_symlinks=False)
        os.utime(as_name, ns=self._times(status), dir_fd=target, follow_symlinks=False)

    # -- contents and attributes -------------------------------------------------------------------------------------

    def _finish(self, descriptor: int, view: View, status: os.stat_result, xattrs: dict[str, bytes]) -> None:
        attributes = self._attributes
        # In this order: a change of the owner takes set-id bits and capabilities away.
        os.fchown(descriptor, *(attributes.owner or view.owner(status)))
        mode = status.st_mode
        os.fchmod(descriptor, attributes.mode.apply(mode) if attributes.mode else stat.S_IMODE(mode))
        for key, value in xattrs.items():
            with suppress(OSError):  # one that the file system of the images does not take: nothing to fail for
                os.setxattr(descriptor, key, value)
        os.utime(descriptor, ns=self._times(status))

    def _times(self, status: os.stat_result) -> tuple[int, int]:
        fixed, latest = self._attributes.mtime_ns, self._attributes.latest_ns
        accessed, modified = (status.st_atime_ns, status.st_mtime_ns) if fixed is None else (fixed, fixed)
        return (accessed, modified) if latest is None else (min(accessed, latest), min(modified, latest))

    def _copy_data(self, source: int, target: int, status: os.stat_result) -> None:
        if self._clones:
            self._clones = host.clone_file(source, target)
            if self._clones:
                return
        if status.st_blocks * 512 < status.st_size:
            self._copy_sparse(source, target, status.st_size)
            return
        left = status.st_size  # as it was when it was opened: the end of a file that grows could be never
        while left > 0 and (done := self._copy_piece(source, target, min(left, _PIECE))):
            left -= done
            if left:
                self._check()

    def _copy_sparse(self, source: int, target: int, size: int) -> None:
        """Data only where there is data: holes stay holes."""
        end = 0
        while end < size:
            try:
                start = os.lseek(source, end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:  # nothing but a hole until the end
                    raise
                break
            end = os.lseek(source, start, os.SEEK_HOLE)
            os.lseek(source, start, os.SEEK_SET)
            os.lseek(target, start, os.SEEK_SET)
            left = end - start
            while left > 0:
                done = self._copy_piece(source, target, min(left, _PIECE))
                if not done:
                    return
                left -= done
                self._check()
        os.ftruncate(target, size)

    def _copy_piece(self, source: int, target: int, size: int) -> int:
        if self._ranges:
            try:
                return os.copy_file_range(source, target, size)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                self._ranges = False
        return os.sendfile(target, source, None, min(size, 1 << 24))
