"""The mounts of this process, as the kernel tells them."""

from __future__ import annotations

import os
from typing import NamedTuple


class MountPoint(NamedTuple):
    """One line of mountinfo."""

    id: int
    target: str
    kind: str
    source: str
    options: str


def list_mounts(prefix: str = "/") -> list[MountPoint]:
    """Mounts at or below `prefix` in this namespace, in the order of mounting (unmount them in reverse)."""
    with open("/proc/thread-self/mountinfo", "rb") as file:
        text = file.read()
    wanted = os.fsencode(prefix.rstrip("/"))
    found = []
    for line in text.splitlines():
        fields = line.split(b" ")
        target = fields[4]
        if b"\\" in target:
            target = _unescape_mountinfo(target)
        if target != wanted and not target.startswith(wanted + b"/"):
            continue
        dash = fields.index(b"-", 6)
        kind, source, options = fields[dash + 1 : dash + 4]
        found.append(
            MountPoint(int(fields[0]), os.fsdecode(target), kind.decode(), os.fsdecode(source), os.fsdecode(options))
        )
    return found


def _unescape_mountinfo(raw: bytes) -> bytes:
    for code, real in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        raw = raw.replace(code, real)
    return raw
