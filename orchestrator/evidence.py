"""What a kept result rests on, written down as lines that can be looked at again in a moment.

A kept result is a file: a head of such lines, and a body that counts for as long as every line of the head holds. A
line is a letter and what it is about:

========================== ==============================================================================
``f SIGNATURE PATH``       what stat(2) says of a file; of a directory that it is the same one
``e SIGNATURE PATH``       what lstat(2) says of an entry, of a directory also whether names came or went
``m SIGNATURE PATH``       another kept result: that file, and all that it rests on in turn
``i IMAGE NAME PATH``      in the image index at PATH the name leads to the image, and to that one alone
``t SECONDS``              the moment (epoch) from which the result counts for a day
========================== ==============================================================================

Whoever keeps a result has to see to it that a change which comes after the look would show in the times of a file:
they are as coarse as the ticks of the clock (`is_settled`). A result that may be stale in any way does not hold.

Imports next to nothing: to answer from what is kept has to be quicker than to think.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

Signature = tuple[int, ...]
"""Change time and modification time (ns), size, inode and, of an entry, mode and device; the inode alone of a
directory that is only to be the same one; nothing if there is nothing at the path."""

_FORMAT = b"stack 2"
"""Changes when a result of an older version must not be read."""

_DAY = 24 * 3600
_MOST = 8 * 1024 * 1024
_TICK = 50_000_000
_SECOND = 1_000_000_000
_DIRECTORY = 0o040000
_KIND = 0o170000


def sign_path(path: str) -> Signature:
    """Describe what a path leads to; directories by what they are, not by what is in them."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    if found.st_mode & _KIND == _DIRECTORY:
        return (found.st_ino,)
    return (found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino)


def sign_entry(path: str) -> Signature:
    """Describe the entry itself that a path names. A directory's times change with the names in it."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return ()
    return (
        *(found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino),
        *(found.st_mode, found.st_dev),
    )


def is_settled(signature: Signature, moment: int) -> bool:
    """Tell whether a change at `moment` (ns since the epoch) or later would show in the times of `signature`."""
    if len(signature) < 2:
        return True
    newest = max(signature[:2])
    coarse = newest % _SECOND == 0
    return moment - newest > (2 * _SECOND if coarse else _TICK)


def render_path(path: str, signature: Signature) -> bytes:
    """A line about what `path` leads to; `signature` from `sign_path`. Raises ValueError for names with line ends."""
    return _render(b"f", path, signature)


def render_entry(path: str, signature: Signature) -> bytes:
    """A line about the entry `path` itself; `signature` from `sign_entry`. Raises ValueError."""
    return _render(b"e", path, signature)


def render_kept(path: str) -> bytes:
    """A line about another kept result as it is now. Raises ValueError if there is none."""
    signature = sign_path(path)
    if len(signature) < 2:
        raise ValueError(path)
    return _render(b"m", path, signature)


def render_name(index: str, name: str, image_id: str) -> bytes:
    """A line about a name (canonical) in the image index at the path `index`."""
    return b"i %s %s %s" % (image_id.encode(), name.encode(), _encode(index))


def render_moment(moment: float) -> bytes:
    """A line that holds for a day from `moment` (seconds since the epoch)."""
    return b"t %d" % moment


def read_kept(path: str) -> bytes | None:
    """The body of a kept result, None unless it is there, is this user's own, and everything in its head holds."""
    return _read(path, {})


def write_kept(path: str, lines: Iterable[bytes], body: bytes, *, most: int) -> bool:
    """Keep `body` for as long as `lines` hold, and at most `most` results in the folder. Whether that was possible."""
    content = b"\n".join((_FORMAT, b"%d" % len(body), *lines)) + b"\n\n" + body
    if len(content) > _MOST:
        return False
    folder = os.path.dirname(path)
    beside = f"{path}.{os.getpid()}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(content)
        os.rename(beside, path)
        _forget_oldest(folder, most)
    except OSError:
        # It is only there to save time.
        return False
    return True


def _read(path: str, indexes: dict[bytes, bytes]) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        about = os.fstat(descriptor)
        if about.st_uid != os.geteuid():
            return None
        content = os.read(descriptor, about.st_size + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    head, end, body = content.partition(b"\n\n")
    lines = head.split(b"\n")
    if not end or lines[0] != _FORMAT or lines[1] != b"%d" % len(body):
        return None
    try:
        return body if all(_holds(line, indexes) for line in lines[2:]) else None
    except ValueError:  # no line of ours
        return None


def _holds(line: bytes, indexes: dict[bytes, bytes]) -> bool:
    kind, _, rest = line.partition(b" ")
    if kind == b"t":
        from time import time

        return 0 <= time() - int(rest) < _DAY
    if kind == b"i":
        image_id, name, path = rest.split(b" ", 2)
        return _leads(indexes, path, name, image_id)
    signature, _, path = rest.partition(b" ")
    text = os.fsdecode(path)
    if kind == b"e":
        return _pack(sign_entry(text)) == signature
    if kind == b"f":
        return _pack(sign_path(text)) == signature
    return kind == b"m" and _pack(sign_path(text)) == signature and _read(text, indexes) is not None


def _leads(indexes: dict[bytes, bytes], path: bytes, name: bytes, image_id: bytes) -> bool:
    """Found in the text of the index, whose keys and values stand on a line each: reading JSON takes an import."""
    if path not in indexes:
        try:
            with open(path, "rb", buffering=0) as file:
                indexes[path] = file.readall()
        except OSError:
            return False
    text = indexes[path]
    return b'"%s": "%s"' % (name, image_id) in text and b'"%s": [' % name not in text


def _render(kind: bytes, path: str, signature: Signature) -> bytes:
    return b"%s %s %s" % (kind, _pack(signature), _encode(path))


def _encode(path: str) -> bytes:
    if "\n" in path:
        raise ValueError(path)
    return os.fsencode(path)


def _pack(signature: Signature) -> bytes:
    return b",".join([b"%d" % number for number in signature]) or b"-"


def _forget_oldest(folder: str, most: int) -> None:
    with os.scandir(folder) as entries:
        known = [(one.stat().st_mtime_ns, one.path) for one in entries]
    for _, path in sorted(known)[:-most]:
        os.unlink(path)
