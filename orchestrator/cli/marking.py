"""Progress of what is done to containers directly, on the same screen as a plan's."""

from __future__ import annotations

import sys
from collections.abc import Callable

from orchestrator.state import Container


def tell_plan(verb: str) -> Callable[[Container, str], None]:
    """Return what writes ``kill container x-web-1`` to stdout: with ``--dry-run`` that is all that happens."""
    return lambda container, _word: print(f"{verb} container {container.name}")


def tell_lines() -> Callable[[Container, str], None]:
    """Return what writes `` Container x-web-1 Killed`` to stderr."""

    def tell(container: Container, word: str) -> None:
        print(f" Container {container.name} {word}", file=sys.stderr, flush=True)

    return tell
