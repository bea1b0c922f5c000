"""Sending images with progress, for ``push``, ``build --push`` and ``image push``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.actions.images import transfer_references
from orchestrator.actions.push import choose_pushes
from orchestrator.cli.diagnostics import report_error
from orchestrator.cli.progress import QuietScreen, Screen
from orchestrator.cli.pulling import tell_layers
from orchestrator.errors import OperationFailed

if TYPE_CHECKING:
    from orchestrator.cli.invocation import Invocation
    from orchestrator.engines.base import ImageProgress
    from orchestrator.model import Stack


def push_services(
    invocation: Invocation,
    stack: Stack,
    services: Sequence[str],
    *,
    dependencies: bool = False,
    quiet: bool = False,
    ignore_failures: bool = False,
) -> None:
    """Send the images of services. Raises OperationFailed after each failure has been shown."""
    references, skipped = choose_pushes(stack, services, dependencies=dependencies)
    if services and skipped and not quiet:
        for name in skipped:
            what = "is not built here" if stack.services[name].build is None else "has no image name"
            invocation.note(f"service {name} {what}: there is nothing to push")
    push_with_progress(invocation, references, quiet=quiet, ignore_failures=ignore_failures)


def push_with_progress(
    invocation: Invocation, references: Sequence[str], *, quiet: bool = False, ignore_failures: bool = False
) -> dict[str, str]:
    """Send images through the engine; return the digest of each. Raises OperationFailed after each failure is shown."""
    import threading

    if invocation.dry_run:
        from orchestrator.cli.rehearsal import rehearse

        rehearse(invocation, "push image", dict.fromkeys(references))
        return {}
    engine = invocation.engine()
    stop = threading.Event()
    digests: dict[str, str] = {}

    def send(reference: str, tell: Callable[[str, dict[str, Any]], None]) -> None:
        def show(one: ImageProgress) -> None:
            tell(one.status, {"layer": one.layer, "current": one.current, "total": one.total})

        digests[reference] = engine.push_image(reference, progress=show, cancel=stop.is_set)

    screen: Screen = QuietScreen() if quiet else invocation.screen("push")
    with screen:
        failures = transfer_references(references, send, tell_layers(screen), verb="push image", stop=stop)
    for error in failures.values():
        report_error(error)
    if failures and not ignore_failures:
        count = len(set(references))
        raise OperationFailed(f"{len(failures)} of {count} images could not be pushed" if count > 1 else "")
    return digests
