"""A service's image: what the stack file asks for, handed to the builder; and what comes back, remembered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.recall import find_build, recall_build, remember_build
from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.errors import ModelError

if TYPE_CHECKING:
    from orchestrator.engines.base import BuildEvent, BuildProgress
    from orchestrator.engines.native.dockerfile.recall import RecalledBuild
    from orchestrator.engines.native.dockerfile.request import BuildRequest, BuildResult
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.layout import Layout
    from orchestrator.errors import Diagnostic
    from orchestrator.goal import BuildOptions
    from orchestrator.model import Service, Stack
    from orchestrator.source import Location
    from orchestrator.state import ImageFacts

AROUND = 2
"""Lines shown before and after the one that a build failed at."""


def build_service(
    layout: Layout,
    images: ImageStore,
    stack: Stack,
    service: Service,
    *,
    options: BuildOptions,
    progress: BuildProgress | None,
    cancel: Callable[[], bool] | None,
    warn: Callable[[Diagnostic], None],
) -> ImageFacts:
    """Build the image of a service under its name. Raises ModelError for what cannot be honoured, EngineError."""
    from orchestrator.engines.native.dockerfile.service_request import translate_build
    from orchestrator.engines.native.observing import image_facts
    from orchestrator.model import image_reference

    request, found = _make_request(images, stack, service, options)
    if any(one.severity == "error" for one in found):
        raise ModelError(found)
    known = translate_build(stack, service, check=True)[1] if found else ()
    for one in found:
        # What the stack file alone shows has been told where the goal was made.
        if one not in known:
            warn(one)
    result = run_build(layout, images, request, progress=progress, cancel=cancel)
    return image_facts(image_reference(stack, service), images.require_image(result.image_id))


def find_known_build(
    images: ImageStore, stack: Stack, service: Service, *, options: BuildOptions
) -> RecalledBuild | None:
    """What is remembered of the build of a service and holds: it would do nothing, and come to the same."""
    request, found = _make_request(images, stack, service, options)
    return None if found else find_build(images, request)


def _make_request(
    images: ImageStore, stack: Stack, service: Service, options: BuildOptions
) -> tuple[BuildRequest, list[Diagnostic]]:
    from orchestrator.engines.native.dockerfile.service_request import translate_build
    from orchestrator.engines.native.images.platform import detect_platform

    return translate_build(
        stack,
        service,
        options=options,
        images=_resolve_sources(images, stack, service),
        host_platform=str(detect_platform()),
    )


def run_build(
    layout: Layout,
    images: ImageStore,
    request: BuildRequest,
    *,
    progress: BuildProgress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> BuildResult:
    """Build an image, and remember under each of its names that it is up to date as of the moment of the call."""
    began = time.time()
    listen = progress or _ignore
    told: list[BuildEvent] = []
    result = recall_build(images, request, listen)
    if result is None:
        result = _build_anew(layout, images, request, listen, cancel, told)
    for tag in request.tags:
        images.note_moment(tag, "built", began)
    if told:
        remember_build(images, request, result, told, began)
    return result


def _build_anew(
    layout: Layout,
    images: ImageStore,
    request: BuildRequest,
    listen: BuildProgress,
    cancel: Callable[[], bool] | None,
    told: list[BuildEvent],
) -> BuildResult:
    from orchestrator.engines.native.dockerfile.builder import build_image

    def tell(event: BuildEvent, /) -> None:
        told.append(event)
        listen(event)

    try:
        return build_image(images, layout, request, tell, cancel)
    except BuildError as error:
        if error.location is not None and not error.excerpt:
            error.excerpt = read_excerpt(request, error.location)
        raise


def read_excerpt(request: BuildRequest, location: Location) -> tuple[str, ...]:
    """The lines of the Dockerfile around a place in it, numbered; empty where they cannot be read again."""
    text = request.inline
    if text is None:
        for path in (location.file, os.path.join(request.context or "", location.file)):
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    text = file.read(1 << 20)
                break
            except OSError:
                continue
    lines = (text or "").splitlines()
    if location.line > len(lines):
        return ()
    first, last = max(1, location.line - AROUND), min(len(lines), location.line + AROUND)
    return tuple(
        f"{'>' if number == location.line else ' '} {number:>4} | {lines[number - 1]}"
        for number in range(first, last + 1)
    )


def _resolve_sources(images: ImageStore, stack: Stack, service: Service) -> dict[str, str]:
    """Identifiers of the images of services that the build takes files from, by service."""
    from orchestrator.model import image_reference, list_buildable
    from orchestrator.reconcile.images import build_contexts

    found, every = {}, list_buildable(stack)
    for name in build_contexts(service).values():
        if name in every:
            image = images.resolve_image(image_reference(stack, every[name]))
            if image is not None:
                found[name] = image.id
    return found


def _ignore(_event: object, /) -> None:
    """Nobody listens."""
