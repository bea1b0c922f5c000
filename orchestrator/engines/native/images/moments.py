"""When names were last pulled and built: what rules about age ask for.

The index says it of a name. That an image is up to date is noted so often that there is a file for it besides, whose
modification time is the moment: that costs one system call, and the index stays as it is.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.engines.native.images.index import Index, IndexFile

_FOLDER = "moments"


def note_moment(root: Path, file: IndexFile, reference: str, kind: str, moment: float) -> None:
    """Remember when a name (canonical) was last ``pulled`` or ``built``. A name that is gone is let be."""
    if kind == "built" and "built" in file.load().moments.get(reference, ()):
        mark = find_mark(root, reference)
        if mark:
            os.utime(mark, (moment, moment))
            return
    with file.change() as index:
        if reference in index.tags or reference in index.digests:
            index.moments.setdefault(reference, {})[kind] = moment
            if kind == "built":
                _make_mark(root, reference, moment)


def read_moments(root: Path, index: Index, image_id: str) -> dict[str, dict[str, float]]:
    """The moments of all names; those that lead to `image_id` as they are now."""
    found = dict(index.moments)
    names = [*index.references(image_id), *(name for name, members in index.groups.items() if image_id in members)]
    for name in names:
        if "built" in found.get(name, ()):
            with suppress(OSError):
                marked = os.stat(_place(root, name)).st_mtime
                found[name] = {**found[name], "built": max(marked, found[name]["built"])}
    return found


def find_mark(root: Path, reference: str) -> str:
    """The file whose modification time is when a name (canonical) was last built; empty if there is none."""
    path = _place(root, reference)
    return path if os.path.exists(path) else ""


def sweep_marks(root: Path, index: Index) -> None:
    """Remove the files of names that are gone."""
    used = {os.path.basename(_place(root, one)) for one in index.tags}
    with suppress(FileNotFoundError):
        for name in set(os.listdir(f"{root}/{_FOLDER}")) - used:
            os.unlink(f"{root}/{_FOLDER}/{name}")


def _make_mark(root: Path, reference: str, moment: float) -> None:
    path = _place(root, reference)
    with suppress(OSError):  # a name can be too long for a file
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.utime(path, (moment, moment))


def _place(root: Path, reference: str) -> str:
    return f"{root}/{_FOLDER}/{reference.replace('/', '%')}"
