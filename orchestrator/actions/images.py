"""The images of this machine: the store, who uses what, names for the screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from orchestrator.errors import EngineError, FileMissing, NotFound, StackError
from orchestrator.events import Event
from orchestrator.model import Stack, image_reference
from orchestrator.record import Record

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from orchestrator.engines.base import Engine
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.events import Phase, Sink


class ImageRow(Record):
    """One name of one image; `created` is seconds since the epoch, 0 when the image does not say; `size` bytes."""

    repository: str
    tag: str
    image_id: str
    created: float
    size: int
    digest: str = ""


def open_image_store() -> ImageStore:
    """Return the native engine's image store. Raises Unavailable where its folder can be none."""
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.places import require_places

    require_places()
    return ImageStore(Layout.from_environment())


def find_file(name: str) -> Path:
    """Return the path of a file that has to be there. Raises FileMissing."""
    from pathlib import Path

    path = Path(name)
    if path.exists():
        return path
    raise FileMissing(f"no such file: {name}")


@contextmanager
def open_output(name: str) -> Iterator[BinaryIO]:
    """A file to write to, which appears under its name only when it is complete. Raises StackError."""
    import os

    beside = f"{name}.{os.getpid()}.new"
    try:
        with open(beside, "wb") as file:
            yield file
        os.rename(beside, name)
    except OSError as error:
        raise StackError(f"cannot write {name}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            os.unlink(beside)


def list_tags(repository: str) -> tuple[str, ...]:
    """Every name that a repository has here, sorted. Raises NotFound where there is none."""
    from orchestrator.engines.native.images.reference import parse_reference, render_familiar

    wanted = parse_reference(repository).name
    found = {one for image in open_image_store().list_images() for one in image.references}
    tags = sorted(render_familiar(one) for one in found if one.rpartition(":")[0] == wanted)
    if not tags:
        raise NotFound(f"there is no image of {repository}", resource=repository, operation="push image")
    return tuple(tags)


def list_image_rows(images: Sequence[Image]) -> tuple[ImageRow, ...]:
    """One row per name; an image without a name has one with ``<none>``."""
    rows = []
    for image in images:
        digest = image.repo_digests[0].partition("@")[2] if image.repo_digests else ""
        for reference in image.references or ("",):
            repository, tag = split_reference(reference)
            rows.append(
                ImageRow(
                    repository=repository,
                    tag=tag,
                    image_id=image.id,
                    created=parse_created(image.created),
                    size=image.size,
                    digest=digest,
                )
            )
    return tuple(rows)


def split_reference(reference: str) -> tuple[str, str]:
    """Return repository and tag as a person writes them; ``<none>`` for what is not there."""
    if not reference:
        return "<none>", "<none>"
    from orchestrator.engines.native.images.reference import render_familiar

    name, _, _ = render_familiar(reference).partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        return name, "<none>" if "@" in reference else "latest"
    return repository, tag


def parse_created(text: str) -> float:
    """Read an image's RFC 3339 creation time; 0 when there is none."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0


def list_used_images(engine: Engine) -> set[str]:
    """Identifiers of the images that any container of any project uses."""
    return {one.image_id for name in engine.projects() for one in engine.observe(name).containers if one.image_id}


def list_service_images(stack: Stack, which: str) -> list[str]:
    """The names of the images of a stack's services, ``all`` or only the ``local`` ones, sorted."""
    return sorted({image_reference(stack, one) for one in stack.services.values() if which == "all" or not one.image})


def remove_service_images(engine: Engine, stack: Stack, which: str) -> tuple[list[str], list[EngineError]]:
    """Remove the images of a stack's services; return the names that went, and what did not go.

    `which` is ``all``, or ``local`` for those that were built without a name of their own. An image that is not there
    is no failure.
    """
    store = open_image_store()
    removed: list[str] = []
    failures: list[EngineError] = []
    for name in list_service_images(stack, which):
        try:
            store.remove_image(name, in_use=lambda: list_used_images(engine))
        except NotFound:
            continue
        except EngineError as error:
            failures.append(error)
        else:
            removed.append(name)
    return removed, failures


def transfer_references(
    wanted: Sequence[str],
    transfer: Callable[[str, Callable[[str, dict[str, Any]], None]], object],
    sink: Sink,
    *,
    verb: str = "pull image",
    stop: threading.Event | None = None,
) -> dict[str, StackError]:
    """Fetch or send several images at once; return the failures by reference. `transfer` takes a reference and a
    callback.

    Any other exception (Ctrl-C, say) sets `stop`, which is to end the transfers under way, and is raised when all have
    ended.
    """
    from concurrent.futures import ThreadPoolExecutor

    failures: dict[str, StackError] = {}
    action = verb.partition(" ")[0]

    def tell(reference: str, phase: Phase, message: str = "", details: dict[str, Any] | None = None) -> None:
        event = Event(
            time=time.time(), kind="operation", subject=reference, action=f"{action} {reference}", phase=phase
        )
        sink(event.replace(verb=verb, message=message, details=details or {}))

    def transfer_one(reference: str) -> None:
        tell(reference, "started")
        try:
            transfer(reference, lambda text, details: tell(reference, "progress", text, details))
        except StackError as error:
            failures[reference] = error
            tell(reference, "failed", error.message)
        else:
            tell(reference, "done")

    with ThreadPoolExecutor(max_workers=4) as pool:
        try:
            for done in [pool.submit(transfer_one, one) for one in dict.fromkeys(wanted)]:
                done.result()
        except BaseException:
            if stop is not None:
                stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failures
