"""Being attached to one container that runs: its output, its input, its signals."""

from __future__ import annotations

from orchestrator.actions.containers import find_replica
from orchestrator.actions.project import Project
from orchestrator.engines.base import AttachRequest, Engine
from orchestrator.errors import UsageError


def attach_service(
    engine: Engine, project: Project, service: str, request: AttachRequest, *, index: int | None = None
) -> int | None:
    """Be attached to a replica of `service` until it has ended (its exit code) or was left with the detach keys.

    Raises NoSuchService, NotFound (nothing runs).
    """
    return engine.attach_container(find_replica(engine, project, service, index), request)


def parse_detach_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` as the bytes that a terminal sends. Raises UsageError."""
    keys = bytearray()
    for word in text.split(","):
        name = word.lower()
        if len(word) == 1 and word.isascii():
            keys += word.encode()
        elif name.startswith("ctrl-") and len(name) == 6 and (name[5].isalpha() or name[5] in "@[\\]^_"):
            keys.append(ord(name[5].upper()) & 0x1F)
        else:
            raise UsageError(
                f"--detach-keys: {word!r} is not a key", hint="write single letters and ctrl-LETTER: ctrl-p,ctrl-q"
            )
    return bytes(keys)
