"""Parts of a running RUN step: the pipes of its output, and mount points that go again."""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


class OutputPipe:
    """One pipe of the command, decoded as it comes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read, self.write = os.pipe2(os.O_CLOEXEC)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def take(self) -> tuple[str, bool]:
        """What has come, and whether it was the last."""
        data = os.read(self.read, 65536)
        return self._decode(data, not data), not data

    def close_write(self) -> None:
        os.close(self.write)

    def close_read(self) -> None:
        os.close(self.read)


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
