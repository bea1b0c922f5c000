"""Log lines on the screen: ``web-1  | text``, a colour per container, several writers at a time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.engines.base import LogLine

_COLOURS = ("36", "33", "32", "35", "34", "36;1", "33;1", "32;1", "35;1", "34;1")


class LogView:
    """Writes log lines, each to its own stream, and remarks. Thread-safe. Raises BrokenPipeError if nobody reads."""

    def __init__(
        self, *, colour: bool, prefix: bool = True, timestamps: bool = False, stream: IO[str] | None = None
    ) -> None:
        self._given = stream
        self._colour = colour
        self._prefix = prefix
        self._timestamps = timestamps
        self._lock = threading.Lock()
        self._shades: dict[str, str] = {}
        self._width = 0

    def _stream_of(self, line: LogLine) -> IO[str]:
        return self._given or (sys.stderr if line.stream == "stderr" else sys.stdout)

    @property
    def _stream(self) -> IO[str]:
        # Looked up each time: a live display puts itself in between while it is shown.
        return self._given or sys.stdout

    def announce(self, names: Iterable[str]) -> None:
        """Say which names will appear, so that the prefixes are equally wide from the first line."""
        for name in names:
            if name not in self._shades:
                self._shades[name] = _COLOURS[len(self._shades) % len(_COLOURS)]
                self._width = max(self._width, len(name))

    def write_line(self, name: str, line: LogLine, *, flush: bool = False) -> None:
        """Write one line of output of the container called `name` here."""
        text = f"{self._render_time(line)} {line.text}" if self._timestamps else line.text
        with self._lock:
            stream = self._stream_of(line)
            stream.write(f"{self._render_prefix(name)}{text}\n")
            if flush:
                stream.flush()

    def _render_time(self, line: LogLine) -> str:
        """In UTC, as docker writes it, wherever the line was written."""
        from orchestrator.engines.native.runtime.logs import moment_of

        return f"{moment_of(line.time)}Z"

    def write_remark(self, text: str) -> None:
        """Write a line of our own between the containers' lines."""
        with self._lock:
            self._stream.write(text + "\n")
            self._stream.flush()

    def flush(self) -> None:
        """Bring what was written to the reader."""
        with self._lock:
            self._stream.flush()

    def _render_prefix(self, name: str) -> str:
        if not self._prefix:
            return ""
        self.announce([name])
        text = f"{name.ljust(self._width + 1)} | "
        return f"\x1b[{self._shades[name]}m{text}\x1b[0m" if self._colour else text
