"""Progress of what is done to containers directly, on the same screen as a plan's."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.cli.progress import find_status_stream
from orchestrator.state import Container


def tell_lines() -> Callable[[Container, str], None]:
    """Return what writes `` Container x-web-1 Killed`` to stderr."""

    stream = find_status_stream()

    def tell(container: Container, word: str) -> None:
        print(f" Container {container.name} {word}", file=stream, flush=True)

    return tell
