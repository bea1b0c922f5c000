"""The program that ``init: true`` puts in front of a container's command."""

from __future__ import annotations

import os
from typing import Final

from orchestrator.engines.native.spawn import find_program
from orchestrator.errors import Unavailable

_INIT_PROGRAMS: Final = ("catatonit", "tini-static", "tini", "docker-init")
_INIT_FOLDERS: Final = ("/usr/libexec/podman", "/usr/libexec/docker", "/usr/lib/podman")


def find_init() -> str | None:
    """The program that ``init: true`` puts in front of a container's command, None where none is installed."""
    for name in _INIT_PROGRAMS:
        found = find_program(name) or next(
            (f"{folder}/{name}" for folder in _INIT_FOLDERS if os.access(f"{folder}/{name}", os.X_OK)), None
        )
        if found is not None:
            return found
    return None


def require_init(service: str) -> str:
    """The init program of this host, for the service of that name. Unavailable: none is installed."""
    found = find_init()
    if found is None:
        raise Unavailable(
            f"services.{service}.init: no init program is installed",
            resource=service,
            operation="start container",
            hint="apt-get install catatonit (or tini), or remove init",
        )
    return found
