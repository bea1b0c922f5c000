"""Results that are kept for the next time: what was made of files counts while those files are as they were.

A result belongs to a question (working directory, words, environment, this program's own code) and to every path that
was looked at on the way: files that were read, and files that were looked for in vain. It stands in the run directory,
for its owner alone, and is lost at reboot: it may hold values from the environment. A result that cannot be read or
written, or may be stale, is made anew.

Imports next to nothing: to answer from memory has to be quicker than to think.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Signature = tuple[int, ...]
"""Change time and modification time (ns), size, inode of a file; the inode of a directory; nothing if there is none."""

FORMAT = b"stack 1"
"""Changes when a result of an older version must not be read."""

_VOLATILE = frozenset(("_", "OLDPWD", "PWD", "SHLVL", "COLUMNS", "LINES"))
_CODE = ("spec", "actions", "cli/commands/config.py", "model.py", "record.py", "source.py", "errors.py")
_MOST = 8 * 1024 * 1024
_MANY = 64
_TICK = 50_000_000
_SECOND = 1_000_000_000
_DIRECTORY = 0o040000
_KIND = 0o170000


def describe_question(words: Iterable[object]) -> str:
    """Return a name for a question: the same words, working directory, environment and code give the same name."""
    from zlib import adler32, crc32

    environment = sorted(item for item in os.environ.items() if item[0] not in _VOLATILE)
    text = repr((os.getcwd(), [str(word) for word in words], environment, _describe_code())).encode("utf-8", "replace")
    # Sums, not the text: it may hold secrets. Several, since one of 32 bits is a little short.
    return f"{crc32(text):08x}{crc32(text[::-1]):08x}{adler32(text):08x}{len(text):x}"


def _describe_code() -> int:
    """A number that changes with the code that makes the results: it is edited while it is developed."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    newest = 0
    for name in _CODE:
        try:
            if name.endswith(".py"):
                newest = max(newest, os.stat(f"{package}/{name}").st_mtime_ns)
                continue
            with os.scandir(f"{package}/{name}") as entries:
                newest = max(newest, *(one.stat().st_mtime_ns for one in entries if one.name.endswith(".py")))
        except (OSError, TypeError):
            continue
    return newest


def sign_path(path: str) -> Signature:
    """Describe a path as it is now; directories by what they are, not by what is in them."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    if found.st_mode & _KIND == _DIRECTORY:
        return (found.st_ino,)
    return (found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino)


def watch_path(seen: dict[str, Signature | None], path: str) -> None:
    """Note in `seen` how `path` is before it is read; None where a change from now on might not show in its times."""
    if path not in seen:
        signature = sign_path(path)
        seen[path] = signature if _is_settled(path, signature) else None


def recall(kind: str, question: str) -> bytes | None:
    """Return the result of `kind` for `question` if it still holds, otherwise None."""
    try:
        descriptor = os.open(f"{_folder()}/{kind}-{question}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
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
    if not end or lines[0] != FORMAT or lines[1] != b"%d" % len(body):
        return None
    for line in lines[2:]:
        signature, _, path = line.partition(b" ")
        if b"%s" % _pack(sign_path(os.fsdecode(path))) != signature:
            return None
    return body


def remember(kind: str, question: str, paths: Mapping[str, Signature | None], body: bytes) -> None:
    """Keep `body` as the result for `question`; `paths` are all that was looked at, as ``watch_path`` noted them."""
    if len(body) > _MOST:
        return
    lines = [FORMAT, b"%d" % len(body)]
    for path, signature in paths.items():
        if signature is None:
            return
        lines.append(_pack(signature) + b" " + os.fsencode(path))
    folder = _folder()
    place = f"{folder}/{kind}-{question}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        beside = f"{place}.{os.getpid()}"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            file.write(b"\n".join(lines) + b"\n\n" + body)
        os.rename(beside, place)
        _forget_oldest(folder)
    except OSError:
        # It is only there to save time.
        return


def _is_settled(path: str, signature: Signature) -> bool:
    """Tell whether a change from now on would show in the file's times: they are as coarse as the clock's ticks."""
    if "\n" in path or path == "-":
        return False
    if len(signature) < 2:
        return True
    from time import time_ns

    newest = max(signature[:2])
    coarse = newest % _SECOND == 0
    return time_ns() - newest > (2 * _SECOND if coarse else _TICK)


def _pack(signature: Signature) -> bytes:
    return b",".join([b"%d" % number for number in signature]) or b"-"


def _folder() -> str:
    from orchestrator.engines.native.places import find_places

    return f"{find_places()[1]}/remembered"


def _forget_oldest(folder: str) -> None:
    with os.scandir(folder) as entries:
        known = [(one.stat().st_mtime_ns, one.path) for one in entries]
    for _, path in sorted(known)[:-_MANY]:
        os.unlink(path)
