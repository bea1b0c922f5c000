"""Fetching images with progress, for ``pull`` and ``image pull``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.actions.images import transfer_references
from orchestrator.cli.diagnostics import report_error
from orchestrator.cli.progress import PlainScreen, QuietScreen, Screen
from orchestrator.cli.transfer_meter import TransferMeter
from orchestrator.errors import EngineError, OperationFailed
from orchestrator.events import Event

if TYPE_CHECKING:
    from orchestrator.actions.pull import Pull
    from orchestrator.cli.invocation import Invocation
    from orchestrator.engines.base import Engine, ImageProgress
    from orchestrator.errors import StackError
    from orchestrator.events import Phase, Sink

_NOTHING: Mapping[str, str] = MappingProxyType({})


def pull_services(
    invocation: Invocation,
    pulls: Sequence[Pull],
    builders: Mapping[str, str],
    *,
    quiet: bool = False,
    ignore_failures: bool = False,
) -> None:
    """Fetch the images of services, and tell what becomes of each service. Raises OperationFailed after each failure
    has been shown.

    `builders` names the service that builds an image, for those that can be built instead.
    """
    wanted = {one.reference: one.platform for one in pulls if not one.skipped}
    users: dict[str, list[Pull]] = {}
    for one in pulls:
        users.setdefault(one.reference, []).append(one)
    screen = _open_screen(invocation, quiet=quiet)
    tell = _tell_services(screen, users) if isinstance(screen, PlainScreen) else screen
    with screen:
        for one in pulls:
            if one.skipped and one.reference not in wanted:
                tell(_make_event(one.reference, "skipped", one.skipped))
        failures = _pull(invocation, tuple(wanted), tell, platforms=wanted)
    _report(failures, len(wanted), builders, ignore_failures=ignore_failures)


def pull_with_progress(
    invocation: Invocation, references: Sequence[str], *, platform: str | None = None, quiet: bool = False
) -> None:
    """Fetch images by name. Raises OperationFailed after each failure has been shown; Ctrl-C ends the transfers and
    leaves the store as if they had not begun."""
    with _open_screen(invocation, quiet=quiet) as screen:
        failures = _pull(invocation, references, screen, platforms=dict.fromkeys(references, platform))
    _report(failures, len(set(references)), _NOTHING, ignore_failures=False)


def _open_screen(invocation: Invocation, *, quiet: bool) -> Screen:
    if quiet:
        return QuietScreen()
    if invocation.dry_run:
        from orchestrator.cli.rehearsal import open_rehearsal

        return open_rehearsal(invocation)
    return invocation.screen("pull")


def _pull(
    invocation: Invocation, references: Sequence[str], screen: Sink, *, platforms: Mapping[str, str | None]
) -> dict[str, StackError]:
    engine = invocation.engine()
    if invocation.dry_run:
        return transfer_references(references, _make_asker(engine, platforms), screen)
    stop = threading.Event()

    def fetch(reference: str, tell: Callable[[str, dict[str, Any]], None]) -> None:
        def show(one: ImageProgress) -> None:
            tell(one.status, {"layer": one.layer, "current": one.current, "total": one.total})

        try:
            engine.pull_image(reference, platform=platforms.get(reference), progress=show, cancel=stop.is_set)
        except EngineError as error:
            raise explain_denial(error, reference) from error

    return transfer_references(references, fetch, tell_layers(screen), stop=stop)


def _make_asker(engine: Engine, platforms: Mapping[str, str | None]) -> Callable[[str, object], None]:
    """What a dry run does instead of fetching: the registry is asked whether it has the image."""
    from orchestrator.actions.rehearse import ask_registry

    def ask(reference: str, _tell: object) -> None:
        if engine.name != "native":
            return
        try:
            ask_registry(reference, platforms.get(reference))
        except EngineError as error:
            raise explain_denial(error, reference) from error

    return ask


def explain_denial(error: EngineError, reference: str) -> EngineError:
    """Say in Docker's words that a registry has no such image, or does not give it to just anybody."""
    if error.code not in ("image-not-found", "registry-unauthorized"):
        return error
    name = reference.partition("@")[0]
    if ":" in name.rpartition("/")[2]:
        name = name.rpartition(":")[0]
    message = f"pull access denied for {name}, repository does not exist or may require a login: {error.message}"
    return type(error)(message, resource=error.resource, operation=error.operation, hint=error.hint)


def _tell_services(screen: Sink, users: Mapping[str, Sequence[Pull]]) -> Sink:
    """A screen that is told of each service, too, when something becomes of its image."""

    def show(event: Event, /) -> None:
        screen(event)
        if event.verb != "pull image" or event.phase == "progress":
            return
        for one in users.get(event.subject, ()):
            told = event.replace(verb="pull service", subject=one.service, service=one.service)
            if one.skipped and event.phase != "skipped":
                # Another service has the same image, and fetches it.
                if event.phase != "started":
                    continue
                told = told.replace(phase="skipped", message=one.skipped)
            elif one.skipped:
                told = told.replace(message=one.skipped)
            # Why it failed stands behind the image.
            screen(told if told.phase == "skipped" else told.replace(message=""))

    return show


def _make_event(reference: str, phase: Phase, message: str) -> Event:
    return Event(
        time=time.time(),
        kind="operation",
        subject=reference,
        action=f"pull {reference}",
        phase=phase,
        verb="pull image",
        message=message,
    )


def _report(
    failures: Mapping[str, StackError], count: int, builders: Mapping[str, str], *, ignore_failures: bool
) -> None:
    for error in failures.values():
        report_error(error)
    builds = " ".join(sorted({builders[one] for one in failures if one in builders}))
    if builds:
        print(
            f"WARNING: Some service image(s) must be built from source by running:\n    stack build {builds}",
            file=sys.stderr,
        )
    if failures and not ignore_failures:
        # One that failed has said so.
        raise OperationFailed(f"{len(failures)} of {count} images could not be fetched" if count > 1 else "")


def tell_layers(screen: Sink) -> Sink:
    """The screen; one that writes lines is told of every layer, too (the live one finds that out itself)."""
    if isinstance(screen, QuietScreen) and not isinstance(screen, PlainScreen):
        return screen
    meter = TransferMeter()

    def show(event: Event, /) -> None:
        for one in meter.expand(event):
            screen(one)

    return show
