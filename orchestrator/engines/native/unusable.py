"""A state or run directory that cannot be used: a file in its place, no right to write there, a full disk."""

from __future__ import annotations

import errno
import os
import stat

from orchestrator.engines.native.places import find_places
from orchestrator.errors import Unavailable

_NOT_OURS = frozenset(
    (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG)
)
_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


def require_folders() -> None:
    """Raise Unavailable where the state or the run directory neither is a folder nor can become one.

    Only looks: whether one may write there is found out by who does.
    """
    for path in find_places():
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise describe_refusal(error) from error
        if not is_folder:
            raise describe_refusal(NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path))


def explain_refusal(error: OSError) -> Unavailable | None:
    """What is said of an error that the surroundings are to blame for: at a path below one of the directories.

    None for every other error.
    """
    if error.errno not in _NOT_OURS | _FULL or not isinstance(error.filename, str):
        return None
    path = os.path.abspath(error.filename)
    for place in find_places():
        own = os.path.abspath(place)
        if path == own or path.startswith(f"{own}/"):
            return describe_refusal(error)
    return None


def describe_refusal(error: OSError) -> Unavailable:
    """Say that the path of `error` cannot be used, and why, whatever path that is."""
    path = os.path.abspath(error.filename)
    why = error.strerror or str(error)
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        other = _find_other(path)
        why = "it is not a folder" if other == path else f"{other} is not a folder"
    hint = "STACK_STATE_DIR and STACK_RUN_DIR must name folders that you may write in; they are made when not there"
    if error.errno in _FULL:
        hint = "free some space there, or set STACK_STATE_DIR to a folder on a larger disk"
    return Unavailable(f"cannot use {path}: {why}", resource=path, operation="write", hint=hint)


def _find_other(path: str) -> str:
    """The first part of `path` that is there and no folder; the path itself if that has changed meanwhile."""
    parts = path.split("/")
    for count in range(2, len(parts) + 1):
        part = "/".join(parts[:count])
        if os.path.lexists(part) and not os.path.isdir(part):
            return part
    return path
