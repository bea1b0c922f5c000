"""A folder for work under way, and the promise that what it names is not collected.

``work/<random>/`` belongs to whoever holds the flock on its ``lock`` file; the kernel lets go of that lock when the
owner dies, so whatever cannot be locked is alive and everything else is litter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.engines.native.images.content import hold_lock, remove_tree, try_lock, write_file


class Workspace:
    """Temporary files of one operation. `keep` protects layers and blobs from the collector."""

    def __init__(self, path: Path, store_lock: Path) -> None:
        self.path = path
        self._store_lock = store_lock
        self._kept: set[str] = set()

    def keep(self, identifiers: Iterable[str]) -> None:
        """Protect layer identifiers and blob digests for as long as this operation lasts. Call it before looking
        whether they are there.
        """
        self._kept.update(identifiers)
        with hold_lock(self._store_lock):
            write_file(self.path / "keep.json", json.dumps(sorted(self._kept)).encode(), durable=False)

    def make_directory(self, name: str) -> Path:
        """A fresh subdirectory."""
        made = self.path / f"{name}-{os.urandom(4).hex()}"
        made.mkdir(mode=0o700)
        return made


@contextmanager
def open_workspace(root: Path, store_lock: Path) -> Iterator[Workspace]:
    """Make a workspace below `root`, and remove it with everything in it at the end."""
    path = root / os.urandom(6).hex()
    with hold_lock(store_lock):  # nobody may see the folder before its lock is held
        path.mkdir(mode=0o700)
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try_lock(descriptor)
    try:
        yield Workspace(path, store_lock)
    finally:
        remove_tree(path)
        os.close(descriptor)


def read_kept(root: Path) -> set[str]:
    """What live workspaces protect. Call with the store lock held."""
    kept: set[str] = set()
    for path in _list_workspaces(root):
        if not _is_stale(path):
            try:
                kept.update(json.loads((path / "keep.json").read_bytes()))
            except (FileNotFoundError, ValueError):
                continue
    return kept


def list_stale(root: Path) -> list[Path]:
    """Workspaces whose owner is gone, or is just removing them. Call with the store lock held."""
    return [path for path in _list_workspaces(root) if _is_stale(path)]


def take_stale(root: Path, into: Path) -> None:
    """Move workspaces whose owner is gone into another one, to go with it. Call with the store lock held."""
    for path in list_stale(root):
        with suppress(FileNotFoundError):  # its owner was faster
            os.rename(path, into / f"stale-{path.name}")


def _list_workspaces(root: Path) -> list[Path]:
    try:
        return sorted(root.iterdir())
    except FileNotFoundError:
        return []


def _is_stale(path: Path) -> bool:
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        return try_lock(descriptor)
    finally:
        os.close(descriptor)
