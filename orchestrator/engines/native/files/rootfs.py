"""Paths inside a container's root file system, resolved as its own processes would: no link leads out of it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping, Sequence
from fcntl import ioctl
from typing import TYPE_CHECKING, Any, Final

from orchestrator.engines.native import host

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout

_MOST_LINKS: Final = 40
_MOST_LAYERS: Final = 500
_FS_IOC_GETFLAGS: Final = 0x80086601
_FS_IOC_SETFLAGS: Final = 0x40086602
_FS_TOPDIR_FL: Final = 0x00020000
_POINTS: Final = ("dev/", "proc/", "sys/", "etc/", "etc/hosts", "etc/hostname", "etc/resolv.conf")
"""Where something is mounted in nearly every container; folders end in a slash."""
_KERNEL_FOLDERS: Final = ("/proc", "/dev", "/sys")


def stack_layers(layout: Layout, layers: Sequence[os.PathLike[str]]) -> list[str]:
    """The read-only layers of a container, topmost first: the image's, above one that holds mount points alone.

    Where the image has no such places the runtime would make them in each container's own layer, and copy the image's
    ``/etc`` up first: nearly half of all the files that a start makes on the disk.
    """
    found = [os.fspath(one) for one in layers]
    if len(found) < _MOST_LAYERS:
        found.append(_ensure_points(f"{layout.state}/mount-points"))
    return found


def _ensure_points(folder: str) -> str:
    if not os.path.isdir(folder):
        beside = f"{folder}.{os.getpid()}-{os.urandom(4).hex()}"
        os.makedirs(beside)
        os.chmod(beside, 0o755)
        for point in _POINTS:
            if point.endswith("/"):
                os.mkdir(f"{beside}/{point}")
            else:
                os.close(os.open(f"{beside}/{point}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC))
            os.chmod(f"{beside}/{point}", 0o755 if point.endswith("/") else 0o644)
        try:
            os.rename(beside, folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            from shutil import rmtree

            rmtree(beside)  # another thread was quicker
    return folder


def spread_folders(path: str) -> None:
    """Tell the file system that the folders to be made in `path` have nothing to do with each other.

    ext4 then spreads them over the disk; without a journal it also spares it to look through the inodes of whatever
    was deleted next to them in the last minutes. Others have no such flag, which is fine.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        flags = bytearray(8)
        ioctl(fd, _FS_IOC_GETFLAGS, flags)
        held = int.from_bytes(flags[:4], sys.byteorder)
        if not held & _FS_TOPDIR_FL:
            ioctl(fd, _FS_IOC_SETFLAGS, (held | _FS_TOPDIR_FL).to_bytes(4, sys.byteorder) + bytes(4))
    except OSError:
        return
    finally:
        os.close(fd)


def prepare_root(config: Mapping[str, Any]) -> None:
    """Make the mount points that crun cannot make, and the working directory of a read-only root.

    crun makes plain missing mount points, but stops at a dangling link, which the ``/etc/resolv.conf`` of many images
    is; and no runtime can make the working directory once the root is read-only.
    """
    root = os.open(config["root"]["path"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mounts = config["mounts"]
    others = [one["destination"] for one in mounts if one["destination"] != "/"]

    def is_missing(path: str) -> bool:
        # Below another mount the path is not the root's but that mount's.
        if path.startswith(_KERNEL_FOLDERS) or any(path.startswith(f"{other}/") for other in others):
            return False
        try:
            os.close(host.open_in_root(root, path, os.O_PATH))
        except FileNotFoundError:
            return True
        return False

    try:
        for mount in mounts:
            if is_missing(mount["destination"]):
                folder = mount.get("type") != "bind" or os.path.isdir(mount["source"])
                make_path(root, mount["destination"], folder=folder, only_behind_links=True)
        if config["root"].get("readonly") and is_missing(config["process"]["cwd"]):
            make_path(root, config["process"]["cwd"], folder=True)
    finally:
        os.close(root)


def make_path(root: int, path: str, *, folder: bool, only_behind_links: bool = False) -> None:
    """Make `path`, and whatever is missing on the way to it; links are followed inside `root`."""
    done: list[str] = []
    coming = [one for one in reversed(path.split("/")) if one not in ("", ".")]
    links = 0
    while coming:
        name = coming.pop()
        if name == "..":
            done = done[:-1]
            continue
        above = host.open_in_root(root, "/".join(done) or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            link = _read_link(name, above)
            if link is None:
                if links == 0 and only_behind_links and not _exists(name, above):
                    return
                _make_one(name, above, folder=folder or bool(coming))
                done.append(name)
                continue
        finally:
            os.close(above)
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if link.startswith("/"):
            done = []
        coming += [one for one in reversed(link.split("/")) if one not in ("", ".")]


def _exists(name: str, above: int) -> bool:
    try:
        os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _read_link(name: str, above: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=above)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _make_one(name: str, above: int, *, folder: bool) -> None:
    try:
        if folder:
            os.mkdir(name, 0o755, dir_fd=above)
        else:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=above))
    except FileExistsError:
        return
