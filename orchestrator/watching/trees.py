"""Trees of files that are watched: what has changed in them, whatever was made, moved or removed. Linux: inotify(7)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from orchestrator.engines.native import host
from orchestrator.errors import Unavailable
from orchestrator.watching.rules import relate_path

_SURE: Final = host.IN_MODIFY | host.IN_CLOSE_WRITE | host.IN_CREATE | host.IN_MOVED_TO
_GONE: Final = host.IN_DELETE_SELF | host.IN_MOVE_SELF | host.IN_IGNORED
_MASK: Final = (
    _SURE
    | host.IN_ATTRIB
    | host.IN_DELETE
    | host.IN_MOVED_FROM
    | host.IN_DELETE_SELF
    | host.IN_MOVE_SELF
    | host.IN_ONLYDIR
)

_Mark = tuple[int, int, int, int]
"""Inode, mode, size, time of change: what tells whether a file is the one it was. A directory has the first two."""


class TreeWatcher:
    """Watches `roots` (absolute, clean; files or directories, there or not) with everything below them.

    Directories that `prune` refuses are not entered. Poll :meth:`fileno`, then call :meth:`read`; :meth:`take` gives
    the paths that have changed since. A directory that is new counts with all that it holds, and so does one that is
    gone; a root that is a directory does not count itself. Raises Unavailable where the kernel allows no further watch.
    """

    def __init__(self, roots: Iterable[str], prune: Callable[[str], bool]) -> None:
        self._roots = tuple(dict.fromkeys(roots))
        self._prune = prune
        self._known: dict[str, _Mark] = {}
        self._folders: dict[int, set[str]] = {}
        self._watches: dict[str, int] = {}
        self._changed: dict[str, None] = {}
        self._open: set[str] = set()
        self._inotify = _open_inotify()
        try:
            for root in self._roots:
                self._begin(root)
        except BaseException:
            self.close()
            raise
        self._changed.clear()

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._inotify.fileno()

    @property
    def changed(self) -> bool:
        """Whether :meth:`take` has anything to give."""
        return bool(self._changed)

    @property
    def being_written(self) -> bool:
        """Whether somebody has written to a changed file and not closed it yet."""
        return bool(self._open)

    def read(self) -> None:
        """Take in what the kernel has told so far."""
        while events := list(self._inotify.read()):
            for event in events:
                if event.mask & host.IN_Q_OVERFLOW:
                    self._rescan()
                    continue
                for folder in tuple(self._folders.get(event.watch, ())):
                    self._take_in(folder, event)
                if event.mask & host.IN_IGNORED:
                    for folder in self._folders.pop(event.watch, ()):
                        if self._watches.get(folder) == event.watch:
                            del self._watches[folder]

    def take(self) -> tuple[str, ...]:
        """The paths that have changed since the last time."""
        taken = tuple(self._changed)
        self._changed.clear()
        self._open.clear()
        return taken

    def list_below(self, root: str) -> Iterator[str]:
        """Everything known at or below `root`, in order; directories that are pruned left out."""
        return (path for path in sorted(self._known) if relate_path(path, root) is not None)

    def close(self) -> None:
        """End every watch."""
        self._inotify.close()

    def _take_in(self, folder: str, event: host.FileEvent) -> None:
        if not event.name:
            if event.mask & _GONE and any(relate_path(root, folder) for root in self._roots):
                self._rescan()
            return
        path = os.path.join(folder, event.name)
        if any(relate_path(path, root) is not None for root in self._roots):
            if event.mask & host.IN_MODIFY:
                self._open.add(path)
            else:
                self._open.discard(path)
            if event.mask & (host.IN_DELETE | host.IN_MOVED_FROM):
                # What is there now may have the number of what was there before.
                self._forget(path)
            self._look(path, sure=bool(event.mask & _SURE))
        for root in self._roots:
            if relate_path(root, path):
                self._begin(root)

    def _begin(self, root: str) -> None:
        """Watch for `root` where it is, or will be, and look at it."""
        above = os.path.dirname(root)
        while above != "/" and not os.path.isdir(above):
            above = os.path.dirname(above)
        self._watch(above)
        self._look(root)

    def _look(self, path: str, *, sure: bool = False) -> None:
        """Compare what is at `path` with what is known of it; `sure` says that a file has changed, however it looks."""
        is_root = path in self._roots
        try:
            status = os.stat(path, follow_symlinks=is_root)
        except OSError:
            self._forget(path)
            return
        kind = stat.S_IFMT(status.st_mode)
        known = self._known.get(path)
        if kind == stat.S_IFDIR:
            if known is not None and known[0] == status.st_ino and path in self._watches:
                return
            if known is not None:
                self._forget(path)
            if self._prune(path):
                return
            self._known[path] = (status.st_ino, kind, 0, 0)
            if not is_root:
                self._changed[path] = None
            # Watched first, read then: what is made in between is seen one way or the other.
            if self._watch(path):
                self._look_below(path)
            return
        if kind not in (stat.S_IFREG, stat.S_IFLNK):
            return
        if known is not None and known[1] == stat.S_IFDIR:
            self._forget(path)
        mark = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns)
        if sure or known != mark:
            self._changed[path] = None
        self._known[path] = mark

    def _look_below(self, folder: str) -> None:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            return
        for name in names:
            self._look(os.path.join(folder, name))

    def _forget(self, path: str) -> None:
        """Count everything known at or below `path` as changed, and know it no more."""
        known = self._known.get(path)
        if known is None:
            return
        inner = [path]
        if known[1] == stat.S_IFDIR:
            inner += [one for one in self._known if relate_path(one, path)]
        for one in inner:
            mark = self._known.pop(one)
            if one not in self._roots or mark[1] != stat.S_IFDIR:
                self._changed[one] = None
            if mark[1] == stat.S_IFDIR:
                self._unwatch(one)

    def _rescan(self) -> None:
        """Compare everything with what is known: events were lost, or a directory above a root has moved."""
        for root in self._roots:
            self._begin(root)
        for path, mark in sorted(self._known.items()):
            if path in self._known:
                self._look(path)
                if mark[1] == stat.S_IFDIR and path in self._watches:
                    self._look_below(path)

    def _watch(self, folder: str) -> bool:
        try:
            watch = self._inotify.add(folder, _MASK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                return False
            if error.errno == errno.ENOSPC:
                raise Unavailable(
                    "the kernel allows this user no further watches on directories",
                    resource=folder,
                    operation="watch",
                    hint="raise fs.inotify.max_user_watches with sysctl, or ignore large directories in develop.watch",
                ) from error
            raise Unavailable(f"{folder} cannot be watched: {error.strerror}", resource=folder) from error
        self._folders.setdefault(watch, set()).add(folder)
        self._watches[folder] = watch
        return True

    def _unwatch(self, folder: str) -> None:
        watch = self._watches.pop(folder, None)
        if watch is None:
            return
        paths = self._folders.get(watch, set())
        paths.discard(folder)
        above = any(os.path.dirname(root) == folder for root in self._roots)
        if not paths and not above:
            self._inotify.remove(watch)
            self._folders.pop(watch, None)


def _open_inotify() -> host.Inotify:
    try:
        return host.Inotify()
    except OSError as error:
        raise Unavailable(
            f"files cannot be watched: {error.strerror}",
            operation="watch",
            hint="raise fs.inotify.max_user_instances with sysctl" if error.errno == errno.EMFILE else "",
        ) from error
