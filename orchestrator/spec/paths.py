"""Relative paths become absolute, against the directory of the project, the extended file or the included stack."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.source import Path
from orchestrator.spec.attributes import PRE_START, ROWS
from orchestrator.spec.mounts import clean_path
from orchestrator.spec.positions import Map, Seq

_REMOTE_PREFIXES = ("service:", "git@", "github.com/", "gitlab.com/", "bitbucket.org/", "ssh:", "git:")

_REMOTE = r"[a-zA-Z][a-zA-Z0-9+.-]*://|[a-zA-Z0-9_.-]+@(?:[a-zA-Z0-9_.-]+|\[[0-9a-fA-F:]+\]):(?!//)."
"""An address, or ``user@host:path`` as scp(1) and git(1) have it."""


def _split_rows() -> list[tuple[list[str], str]]:
    found = [(row.path.replace("[]", ".[]").split("."), row.resolve) for row in ROWS if row.resolve]
    hooks = ["pre_start", "[]"]
    for parts, kind in tuple(found):
        if parts[0] == "services" and parts[2] in PRE_START.fields:
            found.append(([*parts[:2], *hooks, *parts[2:]], kind))
    return found


_RESOLVED = _split_rows()


def resolve_paths(tree: Map, directory: str, home: str) -> None:
    """Make every path of a canonical tree absolute, in place. `home` is what ``~`` stands for."""
    for parts, kind in _RESOLVED:
        _visit(tree, parts, 0, kind, directory, home)


def _visit(value: Any, parts: list[str], depth: int, kind: str, directory: str, home: str) -> None:
    part = parts[depth]
    last = depth + 1 == len(parts)
    if part == "*":
        if type(value) is Map:
            for item in value.values():
                if item is not None:
                    _visit(item, parts, depth + 1, kind, directory, home)
        return
    if part == "[]":
        if type(value) is Seq:
            for item in value:
                _visit(item, parts, depth + 1, kind, directory, home)
        return
    if type(value) is not Map or part not in value:
        return
    if not last:
        _visit(value[part], parts, depth + 1, kind, directory, home)
    elif kind != "volume" or value.get("type") == "bind":
        value[part] = _resolve(value[part], kind, directory, home)


def _resolve(value: Any, kind: str, directory: str, home: str) -> Any:
    if type(value) is Map:
        for key, item in value.items():
            value[key] = _resolve(item, kind, directory, home)
        return value
    if type(value) is Seq:
        for index, item in enumerate(value):
            value[index] = _resolve(item, kind, directory, home)
        return value
    # An empty path is the directory itself, as in the reference, where it is not said to be no path at all.
    if not isinstance(value, str) or (not value and kind in ("context", "key", "optional")):
        return value
    if kind == "key":
        name, equals, path = value.partition("=")
        return f"{name}={absolute_path(path, directory, home)}" if equals and path else value
    if kind == "context" and is_remote_context(value):
        return value
    return absolute_path(value, directory, home)


def list_paths(tree: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield every absolute path of this machine in a canonical tree that was resolved, with its attribute."""
    for parts, kind in _RESOLVED:
        for path, value in _find(tree, parts, ()):
            text = value.partition("=")[2] if kind == "key" else value
            if text.startswith("/"):
                yield path, text


def _find(value: Any, parts: Sequence[str], path: Path) -> Iterator[tuple[Path, str]]:
    if not parts:
        entries = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        if isinstance(value, str):
            yield path, value
        for key, one in entries:
            yield from _find(one, (), (*path, key))
    elif parts[0] == "*" and isinstance(value, Mapping):
        for key, one in value.items():
            yield from _find(one, parts[1:], (*path, key))
    elif parts[0] == "[]" and isinstance(value, list):
        for index, one in enumerate(value):
            yield from _find(one, parts[1:], (*path, index))
    elif isinstance(value, Mapping) and parts[0] in value:
        # The source of a volume is its name, and no path.
        yield from _find(value[parts[0]], parts[1:], (*path, parts[0]))


def is_remote_context(text: str) -> bool:
    """Tell a build context that is a URL, a service or a repository from a local directory."""
    return "://" in text or text.startswith(_REMOTE_PREFIXES)


def absolute_path(path: str, directory: str, home: str = "") -> str:
    """Join `path` to `directory` and clean the result; expand ``~``; leave absolute (and Windows) paths as they are."""
    if path.startswith("~") and home:
        return clean_path(posixpath.join(home, path[1:].lstrip("/")))
    if path.startswith("/") or path[1:3] in (":\\", ":/") or _is_share(path):
        return path
    return clean_path(posixpath.join(directory, path))


def _is_share(path: str) -> bool:
    """Tell a path on a Windows share, ``\\\\server\\share\\path``."""
    return path.startswith("\\\\") and path.count("\\") > 3


def is_remote(path: str) -> bool:
    """Tell whether what ``-f``, ``include`` or ``extends`` names is a Git or OCI reference or a URL, not a path."""
    if path.startswith(("oci:", "github.com/")):
        return True
    # Most paths have neither, and an expression takes a while to be made.
    return ("://" in path or "@" in path) and re.match(_REMOTE, path) is not None
