"""What was fetched, a folder for each artifact or commit: when it was used last, and which of it goes.

Beside the files stand ``.made`` and ``.used``, whose times say when that was. Whoever fetches holds a shared lock until
the use is noted; what is removed is chosen under an exclusive one, and nobody waits for it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout

KEPT: Final = 30 * 86400.0
"""Seconds without use after which it may go."""

_BROKEN_OFF: Final = 86400.0
"""Seconds after which nobody is at work any more in a folder that was to become one."""

_LOCK, _MADE, _USED, _ORIGINS = ".lock", ".made", ".used", ".origins"
_FRESH, _GONE = ".fresh-", ".gone-"


@contextmanager
def hold_checkouts(folder: str) -> Iterator[None]:
    """Keep everything below `folder`, which is made if it is not there, while something is looked for or fetched."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    lock = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


def note_use(place: str) -> bool:
    """Note that the checkout `place` is used now; True if it is new. Under :func:`hold_checkouts`."""
    is_new = not os.path.exists(os.path.join(place, _MADE))
    for name in (_MADE, _USED) if is_new else (_USED,):
        path = os.path.join(place, name)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.utime(path)
    return is_new


def prune_checkouts(layout: Layout, folder: str, newest: str) -> list[str]:
    """Remove what nobody has used for `KEPT` seconds before `newest`, no project stands on, and nobody has written to.

    Returns the names. Does nothing while somebody fetches.
    """
    lock = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The disk's clock, which all times here come from.
        now = os.stat(os.path.join(newest, _USED)).st_mtime
        gone = [name for name in sorted(os.listdir(folder)) if _is_unused(os.path.join(folder, name), now)]
        gone = _leave_wanted(layout, gone)
        for name in gone:
            if not name.startswith(_GONE):
                os.rename(os.path.join(folder, name), os.path.join(folder, f"{_GONE}{name}"))
    except OSError:
        return []
    finally:
        os.close(lock)
    import shutil

    for name in gone:
        shutil.rmtree(os.path.join(folder, name if name.startswith(_GONE) else f"{_GONE}{name}"), ignore_errors=True)
    return gone


def _is_unused(place: str, now: float) -> bool:
    name = os.path.basename(place)
    if name.startswith(_GONE):
        return True
    try:
        if name.startswith(_FRESH):
            return os.stat(place).st_mtime < now - _BROKEN_OFF
        used = _find_time(place, _USED, _ORIGINS)
        return used < now - KEPT and not _was_written(place, _find_time(place, _MADE, _ORIGINS))
    except OSError:
        return False


def _find_time(place: str, *names: str) -> float:
    for name in names:
        with suppress(FileNotFoundError):
            return os.stat(os.path.join(place, name)).st_mtime
    raise FileNotFoundError(place)


def _was_written(place: str, made: float) -> bool:
    """Whether something in it has changed since: data of containers, say, which is not ours to remove."""
    for folder, folders, files in os.walk(place):
        if ".git" in folders:
            folders.remove(".git")
        names = [*folders, *(one for one in files if folder != place or one not in (_MADE, _USED, _ORIGINS))]
        if any(os.lstat(os.path.join(folder, one)).st_ctime > made for one in names):
            return True
    return False


def _leave_wanted(layout: Layout, names: list[str]) -> list[str]:
    """Those of `names` that no project's goal and no container names."""
    if not names:
        return []
    goals = []
    projects = str(layout.state / "projects")
    for project in os.listdir(projects) if os.path.isdir(projects) else ():
        with suppress(FileNotFoundError, NotADirectoryError), open(f"{projects}/{project}/goal.json", "rb") as file:
            goals.append(file.read().decode())
    from orchestrator.engines.native.store import Store

    store = Store(layout.database)
    try:
        specs = [row["spec"] for row in store.rows("SELECT spec FROM containers")]
    except EngineError:
        # Nobody knows what is in use.
        return []
    finally:
        store.close()
    return [one for one in names if not any(one in text for text in (*goals, *specs))]
