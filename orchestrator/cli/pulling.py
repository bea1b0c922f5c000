"""Fetching images with progress, for ``pull`` and ``image pull``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.actions.images import pull_references
from orchestrator.cli.diagnostics import report_error
from orchestrator.cli.progress import QuietScreen, Screen
from orchestrator.errors import OperationFailed

if TYPE_CHECKING:
    from orchestrator.cli.invocation import Invocation
    from orchestrator.engines.base import ImageProgress


def pull_with_progress(
    invocation: Invocation,
    references: Sequence[str],
    *,
    platform: str | None = None,
    platforms: dict[str, str | None] | None = None,
    quiet: bool = False,
    ignore_failures: bool = False,
) -> None:
    """Fetch images through the engine. Raises OperationFailed after each failure has been shown."""
    engine = invocation.engine()

    def fetch(reference: str, tell: Callable[[str, dict[str, Any]], None]) -> None:
        def show(one: ImageProgress) -> None:
            tell(one.status, {"layer": one.layer, "current": one.current, "total": one.total})

        engine.pull_image(reference, platform=(platforms or {}).get(reference) or platform, progress=show)

    screen: Screen = QuietScreen() if quiet else invocation.screen("pull")
    with screen:
        failures = pull_references(references, fetch, screen)
    for error in failures.values():
        report_error(error)
    if failures and not ignore_failures:
        raise OperationFailed(f"{len(failures)} of {len(set(references))} images could not be fetched")
