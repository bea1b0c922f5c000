"""The rare layer that depends on the layers below it: its tar implies directories without describing them, or links to
files that it does not contain. Containers must then see what an unpacking on top of the lower layers would give.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.engines.native.images.failures import InvalidImage
from orchestrator.engines.native.images.stacking import find_in_layers

_OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What to take from below: attributes of directories, and files to link to."""

    directories: tuple[tuple[str, Path], ...]
    links: tuple[tuple[str, Path], ...]

    def __bool__(self) -> bool:
        return bool(self.directories or self.links)


def plan_inheritance(layer: Path, record: Mapping[str, Any], lower: Sequence[Path]) -> Inheritance:
    """Compare a layer with the layers below it (`lower`, topmost first). Raises InvalidImage for a dangling link."""
    directories = []
    for name in record.get("implicit", ()):
        below = find_in_layers(lower, name)
        if below is not None and _is_special(below):
            directories.append((name, below))
    links = []
    for name, target in record.get("links", ()):
        found = find_in_layers(lower, target)
        if found is None or stat.S_ISDIR(found.lstat().st_mode):
            raise InvalidImage(
                f"the layer has a hard link {name!r} to {target!r}, which does not exist", operation="unpack"
            )
        links.append((name, found))
    return Inheritance(tuple(directories), tuple(links))


def _is_special(path: Path) -> bool:
    """Whether a directory differs from what tar makes of an implied one: root's, 0755, no xattrs."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return False
    plain = stat.S_IMODE(status.st_mode) == 0o755 and status.st_uid == 0 and status.st_gid == 0
    return not plain or bool(_list_xattrs(path))


def _list_xattrs(path: Path) -> list[str]:
    with suppress(OSError):
        return [one for one in os.listxattr(path, follow_symlinks=False) if not one.startswith(_OVERLAY_XATTRS)]
    return []


def derive_directory(source: Path, target: Path, inherited: Inheritance) -> None:
    """Make `target` a copy of the layer `source` (files are hard links) with what it inherits."""
    _link_tree(source, target)
    for name, below in inherited.links:
        path = target / name
        missing = [one for one in (path.parent, *path.parent.parents) if not one.exists()]
        for parent in reversed(missing):
            parent.mkdir(mode=0o755)
            os.chmod(parent, 0o755)
        _link_or_copy(below, path)
    for name, below in inherited.directories:
        _copy_attributes(below, target / name)


def _link_tree(source: Path, target: Path) -> None:
    target.mkdir()
    with os.scandir(source) as found:
        for entry in found:
            there = target / entry.name
            if entry.is_dir(follow_symlinks=False):
                _link_tree(Path(entry.path), there)
            else:
                os.link(entry.path, there, follow_symlinks=False)
    _copy_attributes(source, target, overlay=True)


def _link_or_copy(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        target.unlink()
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
        status = source.lstat()
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)


def _copy_attributes(source: Path, target: Path, *, overlay: bool = False) -> None:
    status = source.lstat()
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    names = os.listxattr(source, follow_symlinks=False) if overlay else _list_xattrs(source)
    for name in names:
        os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
