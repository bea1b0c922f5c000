"""What the files of secrets and configs hold, so that a changed file is seen as a changed service."""

from __future__ import annotations

from orchestrator.model import Stack


def read_file_digests(stack: Stack) -> dict[str, str]:
    """Return a digest for each file that a secret or config of `stack` names and that can be read, by its path."""
    paths = [one.file for one in (*stack.secrets.values(), *stack.configs.values()) if one.file]
    if not paths:
        return {}
    import hashlib

    digests = {}
    for path in paths:
        try:
            with open(path, "rb") as file:
                digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            # The engine tells about it where it matters: at the container that needs the file.
            continue
    return digests
