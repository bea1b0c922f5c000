"""Trees of files for tests: made from a short text, and read back with everything that a copy must keep."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import stat
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.engines.native.dockerfile.front.steps import CopyStep, InlineFile
from orchestrator.engines.native.dockerfile.performing.copying import CopyPlan, perform_copy, plan_copy
from orchestrator.engines.native.dockerfile.sources.dockerignore import load_ignore
from orchestrator.engines.native.dockerfile.sources.site import BuildSite, SourceRoot
from orchestrator.source import Location

OLD = 1_000_000_000
"""When every file of a test's source was last modified (seconds)."""

_SWITCHES = ("link", "parents", "unpack", "keep-git-dir")
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFSOCK: "socket",
}


def make_tree(root: Path, text: str) -> Path:
    """One entry a line: ``PATH [MODE [UID:GID]] [= CONTENT | -> TARGET]``; a folder has a slash at its end."""
    root.mkdir(parents=True, exist_ok=True)
    folders: list[Path] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        head, arrow, target = line.partition(" -> ")
        head, equals, content = (head, "", "") if arrow else line.partition(" = ")
        words = head.split()
        path = root / words[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            path.symlink_to(target)
        elif words[0].endswith("/"):
            path.mkdir(exist_ok=True)
            folders.append(path)
        else:
            path.write_text(content if equals else words[0])
        if len(words) > 2:
            uid, gid = words[2].split(":")
            os.chown(path, int(uid), int(gid), follow_symlinks=False)
        if len(words) > 1:
            path.chmod(int(words[1], 8))
    for folder, names, files in os.walk(root, topdown=False):
        for name in (*names, *files):
            os.utime(os.path.join(folder, name), (OLD, OLD), follow_symlinks=False)
    return root


def read_tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Every path with its kind, mode, owner and content (of a link its target)."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder, name)
            status = path.lstat()
            kind = _KINDS[stat.S_IFMT(status.st_mode)]
            content = ""
            if kind == "file":
                content = path.read_bytes().decode("latin-1")
            elif kind == "link":
                content = os.readlink(path)
            shown = str(path.relative_to(root))
            found[shown] = (kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, content)
    return found


def parse_step(text: str, inline: Mapping[str, str] | None = None) -> CopyStep:
    """A COPY or ADD line with final values, as the front end hands them on."""
    words = shlex.split(text)
    instruction = words.pop(0)
    flags: dict[str, Any] = {}
    exclude: list[str] = []
    while words[0].startswith("--"):
        name, _, value = words.pop(0)[2:].partition("=")
        if name == "exclude":
            exclude.append(value)
        elif name != "from":
            flags[name.replace("-", "_")] = value != "false" if name in _SWITCHES else value
    destination = words.pop()
    assert instruction in ("COPY", "ADD")
    return CopyStep(
        location=Location("Dockerfile", 3, 1),
        text=text,
        instruction=instruction,  # type: ignore[arg-type]
        sources=tuple(words),
        destination=destination if destination == "/" else destination.rstrip("/"),
        directory=destination.endswith("/"),
        exclude=tuple(exclude),
        inline=tuple(InlineFile(name=name, content=content) for name, content in (inline or {}).items()),
        **flags,
    )


class Stage:
    """A stage's file system and what its steps copy from."""

    def __init__(self, folder: Path, *, ignore: str = "", own: bool = False) -> None:
        self.context = folder / "context"
        self.root = folder / "root"
        self.work = folder / "work"
        for path in (self.context, self.root, self.work):
            path.mkdir(exist_ok=True)
        self.root.chmod(0o755)
        self.site = BuildSite(self.work, folder / "cache")
        self.ignore = load_ignore(ignore) if ignore else None
        self.own = own

    @property
    def source(self) -> SourceRoot:
        return SourceRoot(self.context, own=self.own, ignore=self.ignore, ignore_name=".dockerignore")

    def plan(self, text: str, inline: Mapping[str, str] | None = None) -> CopyPlan:
        return plan_copy(parse_step(text, inline), self.source, self.site)

    def copy(self, *texts: str, inline: Mapping[str, str] | None = None, **options: Any) -> dict[str, tuple[Any, ...]]:
        """Perform steps; returns the whole stage as `read_tree` does."""
        for text in texts:
            perform_copy(self.plan(text, inline), self.root, **options)
        return read_tree(self.root)


def make_tar(path: Path, members: Iterable[tuple[str, str, str, int, int]], mode: str = "w") -> Path:
    """A tar of (name, kind, content or target, mode, owner)."""
    kinds = {"dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, kind, content, bits, owner in members:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.uid, entry.gid, entry.mtime = bits, owner, owner, OLD
            if kind == "file":
                data = content.encode()
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
            else:
                entry.type, entry.linkname = kinds[kind], content
                archive.addfile(entry)
    return path


def digest_of(data: bytes) -> str:
    """SHA-256 as an OCI digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
