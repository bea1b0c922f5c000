"""Remembering which project a folder holds, so that ``ps`` and its like need not read YAML each time.

What is remembered is only a name and the names of services, and it counts only while everything that the loader looked
at is as it was: every file that it read, every file that it looked for in vain, the options, the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from orchestrator.actions.project import Project, ProjectOptions

Signature = list[int] | None
"""Modification time (ns), size and inode of a path; None for one that does not exist."""

_FORMAT = 1
_VOLATILE = frozenset({"_", "OLDPWD", "PWD", "SHLVL", "COLUMNS", "LINES"})


def recall_project(options: ProjectOptions) -> dict[str, Any] | None:
    """Return what is remembered (``name``, ``services``, ``disabled``) if it still holds, otherwise None."""
    try:
        with open(_place(options), "rb") as file:
            found = json.load(file)
        if found["format"] != _FORMAT or found["asked"] != _describe(options):
            return None
        if any(sign_path(path) != signature for path, signature in found["paths"].items()):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    remembered: dict[str, Any] = found
    return remembered


def remember_project(options: ProjectOptions, project: Project, paths: Mapping[str, Signature]) -> None:
    """Remember a project that was loaded without a warning; `paths` is everything that the loader looked at."""
    stack = project.stack
    if stack is None or project.warnings or "-" in paths:
        return
    data = {
        "format": _FORMAT,
        "asked": _describe(options),
        "paths": dict(paths),
        "name": project.name,
        "services": sorted(stack.services),
        "disabled": list(stack.disabled),
    }
    place = _place(options)
    beside = f"{place}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            json.dump(data, file)
        os.rename(beside, place)
    except OSError:
        # It is only there to save time.
        return


def sign_path(path: str) -> Signature:
    """Describe a path as it is now; directories by what they are, not by what is in them."""
    import stat

    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(found.st_mode):
        return [0, 0, found.st_ino]
    return [found.st_mtime_ns, found.st_size, found.st_ino]


def _describe(options: ProjectOptions) -> list[Any]:
    environment = sorted(item for item in os.environ.items() if item[0] not in _VOLATILE)
    text = repr(environment).encode()
    asked = [os.getcwd(), *(list(one) if isinstance(one, tuple) else one for one in options.__dict__.values())]
    # Two sums, since one of 32 bits is a little short; secrets in the environment must not be written down.
    return [asked, crc32(text), crc32(text[::-1])]


def _place(options: ProjectOptions) -> str:
    from orchestrator.engines.native.layout import Layout

    key = repr((os.getcwd(), *options.__dict__.values())).encode()
    return f"{Layout.from_environment().cache}/projects/{crc32(key):08x}.json"
