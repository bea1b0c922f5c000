"""Mount points of a RUN step that go again when it has ended."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


class MountPoints:
    """Mount points that have to be made in the step's own view, because a deletion or a link hides the lowest layer.

    They go again if the command left them empty; the directories around them get their times back.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: list[tuple[str, int]] = []

    def note(self, mounts: Sequence[Mapping[str, Any]]) -> None:
        """Remember which targets are missing now."""
        from orchestrator.engines.native.dockerfile.sources.views import resolve_in_root

        for mount in mounts:
            target = mount["destination"]
            if target.startswith(("/dev/", "/proc/", "/sys/")):
                continue
            with suppress(OSError):
                path = resolve_in_root(str(self._root), target, missing_ok=True)
                while path and not os.path.lexists(f"{self._root}/{path}"):
                    parent = os.path.dirname(path)
                    above = f"{self._root}/{parent}"
                    time = os.lstat(above).st_mtime_ns if os.path.lexists(above) else -1
                    self._made.append((path, time))
                    path = parent

    def clear(self) -> None:
        """Remove what is empty, the deepest first."""
        for path, time in sorted(set(self._made), key=lambda one: -one[0].count("/")):
            full = f"{self._root}/{path}"
            try:
                if os.path.isdir(full) and not os.path.islink(full):
                    os.rmdir(full)
                elif os.path.lexists(full) and os.lstat(full).st_size == 0:
                    os.unlink(full)
            except OSError:
                continue
            if time >= 0:
                with suppress(OSError):
                    os.utime(os.path.dirname(full), ns=(time, time))
