"""Fetching images with progress, for ``pull`` and ``image pull``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.actions.images import transfer_references
from orchestrator.cli.diagnostics import report_error
from orchestrator.cli.progress import PlainScreen, QuietScreen, Screen
from orchestrator.cli.transfer_meter import TransferMeter
from orchestrator.errors import OperationFailed

if TYPE_CHECKING:
    from orchestrator.cli.invocation import Invocation
    from orchestrator.engines.base import ImageProgress
    from orchestrator.events import Event, Sink

_NOTHING: Mapping[str, str] = MappingProxyType({})


def pull_with_progress(
    invocation: Invocation,
    references: Sequence[str],
    *,
    platform: str | None = None,
    platforms: dict[str, str | None] | None = None,
    quiet: bool = False,
    ignore_failures: bool = False,
    builders: Mapping[str, str] = _NOTHING,
) -> None:
    """Fetch images through the engine. Raises OperationFailed after each failure has been shown; Ctrl-C ends the
    transfers and leaves the store as if they had not begun.

    `builders` names the service that builds an image, for those that can be built instead.
    """
    if invocation.dry_run:
        for one in dict.fromkeys(references):
            print(f"pull image {one}")
        return
    engine = invocation.engine()
    stop = threading.Event()

    def fetch(reference: str, tell: Callable[[str, dict[str, Any]], None]) -> None:
        def show(one: ImageProgress) -> None:
            tell(one.status, {"layer": one.layer, "current": one.current, "total": one.total})

        wanted = (platforms or {}).get(reference) or platform
        engine.pull_image(reference, platform=wanted, progress=show, cancel=stop.is_set)

    screen: Screen = QuietScreen() if quiet else invocation.screen("pull")
    with screen:
        failures = transfer_references(references, fetch, tell_layers(screen), stop=stop)
    for error in failures.values():
        report_error(error)
    if failures and not ignore_failures:
        builds = sorted({builders[one] for one in failures if one in builders})
        raise OperationFailed(
            f"{len(failures)} of {len(set(references))} images could not be fetched",
            hint=f"what can be built is built by: stack build {' '.join(builds)}" if builds else "",
        )


def tell_layers(screen: Screen) -> Sink:
    """The screen; one that writes lines is told of every layer, too (the live one finds that out itself)."""
    if not isinstance(screen, PlainScreen):
        return screen
    meter = TransferMeter()

    def show(event: Event, /) -> None:
        for one in meter.expand(event):
            screen(one)

    return show
