"""Files out of a container and into one, as tar streams; nothing leads out of the root directory that is worked in."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Final

from orchestrator.engines.base import PathFacts
from orchestrator.engines.native import host
from orchestrator.engines.native.files.rootfs import make_path
from orchestrator.engines.native.images.tarwriter import BLOCK, ENTRY_TYPES, render_header
from orchestrator.errors import Conflict, EngineError, NotFound

if TYPE_CHECKING:
    from orchestrator.engines.native.files.container_root import Root

_PIECE: Final = 1 << 20
_KEPT_XATTRS: Final = ("security.capability", "user.")


def look_at(root: int, path: str, *, follow: bool = True) -> PathFacts | None:
    """What is at `path`, None if there is nothing. Without `follow` a link is a link, unless a slash follows it."""
    flags = os.O_PATH if follow or path.endswith(("/", "/.")) else os.O_PATH | os.O_NOFOLLOW
    try:
        fd = host.open_in_root(root, path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        mode = os.fstat(fd).st_mode
    finally:
        os.close(fd)
    return PathFacts(kind="directory" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file")


def list_folder(root: int, path: str) -> list[str]:
    """The names in the folder at `path`, sorted, those of folders with a slash behind; none if there is no folder."""
    try:
        # Not O_PATH, which cannot be listed; nothing but a folder is opened with O_DIRECTORY.
        fd = host.open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        with os.scandir(fd) as entries:
            return sorted(one.name + "/" * one.is_dir(follow_symlinks=False) for one in entries)
    finally:
        os.close(fd)


def render_tree(root: Root, path: str, name: str, *, follow: bool = False) -> Iterator[bytes]:
    """The tar of what is at `path`, called `name` in there; ``.`` gives what is in a directory, without itself.

    File systems that are neither the container's own nor a volume (``/proc``, ``/dev``) are left out, unless `path` is
    in one. NotFound.
    """
    flags = os.O_PATH if follow or path.endswith(("/", "/.")) else os.O_PATH | os.O_NOFOLLOW
    try:
        fd = host.open_in_root(root.fd, path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"there is no {path} in the container", resource=path, operation="copy") from None
    try:
        yield from _Renderer(root).render(fd, name, _normal(path))
    finally:
        os.close(fd)
    yield bytes(BLOCK * 2)


class _Renderer:
    """One walk: what it has seen, so that files with several names stay one file."""

    def __init__(self, root: Root) -> None:
        self._volumes = None if root.volumes is None else frozenset(_normal(one) for one in root.volumes)
        self._seen: dict[tuple[int, int], str] = {}

    def render(self, fd: int, name: str, place: str) -> Iterator[bytes]:
        status = os.fstat(fd)
        kind = stat.S_IFMT(status.st_mode)
        if kind not in ENTRY_TYPES:
            return  # a socket has no form in a tar
        link = ""
        if kind != stat.S_IFDIR and status.st_nlink > 1:
            first = self._seen.setdefault((status.st_dev, status.st_ino), name)
            link = "" if first == name else first
        if name != ".":
            yield self._describe(fd, name, status, link)
        if kind == stat.S_IFREG and not link:
            yield from _read_whole(fd, status.st_size)
        elif kind == stat.S_IFDIR:
            yield from self._render_entries(fd, "" if name == "." else f"{name}/", place, status.st_dev)

    def _render_entries(self, fd: int, prefix: str, place: str, device: int) -> Iterator[bytes]:
        with _reopened(fd, os.O_RDONLY | os.O_DIRECTORY) as folder:
            names = sorted(os.listdir(folder))
        for entry in names:
            try:
                child = os.open(entry, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            except FileNotFoundError:
                continue
            try:
                status = os.fstat(child)
                below = f"{place.rstrip('/')}/{entry}"
                if stat.S_ISDIR(status.st_mode) and status.st_dev != device and self._is_foreign(below):
                    yield self._describe(child, prefix + entry, status, "")
                    continue
                yield from self.render(child, prefix + entry, below)
            finally:
                os.close(child)

    def _is_foreign(self, place: str) -> bool:
        return self._volumes is not None and place not in self._volumes

    def _describe(self, fd: int, name: str, status: os.stat_result, link: str) -> bytes:
        kind = stat.S_IFMT(status.st_mode)
        return render_header(
            f"{name}/" if kind == stat.S_IFDIR else name,
            b"1" if link else ENTRY_TYPES[kind],
            mode=stat.S_IMODE(status.st_mode),
            owner=(status.st_uid, status.st_gid),
            size=status.st_size if kind == stat.S_IFREG and not link else 0,
            mtime_ns=status.st_mtime_ns,
            link=link or (os.readlink("", dir_fd=fd) if kind == stat.S_IFLNK else ""),
            device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
            xattrs=_read_xattrs(fd, kind),
        )


def _read_xattrs(fd: int, kind: int) -> dict[str, bytes]:
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        return {}
    path = f"/proc/self/fd/{fd}"
    try:
        return {key: os.getxattr(path, key) for key in os.listxattr(path) if key.startswith(_KEPT_XATTRS)}
    except OSError:
        return {}


class _reopened:
    """A descriptor that was opened by path only, opened to be read."""

    def __init__(self, fd: int, flags: int) -> None:
        self._fd = os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)


def _read_whole(fd: int, size: int) -> Iterator[bytes]:
    left = size
    with _reopened(fd, os.O_RDONLY) as file:
        while left and (data := os.read(file, min(left, _PIECE))):
            left -= len(data)
            yield data
    # What shrinks while it is read keeps the length that its header has promised.
    while left:
        yield bytes(min(left, _PIECE))
        left -= min(left, _PIECE)
    yield bytes(-size % BLOCK)


def extract_tree(
    root: int,
    directory: str,
    source: IO[bytes],
    *,
    keep_owner: bool = True,
    devices: bool = True,
    links: bool = True,
    skip: Callable[[str], bool] = lambda _name: False,
) -> None:
    """Unpack a tar stream (plain or compressed) into `directory` below `root`.

    With `links` directories that are links are followed, inside `root`; without, they are replaced: then nothing that
    the stream itself has made can lead elsewhere. `devices` False refuses device nodes. Raises NotFound for a
    `directory` that is not there, Conflict where a directory would have to give way.
    """
    try:
        base = host.open_in_root(root, directory, os.O_PATH | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{directory} is not a directory", resource=directory, operation="copy") from None
    writer = _Writer(root, base, _normal(directory), keep_owner=keep_owner, devices=devices, links=links)
    try:
        with tarfile.open(fileobj=source, mode="r|*") as archive:
            for member in archive:
                if not skip(member.name):
                    writer.put(member, archive)
        writer.finish()
    except tarfile.TarError as error:
        raise EngineError(f"the archive cannot be read: {error}", operation="copy") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise EngineError(f"{where}{error.strerror}", resource=directory, operation="copy") from error
    finally:
        os.close(base)


class _Writer:
    """Puts members of an archive below a directory."""

    def __init__(self, root: int, base: int, directory: str, *, keep_owner: bool, devices: bool, links: bool) -> None:
        self._root, self._base, self._directory = root, base, directory
        self._keep_owner, self._devices, self._links = keep_owner, devices, links
        self._folders: list[tuple[str, tarfile.TarInfo]] = []

    def put(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        """Make one member; directories get their times in the end."""
        parts = [one for one in member.name.split("/") if one not in ("", ".")]
        if ".." in parts:
            raise EngineError(f"{member.name} in the archive leads out of it", resource=member.name, operation="copy")
        if not parts:
            return
        parent = self._open_folder(parts[:-1])
        try:
            folder = self._links and member.isdir() and self._is_folder(parts)
            if not folder:
                self._make(parent, parts[-1], member, archive)
        finally:
            os.close(parent)
        if member.isdir():
            self._folders.append(("/".join(parts), member))

    def finish(self) -> None:
        """Set modes and times of directories, the innermost first."""
        for path, member in reversed(self._folders):
            fd = self._open_folder(path.split("/"))
            try:
                with _reopened(fd, os.O_RDONLY | os.O_DIRECTORY) as folder:
                    self._dress(folder, member)
            finally:
                os.close(fd)

    def _place(self, parts: list[str]) -> str:
        return "/".join((self._directory.rstrip("/"), *parts)) or "/"

    def _open_folder(self, parts: list[str]) -> int:
        """A directory below the base, made where it is missing."""
        if self._links:
            path = self._place(parts)
            try:
                return host.open_in_root(self._root, path, os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:
                make_path(self._root, path, folder=True)
                return host.open_in_root(self._root, path, os.O_PATH | os.O_DIRECTORY)
        current = os.dup(self._base)
        try:
            for part in parts:
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                try:
                    below = os.open(part, flags, dir_fd=current)
                except FileNotFoundError:
                    os.mkdir(part, 0o755, dir_fd=current)
                    below = os.open(part, flags, dir_fd=current)
                os.close(current)
                current = below
        except BaseException:
            os.close(current)
            raise
        return current

    def _is_folder(self, parts: list[str]) -> bool:
        found = look_at(self._root, self._place(parts))
        return found is not None and found.kind == "directory"

    def _make(self, parent: int, name: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        there = _lstat(name, parent)
        if there is not None and stat.S_ISDIR(there.st_mode):
            if member.isdir():
                return
            raise Conflict(f"{member.name} is a directory there", resource=member.name, operation="copy")
        in_place = there is not None and not self._remove(name, parent, member, there)
        if member.isreg():
            self._write_file(parent, name, member, archive, in_place=in_place)
            return
        if member.isdir():
            os.mkdir(name, 0o700, dir_fd=parent)
            return
        if member.islnk():
            self._link(parent, name, member)
            return
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif member.ischr() or member.isblk():
            self._make_device(parent, name, member)
        else:
            return
        self._dress_entry(parent, name, member)

    def _remove(self, name: str, parent: int, member: tarfile.TarInfo, there: os.stat_result) -> bool:
        """Make room; False for a file that something is mounted on, which is written in place."""
        try:
            os.unlink(name, dir_fd=parent)
        except OSError as error:
            if member.isreg() and stat.S_ISREG(there.st_mode):
                return False
            raise Conflict(f"{member.name}: {error.strerror}", resource=member.name, operation="copy") from error
        return True

    def _write_file(
        self, parent: int, name: str, member: tarfile.TarInfo, archive: tarfile.TarFile, *, in_place: bool
    ) -> None:
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_TRUNC if in_place else os.O_CREAT | os.O_EXCL)
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            content = archive.extractfile(member)
            while content is not None and (data := content.read(_PIECE)):
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            self._dress(fd, member)
        finally:
            os.close(fd)

    def _link(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        parts = [one for one in member.linkname.split("/") if one not in ("", ".")]
        if ".." in parts or not parts:
            raise EngineError(f"{member.name} in the archive links out of it", resource=member.name, operation="copy")
        folder = self._open_folder(parts[:-1])
        try:
            os.link(parts[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(folder)

    def _make_device(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        if not self._devices:
            raise Conflict(
                f"{member.name} is a device; devices are not copied to this machine",
                resource=member.name,
                operation="copy",
            )
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        os.mknod(name, kind | 0o600, os.makedev(member.devmajor, member.devminor), dir_fd=parent)

    def _dress(self, fd: int, member: tarfile.TarInfo) -> None:
        if self._keep_owner:
            os.fchown(fd, member.uid, member.gid)
        os.fchmod(fd, member.mode)
        for key, value in member.pax_headers.items():
            name = key.removeprefix("SCHILY.xattr.")
            if name != key and name.startswith(_KEPT_XATTRS) and self._keep_owner:
                os.setxattr(fd, name, value.encode("utf-8", "surrogateescape"))
        os.utime(fd, ns=_times(member))

    def _dress_entry(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        if self._keep_owner:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        if not member.issym():
            os.chmod(name, member.mode, dir_fd=parent)
        os.utime(name, ns=_times(member), dir_fd=parent, follow_symlinks=False)


def _times(member: tarfile.TarInfo) -> tuple[int, int]:
    moment = int(float(member.mtime) * 1_000_000_000)
    return moment, moment


def _lstat(name: str, parent: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _normal(path: str) -> str:
    return os.path.normpath("/" + path.lstrip("/"))


class ChunkReader:
    """Chunks as a file to read from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        parts, have = [self._rest], len(self._rest)
        while size < 0 or have < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        cut = len(data) if size < 0 else size
        self._rest = data[cut:]
        return data[:cut]
