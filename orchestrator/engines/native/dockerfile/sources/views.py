"""Trees of files seen from inside: symbolic links are followed as a process with that root directory would.

Names are resolved here by looking at each component; what is then opened is opened with openat2's RESOLVE_IN_ROOT, so
that not even a tree that changes meanwhile leads anywhere else.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.engines.native import host
from orchestrator.engines.native.dockerfile.sources.hashing import hash_file, make_key, read_xattrs

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.sources.hashing import HashTable
    from orchestrator.engines.native.dockerfile.sources.matching import PathPatterns

_LINK_LIMIT = 255
_ENTRY = "%s %o %d %d %s\0"


class Rules(Protocol):
    """What hides files of a tree; paths are relative and clean."""

    def matches(self, path: str) -> bool:
        """Whether the path is hidden."""

    def may_spare_below(self, directory: str) -> bool:
        """Whether something below a hidden directory may be visible all the same."""


def resolve_in_root(
    root: str,
    path: str,
    *,
    missing_ok: bool = False,
    is_hidden: Callable[[str, bool], bool] | None = None,
) -> str:
    """The path below `root` that `path` leads to, relative and without any symbolic link; empty for the root.

    With `missing_ok` the components after the first that does not exist are taken as they are. Raises
    FileNotFoundError, NotADirectoryError, and OSError (ELOOP) for links that go in a circle.
    """
    pending = path.split("/")[::-1]
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if done:
                done.pop()
            continue
        candidate = "/".join((*done, part))
        try:
            mode = os.lstat(f"{root}/{candidate}").st_mode
            if is_hidden is not None and is_hidden(candidate, stat.S_ISDIR(mode)):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), candidate)
        except FileNotFoundError:
            if not missing_ok:
                raise
            mode = 0
        if stat.S_ISLNK(mode):
            links += 1
            if links > _LINK_LIMIT:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(f"{root}/{candidate}")
            if target.startswith("/"):
                done.clear()
            pending.extend(target.split("/")[::-1])
            continue
        if mode and not stat.S_ISDIR(mode) and any(one not in ("", ".") for one in pending):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), candidate)
        done.append(part)
    return "/".join(done)


class View:
    """A root directory and what of it can be seen."""

    def __init__(self, root: Path | str, *, rules: Rules | None = None, own: bool = True) -> None:
        """`own` False shows every file as belonging to 0:0."""
        self.root = os.fspath(root)
        self.own = own
        self._rules = rules
        self._spared: dict[str, bool] = {}

    def is_hidden(self, path: str, directory: bool) -> bool:
        """Whether the rules hide `path`. A hidden directory shows as long as something in it does."""
        rules = self._rules
        if rules is None or not path or not rules.matches(path):
            return False
        if not directory or not rules.may_spare_below(path):
            return True
        known = self._spared.get(path)
        if known is None:
            known = self._spared[path] = self._shows_something(path)
        return not known

    def _shows_something(self, path: str) -> bool:
        return next(iter(self.scan(path)), None) is not None

    def resolve(self, path: str) -> str:
        """See `resolve_in_root`."""
        return resolve_in_root(self.root, path, is_hidden=self.is_hidden if self._rules is not None else None)

    def full(self, path: str) -> str:
        """The path as this process names it."""
        return f"{self.root}/{path}" if path else self.root

    def lstat(self, path: str) -> os.stat_result:
        """What is at a resolved path."""
        return os.lstat(self.full(path))

    def open(self, path: str, flags: int) -> int:
        """Open a resolved path; a symbolic link that has come into it meanwhile stays inside the root."""
        top = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return host.open_in_root(top, path or ".", flags | os.O_NOFOLLOW)
        finally:
            os.close(top)

    def scan(self, path: str) -> list[os.DirEntry[str]]:
        """The visible entries of a directory, in the order of their bytes."""
        with os.scandir(self.full(path)) as found:
            entries = list(found)
        if not all(map(str.isascii, (entry.name for entry in entries))):
            entries.sort(key=lambda entry: os.fsencode(entry.name))
        else:
            entries.sort(key=lambda entry: entry.name)
        if self._rules is None:
            return entries
        prefix = f"{path}/" if path else ""
        return [one for one in entries if not self.is_hidden(prefix + one.name, one.is_dir(follow_symlinks=False))]

    def owner(self, status: os.stat_result) -> tuple[int, int]:
        """Whom a file belongs to."""
        return (status.st_uid, status.st_gid) if self.own else (0, 0)


class Chosen:
    """Which parts of a directory are meant: everything, or what `include` selects, without what `exclude` selects.

    Paths are relative to that directory.
    """

    def __init__(self, include: PathPatterns | None = None, exclude: PathPatterns | None = None) -> None:
        self.include = include
        self.exclude = exclude
        self.everything = include is None and exclude is None

    def judge(self, path: str, directory: bool) -> tuple[bool, bool]:
        """Whether `path` itself is meant, and whether it is worth looking into."""
        if self.everything:
            return True, directory
        taken = self.include is None or self.include.matches(path)
        below = directory and (taken or (self.include is not None and self.include.may_select_below(path)))
        if self.exclude is not None and self.exclude.matches(path):
            taken = False
            below = below and self.exclude.may_spare_below(path)
        return taken, below


def digest_tree(view: View, top: str, chosen: Chosen, table: HashTable, check: Callable[[], None]) -> list[str]:
    """Lines that say all that a copy of the directory `top` would bring: names, kinds, modes, owners and contents."""
    lines: list[str] = []
    _digest_directory(view, top, "", chosen, table, lines, check)
    return lines


def _digest_directory(
    view: View,
    path: str,
    shown: str,
    chosen: Chosen,
    table: HashTable,
    lines: list[str],
    check: Callable[[], None],
) -> bool:
    """Returns whether anything in the directory is chosen."""
    check()
    found = False
    for entry in view.scan(path):
        name = f"{shown}/{entry.name}" if shown else entry.name
        inner = f"{path}/{entry.name}" if path else entry.name
        directory = entry.is_dir(follow_symlinks=False)
        taken, below = (True, directory) if chosen.everything else chosen.judge(name, directory)
        if not taken and not below:
            continue
        place = len(lines)
        if below:
            some = _digest_directory(view, inner, name, chosen, table, lines, check)
            if not taken and not some:
                continue
        line = describe_entry(view, inner, entry.stat(follow_symlinks=False), table)
        if line:
            lines.insert(place, line + name)
            found = True
    return found


def describe_entry(view: View, path: str, status: os.stat_result, table: HashTable) -> str:
    """One entry without its name; empty for sockets, which no image can hold."""
    mode = status.st_mode
    uid, gid = view.owner(status)
    if stat.S_ISREG(mode):
        content = (table.find(make_key(status)) or _hash_entry(view, path, table)).hex()
    elif stat.S_ISLNK(mode):
        content = os.readlink(view.full(path))
    elif stat.S_ISDIR(mode):
        content = _describe_xattrs(view.full(path))
    elif stat.S_ISSOCK(mode):
        return ""
    else:
        content = f"{status.st_rdev:x}"
    return _ENTRY % (_KINDS.get(stat.S_IFMT(mode), "?"), mode & 0o7777, uid, gid, content)


_KINDS = {
    stat.S_IFREG: "f",
    stat.S_IFLNK: "l",
    stat.S_IFDIR: "d",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
}


def _describe_xattrs(path: str) -> str:
    found = read_xattrs(path)
    return ",".join(f"{name}={found[name].hex()}" for name in sorted(found))


def _hash_entry(view: View, path: str, table: HashTable) -> bytes:
    descriptor = view.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        before = os.fstat(descriptor)
        digest = hash_file(descriptor, xattrs=read_xattrs(descriptor))
        # A file that was written meanwhile has a digest of nothing in particular: it must not be believed next time.
        if make_key(os.fstat(descriptor)) == make_key(before):
            table.note(make_key(before), digest)
        return digest
    finally:
        os.close(descriptor)


def iterate_wildcard(view: View, base: str, rules: Sequence[re.Pattern[str]]) -> Iterator[str]:
    """Resolved paths below `base` whose components fit one rule each, in order; links are not entered."""
    for entry in view.scan(base):
        if not rules[0].match(entry.name):
            continue
        path = f"{base}/{entry.name}" if base else entry.name
        if len(rules) == 1:
            yield path
        elif entry.is_dir(follow_symlinks=False):
            yield from iterate_wildcard(view, path, rules[1:])
