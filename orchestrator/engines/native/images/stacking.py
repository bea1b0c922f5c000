"""How overlayfs sees layers that stand on each other: what is deleted, what is opaque, which layer has a name."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def in_user_namespace() -> bool:
    """Whether uid 0 here is not the machine's own root."""
    try:
        fields = Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return False
    return fields != ["0", "0", "4294967295"]


def overlay_xattr(name: str) -> str:
    """The xattr that overlayfs reads: trusted.* needs the real root, a user namespace mounts with ``userxattr``."""
    return f"{'user' if in_user_namespace() else 'trusted'}.overlay.{name}"


def find_in_layers(lower: Sequence[Path], name: str) -> Path | None:
    """Where overlayfs would find `name` in the layers (topmost first), without following symbolic links."""
    parts = name.split("/")
    for layer in lower:
        current = layer
        for position, part in enumerate(parts):
            current = current / part
            try:
                status = current.lstat()
            except FileNotFoundError:
                break
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                return None  # deleted here
            last = position == len(parts) - 1
            if last:
                return current
            if not stat.S_ISDIR(status.st_mode):
                return None
        else:
            continue
        if _hides_lower(layer, parts[: position + 1]):
            return None
    return None


def _hides_lower(layer: Path, parts: Sequence[str]) -> bool:
    for count in range(1, len(parts)):
        with suppress(OSError):
            if os.getxattr(layer.joinpath(*parts[:count]), overlay_xattr("opaque"), follow_symlinks=False) == b"y":
                return True
    return False
