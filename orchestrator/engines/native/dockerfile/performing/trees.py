"""Directories of a build that are not layers.

What ``RUN --mount=type=bind`` shows of a context of files: the directory itself where it may be seen as it is, else a
copy without what is ignored, whose files belong to root. Each is made once in a build. And what steps leave behind.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING

from orchestrator.engines.native.images.content import remove_tree

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.sources.site import SourceRoot
    from orchestrator.engines.native.images.workspace import Workspace


class ShownTrees:
    """The trees of one build, by context and path. Thread-safe; they go with the workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = Lock()
        self._locks: dict[tuple[str, str], Lock] = {}
        self._made: dict[tuple[str, str], Path] = {}

    def open(self, name: str, path: str, source: SourceRoot, copy: Callable[[Path], None]) -> Path:
        """A directory in which `path` is what a step may see of the context `name`; `copy` can write that."""
        key = (name, path)
        with self._lock:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            if key not in self._made:
                if shows_everything(source, path):
                    self._made[key] = source.path
                else:
                    folder = self._workspace.make_directory("tree")
                    os.chmod(folder, 0o755)
                    copy(folder)
                    self._made[key] = folder
            return self._made[key]


def shows_everything(source: SourceRoot, path: str) -> bool:
    """Whether the files at `path` can be shown as they are: nothing is hidden, and all of it belongs to whom it should.

    Raises OSError when there is no such path.
    """
    from orchestrator.engines.native.dockerfile.sources.views import View

    view = View(source.path, rules=source.ignore, own=source.own)
    top = view.resolve(path)
    status = view.lstat(top)
    if not _fits(source, status):
        return False
    pending = [top] if stat.S_ISDIR(status.st_mode) else []
    while pending:
        folder = pending.pop()
        with os.scandir(view.full(folder)) as found:
            for entry in found:
                inner = f"{folder}/{entry.name}" if folder else entry.name
                directory = entry.is_dir(follow_symlinks=False)
                if view.is_hidden(inner, directory) or not _fits(source, entry.stat(follow_symlinks=False)):
                    return False
                if directory:
                    pending.append(inner)
    return True


def _fits(source: SourceRoot, status: os.stat_result) -> bool:
    return source.own or (status.st_uid, status.st_gid) == (0, 0)


class Sweeper:
    """Removes folders behind the build's back: on a busy disk that takes as long as making a layer. Thread-safe."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Path | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._lock = Lock()

    def remove(self, folder: Path) -> None:
        """Have a folder removed."""
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._run, name="sweeper", daemon=True)
                self._thread.start()
        self._queue.put(folder)

    def close(self) -> None:
        """Wait until all is removed."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (folder := self._queue.get()) is not None:
            # What is left goes with the workspace.
            with suppress(OSError):
                remove_tree(folder)
