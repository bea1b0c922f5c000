"""A reproducible layer tar from an overlay upper directory: sorted, pax headers only where ustar is too small.

The same files with the same attributes give the same bytes. Overlay's deletions become ``.wh.`` entries again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

BLOCK = 512
_PIECE = 1 << 20
_OVERLAY = ("trusted.overlay.", "user.overlay.")
_LOCAL = ("security.selinux",)
ENTRY_TYPES = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}


def render_directory(directory: os.PathLike[str], *, clamp: int | None = None) -> Iterator[bytes]:
    """The tar of a layer directory. `clamp` caps modification times (seconds since the epoch)."""
    seen: dict[tuple[int, int], str] = {}
    root = os.fspath(directory)
    for name in _iterate_names(root, ""):
        path = f"{root}/{name}"
        status = os.lstat(path)
        if stat.S_ISSOCK(status.st_mode):
            continue  # sockets have no form in a tar and no meaning in an image
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            parent, slash, base = name.rpartition("/")
            yield render_header(f"{parent}{slash}.wh.{base}", b"0")
            continue
        link = ""
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            link = seen.setdefault((status.st_dev, status.st_ino), name)
            link = "" if link == name else link
        yield _describe(path, name, status, link, clamp)
        if stat.S_ISREG(status.st_mode) and not link and status.st_size:
            yield from _read_file(path, status.st_size)
            yield bytes(-status.st_size % BLOCK)
        if stat.S_ISDIR(status.st_mode) and _is_opaque(path):
            yield render_header(f"{name}/.wh..wh..opq", b"0")
    yield bytes(BLOCK * 2)


def render_header(
    name: str,
    kind: bytes,
    *,
    mode: int = 0,
    owner: tuple[int, int] = (0, 0),
    size: int = 0,
    mtime_ns: int = 0,
    link: str = "",
    device: tuple[int, int] = (0, 0),
    xattrs: dict[str, bytes] | None = None,
) -> bytes:
    """The header blocks of one entry: ustar, with a pax header before it for what ustar cannot hold."""
    seconds, nanoseconds = divmod(mtime_ns, 10**9)
    pax: dict[str, bytes] = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
    path, target = (text.encode("utf-8", "surrogateescape") for text in (name, link))
    if len(path) > 100:
        pax["path"] = path
    if len(target) > 100:
        pax["linkpath"] = target
    if nanoseconds or seconds < 0 or seconds >= 8**11:
        fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
        pax["mtime"] = f"{seconds}{fraction}".encode()
    for key, number, limit in (("size", size, 8**11), ("uid", owner[0], 8**7), ("gid", owner[1], 8**7)):
        if number >= limit:
            pax[key] = str(number).encode()
    numbers = (mode, owner[0] % 8**7, owner[1] % 8**7)
    main = _render_block(path, kind, numbers, size % 8**11, max(0, seconds) % 8**11, target, device)
    if not pax:
        return main
    body = b"".join(_render_record(key, pax[key]) for key in sorted(pax))
    label = b"PaxHeaders.0/" + path.rstrip(b"/").rpartition(b"/")[2]
    extra = _render_block(label, b"x", (0o644, 0, 0), len(body), 0, b"", (0, 0))
    return extra + body + bytes(-len(body) % BLOCK) + main


def _render_block(
    path: bytes,
    kind: bytes,
    numbers: tuple[int, int, int],
    size: int,
    seconds: int,
    target: bytes,
    device: tuple[int, int],
) -> bytes:
    mode, uid, gid = numbers
    major, minor = device if kind in b"34" else (0, 0)
    block = bytearray(
        b"".join(
            (
                path[:100].ljust(100, b"\0"),
                b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, seconds),
                b" " * 8,
                kind,
                target[:100].ljust(100, b"\0"),
                b"ustar\x0000",
                bytes(64),
                b"%07o\0%07o\0" % (major, minor),
                bytes(167),
            )
        )
    )
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _render_record(key: str, value: bytes) -> bytes:
    """``length key=value\\n``, where the length counts its own digits."""
    rest = b" " + key.encode("utf-8", "surrogateescape") + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) > len(str(len(rest))):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def _iterate_names(root: str, prefix: str) -> Iterator[str]:
    with os.scandir(f"{root}/{prefix}") as found:
        entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        name = f"{prefix}{entry.name}"
        yield name
        if entry.is_dir(follow_symlinks=False):
            yield from _iterate_names(root, f"{name}/")


def _describe(path: str, name: str, status: os.stat_result, link: str, clamp: int | None) -> bytes:
    kind = stat.S_IFMT(status.st_mode)
    mtime = status.st_mtime_ns
    if clamp is not None and mtime > clamp * 10**9:
        mtime = clamp * 10**9
    xattrs = {
        key: os.getxattr(path, key, follow_symlinks=False)
        for key in os.listxattr(path, follow_symlinks=False)
        if not key.startswith(_OVERLAY) and key not in _LOCAL
    }
    return render_header(
        f"{name}/" if kind == stat.S_IFDIR else name,
        b"1" if link else ENTRY_TYPES[kind],
        mode=stat.S_IMODE(status.st_mode),
        owner=(status.st_uid, status.st_gid),
        size=status.st_size if kind == stat.S_IFREG and not link else 0,
        mtime_ns=mtime,
        link=link or (os.readlink(path) if kind == stat.S_IFLNK else ""),
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
        xattrs=xattrs,
    )


def _is_opaque(path: str) -> bool:
    for prefix in _OVERLAY:
        try:
            if os.getxattr(path, f"{prefix}opaque", follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False


def _read_file(path: str, size: int) -> Iterator[bytes]:
    left = size
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while left:
            data = os.read(descriptor, min(left, _PIECE))
            if not data:
                break
            left -= len(data)
            yield data
    finally:
        os.close(descriptor)
    if left:  # the file shrank while it was read: the header has promised its length
        yield bytes(left)
