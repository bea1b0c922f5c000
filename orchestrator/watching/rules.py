"""The rules of ``develop.watch``: which path concerns which service, and what is to be done about it. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from orchestrator.engines.base import FileSync
from orchestrator.engines.native.dockerfile.sources.dockerignore import IgnoreRules, parse_ignore_line
from orchestrator.model import Hook
from orchestrator.record import Record

Action = Literal["sync", "sync+restart", "sync+exec", "rebuild", "restart"]

NOTHING: Final = IgnoreRules()

_TEMPORARY = re.compile(
    r"""
    4913 | .*~ | \..*\.sw[a-pxyz]       # vim: a probe for the folder's rights, backups, swap files
    | \.\#.* | \#.*\#                   # emacs: locks, automatic saves
    | \..*\.kate-swp                    # kate
    | .*___jb_(?:old|tmp)___            # the editors of JetBrains: safe writes
    """,
    re.VERBOSE | re.DOTALL,
)
_PRIVATE: Final = frozenset({".git", ".idea"})
_DEFINITIONS = re.compile(r"(?:docker-)?compose(?:\.override)?\.ya?ml")


class WatchRule(Record):
    """One entry of ``develop.watch`` of one service. Paths are absolute and clean.

    `is_folder` says whether `path` is a directory now: then patterns are relative to it. `shared` are the rules of the
    build context's ``.dockerignore``, relative to `context`.
    """

    service: str
    index: int
    action: Action
    path: str
    target: str = ""
    include: IgnoreRules = NOTHING
    ignore: IgnoreRules = NOTHING
    shared: IgnoreRules = NOTHING
    context: str = ""
    initial_sync: bool = False
    is_folder: bool = True
    hook: Hook | None = None
    dockerfile: str = "Dockerfile"

    @property
    def syncs(self) -> bool:
        """Whether files are copied."""
        return self.action.startswith("sync")

    def matches(self, path: str) -> bool:
        """Whether a change at `path` (absolute, clean) is one for this rule."""
        inner = relate_path(path, self.path)
        if inner is None or is_temporary(inner or posixpath.basename(path)):
            return False
        if not inner:
            # Whoever names the file itself means it, whatever an ignore file says of files in general.
            return not self.is_folder or not self.include.patterns
        return (not self.include.patterns or self.include.matches(inner)) and not self._is_hidden(path, inner)

    def is_pruned(self, folder: str) -> bool:
        """Whether nothing below `folder` can match: it is of no use to watch it."""
        inner = relate_path(folder, self.path)
        if inner is None:
            return relate_path(self.path, folder) is None
        if not inner:
            return False
        if is_temporary(inner):
            return True
        shared = relate_path(folder, self.context) if self.context else None
        return self.ignore.prunes(inner) or bool(shared and self.shared.prunes(shared))

    def map_path(self, path: str) -> str:
        """Where `path` belongs in a container."""
        inner = relate_path(path, self.path)
        return posixpath.normpath(posixpath.join(self.target, inner)) if inner else self.target

    def is_definition(self, path: str) -> bool:
        """Whether `path` says how the service is made: such a file is no part of what is synced at the beginning."""
        name = posixpath.basename(path)
        return path != self.path and (name in ("Dockerfile", self.dockerfile) or bool(_DEFINITIONS.fullmatch(name)))

    def _is_hidden(self, path: str, inner: str) -> bool:
        if self.ignore.matches(inner):
            return True
        shared = relate_path(path, self.context) if self.context else None
        return bool(shared) and self.shared.matches(shared or "")


class Batch(Record):
    """What some changes ask for. `hooks` are the rules whose command is to be run, each once."""

    syncs: dict[str, tuple[FileSync, ...]]
    rebuild: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    hooks: tuple[WatchRule, ...] = ()


def sort_changes(rules: Sequence[WatchRule], paths: Iterable[str]) -> Batch:
    """What changes at `paths` ask for. A service that is built again need not be restarted or told as well."""
    syncs: dict[str, dict[str, FileSync]] = {}
    rebuild: dict[str, None] = {}
    restart: dict[str, None] = {}
    hooks: dict[tuple[str, int], WatchRule] = {}
    for path in sorted(set(paths)):
        for rule in rules:
            if not rule.matches(path):
                continue
            if rule.action == "rebuild":
                rebuild[rule.service] = None
            if rule.action.endswith("restart"):
                restart[rule.service] = None
            if rule.hook is not None:
                hooks[rule.service, rule.index] = rule
            if rule.syncs:
                target = rule.map_path(path)
                syncs.setdefault(rule.service, {})[target] = FileSync(source=path, target=target)
    return Batch(
        syncs={service: tuple(found.values()) for service, found in syncs.items()},
        rebuild=tuple(rebuild),
        restart=tuple(name for name in restart if name not in rebuild),
        hooks=tuple(rule for _key, rule in sorted(hooks.items()) if rule.service not in rebuild),
    )


def compile_patterns(patterns: Iterable[str], path: str) -> IgnoreRules:
    """``ignore`` or ``include`` as rules for paths relative to `path`. Raises ValueError with a malformed pattern.

    The words are those of ``.dockerignore``; an absolute pattern below `path` is one of this machine.
    """
    found = []
    for one in patterns:
        mark, text = ("!", one[1:]) if one.startswith("!") else ("", one)
        inner = relate_path(posixpath.normpath(text), path) if text.startswith("/") else None
        clean = parse_ignore_line(mark + (inner or text))
        if clean is not None:
            found.append(clean)
    return IgnoreRules(tuple(found))


def is_temporary(path: str) -> bool:
    """Whether an editor, an IDE or git keeps `path` for itself."""
    parts = path.split("/")
    return not _PRIVATE.isdisjoint(parts) or _TEMPORARY.fullmatch(parts[-1]) is not None


def relate_path(path: str, root: str) -> str | None:
    """`path` relative to `root`; empty for `root` itself, None for what is not below it."""
    if path == root:
        return ""
    prefix = root if root.endswith("/") else f"{root}/"
    return path[len(prefix) :] if path.startswith(prefix) else None


def is_bind_mounted(path: str, sources: Iterable[str]) -> bool:
    """Whether `path` is one of `sources` of bind mounts, or below one: the container sees changes by itself."""
    return any(relate_path(path, one) is not None for one in sources)
