"""Reading stack files from disk: the only I/O of this package."""

from __future__ import annotations

import os
import stat
import sys
from typing import Protocol

from orchestrator.errors import FileMissing
from orchestrator.spec.paths import is_remote
from orchestrator.spec.yaml import MAX_BYTES

STACK_FILES = (
    "stack.yaml", "stack.yml", "compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml",
)  # fmt: skip
OVERRIDE_FILES = (
    "stack.override.yaml", "stack.override.yml", "compose.override.yaml", "compose.override.yml",
    "docker-compose.override.yaml", "docker-compose.override.yml",
)  # fmt: skip
STDIN = "-"
_MAX_COMPARED = 500


class Reader(Protocol):
    """The only door to files; tests give texts instead."""

    def read_text(self, path: str) -> str:
        """Return the text of `path` (``-`` is standard input). Raises OSError or UnicodeDecodeError."""

    def find_kind(self, path: str) -> str | None:
        """Return ``file``, ``directory`` or None for what does not exist."""

    def find_stack_file(self, directory: str) -> str | None:
        """Return the stack file of `directory`, if it holds one."""


def names_remote(reader: Reader, name: str, path: str) -> bool:
    """Tell whether `name` is to be fetched; `path` is the local file that it could be as well.

    A folder may be called ``github.com``.
    """
    return is_remote(name) and not (name.startswith("github.com/") and reader.find_kind(path) is not None)


def fetch_remote(reader: Reader, name: str) -> str:
    """The path of the local file that a remote stack file becomes, where `reader` has a way to fetch it.

    Raises FileMissing where it has none, or nothing is there.
    """
    fetch = getattr(reader, "fetch_remote", None)
    if fetch is None:
        from orchestrator.addresses import hide_password

        raise FileMissing(f"{hide_password(name)} is not a local file", hint="fetch it, and name the local path")
    path: str = fetch(name)
    return path


class DiskReader:
    """The file system and standard input, which is read once."""

    def __init__(self) -> None:
        self._stdin: str | None = None

    def read_text(self, path: str) -> str:
        """Return the text of `path` (``-`` is standard input). Raises OSError or UnicodeDecodeError."""
        if path == STDIN:
            if self._stdin is None:
                self._stdin = sys.stdin.buffer.read(MAX_BYTES + 1).decode("utf-8-sig")
            return self._stdin
        # One byte more than is allowed lets the parser see that a file is too large without reading all of it.
        with open(path, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return _read_stream(file.fileno()).decode("utf-8-sig")
            return file.read(MAX_BYTES + 1).decode("utf-8-sig")

    def find_kind(self, path: str) -> str | None:
        """Return ``file``, ``directory`` or None for what does not exist."""
        if path == STDIN:
            return "file"
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            return None
        return "directory" if stat.S_ISDIR(mode) else "file"

    def find_stack_file(self, directory: str) -> str | None:
        """Return the first of the names of a stack file that `directory` holds."""
        for name in STACK_FILES:
            path = os.path.join(directory, name)
            if self.find_kind(path) == "file":
                return path
        return None

    def find_similar(self, directory: str) -> str:
        """Return the name in `directory` that is most likely meant to be a stack file's, or an empty text."""
        from difflib import get_close_matches

        try:
            listed = sorted(os.listdir(directory))
        except OSError:
            return ""
        names = [one for one in listed if self.find_kind(os.path.join(directory, one)) == "file"]
        near = [match for name in STACK_FILES for match in get_close_matches(name, names[:_MAX_COMPARED], 1, 0.8)]
        return near[0] if near else ""


def _read_stream(descriptor: int) -> bytes:
    parts = []
    size = 0
    while size <= MAX_BYTES:
        part = os.read(descriptor, 1 << 16)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)
