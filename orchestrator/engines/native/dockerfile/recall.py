"""A build that would find every step in the cache is known again by its inputs, without reading the Dockerfile.

What is remembered of it, below ``builds/recalled`` in the image store, rests on the request, on what lstat(2) says of
every file and folder of the context that the build can see, on the Dockerfile and the ignore files (also on those
that are not there), on what the names of images lead to, on the image that it came to and its layers, and on the
folder of the build cache: whatever is added to that or removed from it ends all memories. Builds with inputs that
cannot be looked at so cheaply (URLs, repositories, other contexts, agents) are not remembered.
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
from orchestrator.errors import StackError
from orchestrator.evidence import (
    is_settled,
    read_kept,
    render_entry,
    render_moment,
    render_name,
    render_path,
    sign_entry,
    sign_path,
    write_kept,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.engines.native.dockerfile.front.steps import Base, StageSteps
    from orchestrator.engines.native.dockerfile.request import BuildProgress, BuildRequest
    from orchestrator.engines.native.dockerfile.sources.dockerignore import IgnoreRules
    from orchestrator.engines.native.images.store import ImageStore

_FORMAT = 2
_ENTRIES = 20_000
"""Larger contexts are not remembered: looking at them costs as much as the build."""
_KEPT = 256


class RecalledBuild:
    """What is remembered of a build: the file that it stands in, the image, what was told on the way.

    `marks` are files whose modification time says when a name was last built (see `images.moments`); empty for a name
    that has none.
    """

    def __init__(self, path: str, known: Mapping[str, Any]) -> None:
        self.path = path
        self.image_id = str(known["image"])
        self.cached_steps = int(known["steps"])
        self.marks: tuple[str, ...] = tuple(known["marks"])
        self.events: tuple[Mapping[str, Any], ...] = tuple(known["events"])

    def tell(self, progress: BuildProgress, moment: float) -> None:
        """Tell what was told then as if it happened at `moment` (seconds since the epoch)."""
        for one in self.events:
            progress(BuildEvent(**one, time=moment))


def recall_build(store: ImageStore, request: BuildRequest, progress: BuildProgress) -> BuildResult | None:
    """What the same request came to, told as it was told then; None if anything may be different. Never raises."""
    known = find_build(store, request)
    if known is None:
        return None
    known.tell(progress, time.time())
    return BuildResult(image_id=known.image_id, cached_steps=known.cached_steps)


def find_build(store: ImageStore, request: BuildRequest) -> RecalledBuild | None:
    """What is remembered of a request and still holds. Never raises."""
    if not _is_eligible(request):
        return None
    path = _find_record(store, request)
    body = read_kept(path)
    try:
        known = json.loads(body) if body is not None else None
        # The name of the record is too short to be sure.
        return RecalledBuild(path, known) if known and known["request"] == _describe(request) else None
    except (ValueError, KeyError, TypeError):
        return None


def remember_build(
    store: ImageStore, request: BuildRequest, result: BuildResult, events: Sequence[BuildEvent], began: float
) -> None:
    """Note what a build came to that began at `began` (seconds) and had nothing to do. Never raises."""
    if result.built_steps or result.references is None or not _is_eligible(request):
        return
    with suppress(OSError, ValueError, LookupError, StackError):
        lines = [
            render_moment(began),
            *_list_images(store, request, result),
            *_list_inputs(store, request, int(began * 1e9)),
        ]
        marks = _find_marks(store, request)
        known = {
            "request": _describe(request),
            "image": result.image_id,
            "steps": result.cached_steps,
            "marks": marks,
            "events": [_dump(one) for one in events],
        }
        body = json.dumps(known, separators=(",", ":")).encode()
        write_kept(_find_record(store, request), lines, body, most=_KEPT)


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
    return tuple(sorted(found - {"scratch"}))


def _is_eligible(request: BuildRequest) -> bool:
    place = request.context
    if place is None or not os.path.isabs(place) or not os.path.isdir(place):
        return False
    if request.no_cache or request.pull or request.contexts or request.ssh or request.stdin:
        return False
    return not (request.cache_from or request.cache_to or request.platforms)


# -- what the result rests on -----------------------------------------------------------------------------------------


def _list_inputs(store: ImageStore, request: BuildRequest, began: int) -> Iterator[bytes]:
    """Lines about everything that a build reads before it looks for images.

    Raises ValueError for what cannot be told from what may yet become of it: it changed just before `began` (ns since
    the epoch), or later.
    """

    def entry(path: str) -> bytes:
        signature = sign_entry(path)
        if not is_settled(signature, began):
            raise ValueError(path)
        return render_entry(path, signature)

    def file(path: str) -> bytes:
        signature = sign_path(path)
        if not is_settled(signature, began):
            raise ValueError(path)
        return render_path(path, signature)

    top = os.path.realpath(str(request.context))
    ignored: tuple[str, ...] = (f"{top}/.dockerignore",)
    if request.inline is None:
        name = request.dockerfile or "Dockerfile"
        names = [name]
        if os.path.basename(name) == "Dockerfile":
            names.append(f"{name[: -len('Dockerfile')]}dockerfile")
        paths = [os.path.normpath(os.path.join(f"{top}/", one)) for one in names]
        yield from map(file, paths)
        ignored = (f"{paths[0]}.dockerignore", *ignored)
    yield from map(file, ignored)
    for secret in request.secrets:
        if secret.file is not None:
            yield file(secret.file)
    yield entry(f"{store.cache.folder}/")
    yield entry(f"{request.context}/")  # it may be a link
    for number, path in enumerate(_walk(f"{top}/", _load_rules(ignored))):
        if number > _ENTRIES:
            raise ValueError(path)
        yield entry(path)


def _load_rules(places: Sequence[str]) -> IgnoreRules | None:
    for place in places:
        with suppress(FileNotFoundError, NotADirectoryError), open(place, "rb") as file:
            from orchestrator.engines.native.dockerfile.sources.dockerignore import load_ignore

            return load_ignore(file.read())
    return None


def _walk(top: str, rules: IgnoreRules | None) -> Iterator[str]:
    """Every path that the build can see below `top` (with a slash at its end), which comes first itself.

    What comes and goes changes the times of its folder. What is below an ignored folder may come and go.
    """
    yield top
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(f"{top}{folder}") as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                directory = entry.is_dir(follow_symlinks=False)
                if rules is not None and (rules.prunes(path) if directory else rules.matches(path)):
                    continue
                yield f"{top}{path}"
                if directory:
                    pending.append(f"{path}/")


def _list_images(store: ImageStore, request: BuildRequest, result: BuildResult) -> Iterator[bytes]:
    """Lines about the images that were used, the one that was made and its names. Raises ValueError."""
    place, index = str(store.root / "index.json"), store.load_index()
    named = {**(result.references or {}), **dict.fromkeys(request.tags, result.image_id)}
    for name, image_id in named.items():
        canonical = index.find_reference(name)
        # By the time of the look the name may lead elsewhere. The beginning of an identifier may become that of two.
        if index.find(name) != image_id or canonical in index.groups or (canonical is None and image_id != name):
            raise ValueError(name)
        if canonical is not None:
            yield render_name(place, canonical, image_id)
    for image_id in {result.image_id, *named.values()}:
        yield from _list_parts(store, image_id)


def _find_marks(store: ImageStore, request: BuildRequest) -> list[str]:
    from orchestrator.engines.native.images.moments import find_mark
    from orchestrator.engines.native.images.reference import parse_reference

    return [find_mark(store.root, parse_reference(tag).pinned) for tag in request.tags]


def _list_parts(store: ImageStore, image_id: str) -> Iterator[bytes]:
    from orchestrator.engines.native.images.parts import list_parts

    for path in list_parts(store, image_id):
        signature = sign_path(path)
        if not signature:
            raise ValueError(path)
        yield render_path(path, signature)


# -- the record -------------------------------------------------------------------------------------------------------


def _describe(request: BuildRequest) -> str:
    # A secret's value decides nothing that the cache would ask for, and is not to be written down. What a build tells
    # names files as they are seen from where it is asked for.
    secrets = [(one.id, one.file) for one in request.secrets]
    return f"{_FORMAT} {__version__} {os.getcwd()!r} {request.replace(secrets=())!r} {secrets!r}"


def _find_record(store: ImageStore, request: BuildRequest) -> str:
    name = zlib.crc32(_describe(request).encode("utf-8", "surrogateescape"))
    return os.path.join(store.root, "builds", "recalled", f"{name:08x}")


def _dump(event: BuildEvent) -> dict[str, Any]:
    return {name: value for name, value in event.__dict__.items() if name != "time"}
