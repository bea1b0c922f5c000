"""A build that would find every step in the cache is known again by its inputs, without reading the Dockerfile.

What is remembered: the request, what stat(2) says of everything in the context, the images that the Dockerfile names,
and the folder of the build cache (whatever is added to it or removed from it ends all memories). All that has to be the
same again; builds with inputs that cannot be looked at so cheaply (URLs, repositories, other contexts, secrets) are not
remembered.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from orchestrator import __version__
from orchestrator.engines.native.dockerfile.request import BuildEvent, BuildResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.engines.native.dockerfile.front.steps import Base, StageSteps
    from orchestrator.engines.native.dockerfile.request import BuildProgress, BuildRequest
    from orchestrator.engines.native.images.store import ImageStore

_FORMAT = 1
_ENTRIES = 5000
"""Larger contexts are not remembered: looking at them costs as much as the build."""
_SECONDS = 24 * 3600
"""After a day the build looks into the cache again, which notes that its results are in use."""
_SETTLED = 2_000_000_000
"""Nanoseconds that everything must have been left alone before the build began: younger times may be shared."""
_KEPT = 256

Known = dict[str, Any]


def recall_build(store: ImageStore, request: BuildRequest, progress: BuildProgress) -> BuildResult | None:
    """What the same request came to, told as it was told then; None if anything may be different. Never raises."""
    if not _is_eligible(request):
        return None
    try:
        with open(_find_record(store, request), encoding="utf-8") as file:
            known = json.load(file)
        if not _is_current(store, request, known):
            return None
        for one in known["events"]:
            progress(BuildEvent(**{**one, "time": time.time()}))
        return BuildResult(image_id=known["image"], cached_steps=known["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember_build(
    store: ImageStore, request: BuildRequest, result: BuildResult, events: Sequence[BuildEvent], began: float
) -> None:
    """Note what a build came to that began at `began` (seconds) and had nothing to do. Never raises."""
    if result.built_steps or result.references is None or not _is_eligible(request):
        return
    with suppress(OSError):
        paths, values = [], []
        for path in _walk(str(request.context)):
            paths.append(path)
            values.append(_look(os.path.join(str(request.context), path)))
            if len(paths) > _ENTRIES or max(values[-1][:2]) > began * 1e9 - _SETTLED:
                return
        images = {one: _identify(store, one) for one in result.references}
        known = {
            "request": _describe(request),
            "paths": paths,
            "values": values,
            "images": images,
            "cache": os.stat(store.cache.folder).st_mtime_ns,
            "image": result.image_id,
            "steps": result.cached_steps,
            "time": time.time(),
            "events": [_dump(one) for one in events],
        }
        _write(_find_record(store, request), known)


def list_references(stages: Mapping[int, StageSteps], bases: Sequence[Base], platform: str) -> tuple[str, ...] | None:
    """The images that stages stand on (`bases`) or take files from; None when something else from outside is used.

    An image for another platform than the build's own `platform` counts as something else.
    """
    from orchestrator.engines.native.dockerfile.front.steps import CopyStep, RunStep
    from orchestrator.engines.native.dockerfile.front.values import is_remote

    found: set[str] = set()
    for base in bases:
        if base.kind == "named" or (base.kind == "image" and base.platform not in (None, platform)):
            return None
        if base.kind == "image":
            found.add(base.name)
    for step in (step for stage in stages.values() for step in stage.steps):
        origins = [step.origin] if isinstance(step, CopyStep) else []
        if isinstance(step, RunStep):
            origins = [one.origin for one in step.mounts if one.origin is not None]
        if isinstance(step, CopyStep) and any(is_remote(one) for one in step.sources):
            return None
        if any(one.kind == "named" for one in origins):
            return None
        found.update(one.name for one in origins if one.kind == "image")
    return tuple(sorted(found))


def _is_eligible(request: BuildRequest) -> bool:
    place = request.context
    if place is None or not os.path.isabs(place) or not os.path.isdir(place):
        return False
    if request.no_cache or request.pull or request.contexts or request.secrets or request.ssh or request.stdin:
        return False
    if request.cache_from or request.cache_to or request.platforms:
        return False
    file = os.path.normpath(os.path.join(place, request.dockerfile or "Dockerfile"))
    # What stands elsewhere is not among what is looked at, nor what a link leads to.
    top = f"{place.rstrip('/')}/"
    if request.inline is None and not (
        file.startswith(top) and os.path.realpath(file) == os.path.join(os.path.realpath(place), file[len(top) :])
    ):
        return False
    return not any(os.path.islink(one) for one in (f"{file}.dockerignore", os.path.join(place, ".dockerignore")))


def _is_current(store: ImageStore, request: BuildRequest, known: Known) -> bool:
    if known["request"] != _describe(request) or not 0 <= time.time() - known["time"] < _SECONDS:
        return False
    if known["cache"] != os.stat(store.cache.folder).st_mtime_ns:
        return False
    place = str(request.context)
    for path, value in zip(known["paths"], known["values"], strict=True):
        if _look(os.path.join(place, path)) != value:
            return False
    if any(_identify(store, name) != identifier for name, identifier in known["images"].items()):
        return False
    if any(_identify(store, tag) != known["image"] for tag in request.tags):
        return False
    image = store.resolve_image(known["image"])
    return image is not None and store.layers.has_all(image.layers)


def _describe(request: BuildRequest) -> str:
    return f"{_FORMAT} {__version__} {request!r}"


def _find_record(store: ImageStore, request: BuildRequest) -> str:
    name = zlib.crc32(_describe(request).encode("utf-8", "surrogateescape"))
    return os.path.join(store.root, "builds", "recalled", f"{name:08x}.json")


def _identify(store: ImageStore, name: str) -> str:
    image = store.resolve_image(name)
    return "" if image is None else image.id


def _look(path: str) -> list[int]:
    status = os.lstat(path)
    return [status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode]


def _walk(top: str) -> Iterator[str]:
    """Every path below `top`, with `top` itself (as the empty text): what is added changes its folder's times."""
    yield ""
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(top, folder)) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                yield path
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)


def _dump(event: BuildEvent) -> dict[str, Any]:
    return {name: value for name, value in event.__dict__.items() if name != "time"}


def _write(path: str, known: Known) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    beside = f"{path}.{os.getpid()}.new"
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(known, file, separators=(",", ":"))
    os.rename(beside, path)
    names = os.listdir(folder)
    if len(names) > _KEPT:
        oldest = sorted((os.stat(os.path.join(folder, name)).st_mtime, name) for name in names)
        for _, name in oldest[: len(names) - _KEPT]:
            os.unlink(os.path.join(folder, name))
