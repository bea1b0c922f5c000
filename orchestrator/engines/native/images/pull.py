"""``pull``: from a reference to an unpacked image. Layers arrive in parallel, each inflated while it is downloaded."""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.engines.native.images.content import Cancel, check_cancel
from orchestrator.engines.native.images.failures import (
    ImageMissing,
    InvalidImage,
    RegistryFault,
    RegistryUnreachable,
    TlsFailure,
    TransferCancelled,
    Unauthorized,
    UnsupportedImage,
)
from orchestrator.engines.native.images.image import Image
from orchestrator.engines.native.images.manifest import (
    Descriptor,
    ImageIndex,
    Manifest,
    parse_configuration,
    parse_manifest,
    select_manifest,
)
from orchestrator.engines.native.images.platform import Platform, detect_platform, normalize_platform, parse_platform
from orchestrator.engines.native.images.reference import Reference, parse_reference
from orchestrator.engines.native.images.registry import Document, Repository
from orchestrator.engines.native.images.transport import Transport
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from orchestrator.engines.native.images.registries import RegistrySettings
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.images.workspace import Workspace

PARALLEL = 4  # layers at a time
_CONFIG_LIMIT = 8 << 20  # bytes
_AHEAD = 16  # pieces (of up to 256 KiB) that a download may be ahead of the unpacking
_NEXT_ENDPOINT = (ImageMissing, Unauthorized, RegistryUnreachable, RegistryFault, TlsFailure)


@dataclass(frozen=True, slots=True)
class PullProgress:
    """One step of one layer (`layer` is its digest; empty for the image as a whole).

    `status` is ``waiting``, ``downloading``, ``uploading``, ``exists`` or ``done``; for the image as a whole it is a
    sentence. `current` and `total` are compressed bytes.
    """

    layer: str
    status: str
    current: int = 0
    total: int = 0


Progress = Callable[[PullProgress], None]


@dataclass(frozen=True, slots=True)
class _Resolved:
    repository: Repository
    manifest: Manifest
    documents: dict[str, bytes]
    digest: str  # of what the reference itself led to


def pull_image(
    store: ImageStore,
    settings: RegistrySettings,
    text: str,
    platform: str | None,
    progress: Progress | None,
    cancel: Cancel | None,
) -> Image:
    """See `ImageStore.pull`."""
    reference = parse_reference(text)
    wanted = parse_platform(platform) if platform else detect_platform()
    stop = threading.Event()

    def stopped() -> bool:
        return stop.is_set() or (cancel is not None and cancel())

    report = progress or (lambda _: None)
    try:
        waiting = functools.partial(tell_wait, report)
        with (
            Transport(settings, cancel=stopped, on_wait=waiting) as transport,
            store.open_workspace() as workspace,
        ):
            fetch = functools.partial(
                _fetch_content, store, workspace, reference.name, platform, wanted, report, stop, stopped
            )
            resolved, (configuration, diff_ids) = _try_endpoints(
                transport, settings, reference, wanted, stopped, fetch, store
            )
            names = {f"{reference.name}@{digest}" for digest in (resolved.digest, *resolved.documents)}
            return store.commit_image(
                configuration,
                diff_ids,
                workspace,
                references=[str(reference)] if reference.tag and not reference.digest else (),
                repo_digests=sorted(names),
                blobs=resolved.documents,
            )
    except StackError:
        check_cancel(cancel)  # whatever broke then broke because of that
        raise


def tell_wait(report: Progress, host: str, seconds: float) -> None:
    """Say why nothing moves."""
    report(PullProgress("", f"{host} is busy and asks to wait {round(seconds)}s"))


def resolve_manifest(
    transport: Transport, settings: RegistrySettings, reference: Reference, wanted: Platform, cancel: Cancel
) -> _Resolved:
    """Ask mirrors and the registry, in order, for the manifest of a platform. The last one's error is the one told."""
    return _try_endpoints(transport, settings, reference, wanted, cancel, lambda _resolved: None, None)[0]


_T = TypeVar("_T")


def _try_endpoints(
    transport: Transport,
    settings: RegistrySettings,
    reference: Reference,
    wanted: Platform,
    cancel: Cancel,
    fetch: Callable[[_Resolved], _T],
    store: ImageStore | None,
) -> tuple[_Resolved, _T]:
    """Find the manifest and `fetch` what it lists, at the first endpoint that has all of it: a mirror may lack a part,
    or break down on the way. What came from it stays.
    """
    endpoints = [
        one
        for one in settings.resolve_endpoints(reference)
        if not (one.digest_only and not reference.digest) and not (one.tag_only and reference.digest)
    ]
    expect = store is not None and store.resolve_image(str(reference)) is not None
    for position, endpoint in enumerate(endpoints):
        repository = Repository(transport, endpoint, cancel=cancel)
        held = store.blobs.read if store is not None else lambda _digest: None
        try:
            document = repository.fetch_manifest(reference, held, expect=expect)
            resolved = _select(repository, reference, document, wanted, held)
            return resolved, fetch(resolved)
        except _NEXT_ENDPOINT:
            if position == len(endpoints) - 1:
                raise
    raise UnsupportedImage(f"no configured mirror serves {reference.familiar}", resource=str(reference))


def _select(
    repository: Repository,
    reference: Reference,
    document: Document,
    wanted: Platform,
    held: Callable[[str], bytes | None],
) -> _Resolved:
    documents = {document.digest: document.data}
    parsed = parse_manifest(document.data, document.media_type)
    for _ in range(3):  # an index may point to an index
        if isinstance(parsed, Manifest):
            return _Resolved(repository, parsed, documents, document.digest)
        assert isinstance(parsed, ImageIndex)
        entry = select_manifest(parsed, wanted, reference.familiar)
        inner = repository.fetch_manifest(reference.with_digest(entry.digest), held)
        documents[inner.digest] = inner.data
        parsed = parse_manifest(inner.data, inner.media_type or entry.media_type)
    raise InvalidImage(f"{reference.familiar} nests its indexes too deeply", resource=str(reference))


def _fetch_content(
    store: ImageStore,
    workspace: Workspace,
    name: str,
    platform: str | None,
    wanted: Platform,
    report: Progress,
    stop: threading.Event,
    cancel: Cancel,
    resolved: _Resolved,
) -> tuple[bytes, tuple[str, ...]]:
    """Configuration and layers. Returns the configuration and the diff_ids."""
    workspace.keep([*resolved.documents, resolved.manifest.config.digest])
    if (
        known := _find_built(store, workspace, f"{name}@{list(resolved.documents)[-1]}", resolved.manifest)
    ) is not None:
        for one in resolved.manifest.layers:
            report(PullProgress(one.digest, "exists", one.size, one.size))
        return known
    configuration, diff_ids = _fetch_configuration(store, resolved, platform, wanted)
    workspace.keep(diff_ids)
    stop.clear()  # what ended the transfer from a mirror is no matter of the next endpoint's
    _fetch_layers(store, resolved, diff_ids, workspace, report, stop, cancel)
    return configuration, diff_ids


def _find_built(
    store: ImageStore, workspace: Workspace, pinned: str, manifest: Manifest
) -> tuple[bytes, tuple[str, ...]] | None:
    """The image that was built here and pushed with this manifest. It has another identifier than the registry's,
    because its layers have never been tars; to those who run it it is the same, and it stays.
    """
    image = store.resolve_image(pinned)
    if image is None or image.id == manifest.config.digest:
        return None
    workspace.keep((*image.diff_ids, image.id))
    configuration = store.read_configuration(image.id)
    if configuration is None or any(store.layers.find_layer(one) is None for one in image.diff_ids):
        return None
    return configuration, image.diff_ids


def _fetch_configuration(
    store: ImageStore, resolved: _Resolved, platform: str | None, wanted: Platform
) -> tuple[bytes, tuple[str, ...]]:
    descriptor = resolved.manifest.config
    data = store.blobs.read(descriptor.digest)
    if data is None:
        data = resolved.repository.fetch_blob(descriptor, _CONFIG_LIMIT)
    raw, diff_ids = parse_configuration(data)
    if len(diff_ids) != len(resolved.manifest.layers):
        raise InvalidImage(
            f"the image has {len(resolved.manifest.layers)} layers but its configuration lists {len(diff_ids)}",
            resource=descriptor.digest,
            operation="pull",
        )
    system, architecture = str(raw.get("os") or "linux"), str(raw.get("architecture") or wanted.architecture)
    actual = normalize_platform(system, architecture, str(raw.get("variant") or ""))
    if system != "linux" or (platform and (actual.os, actual.architecture) != (wanted.os, wanted.architecture)):
        raise UnsupportedImage(
            f"the image {resolved.repository.endpoint.name} is for {actual}, not for {wanted}",
            resource=descriptor.digest,
            operation="pull",
            hint=f"there is only one for {actual}; choose it with 'platform: {actual}', or another image",
        )
    return data, diff_ids


def _fetch_layers(
    store: ImageStore,
    resolved: _Resolved,
    diff_ids: tuple[str, ...],
    workspace: Workspace,
    report: Progress,
    stop: threading.Event,
    cancel: Cancel,
) -> None:
    """Fetch every layer, several at a time."""
    # The same layer may stand in an image several times.
    wanted = dict(zip(diff_ids, resolved.manifest.layers, strict=True))
    for descriptor in wanted.values():
        report(PullProgress(descriptor.digest, "waiting", 0, descriptor.size))
    fetch = functools.partial(_fetch_layer, store, resolved.repository, workspace, report, cancel)
    run_parallel([functools.partial(fetch, *item) for item in wanted.items()], stop)


def run_parallel(tasks: list[Callable[[], None]], stop: threading.Event) -> None:
    """Run tasks in a few threads; the first error sets `stop` and is raised when all have ended."""
    todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    for task in tasks:
        todo.put(task)
    errors: list[BaseException] = []

    def work() -> None:
        while not stop.is_set():
            try:
                task = todo.get_nowait()
            except queue.Empty:
                return
            try:
                task()
            except BaseException as error:  # raised again below, in the caller's thread
                errors.append(error)
                stop.set()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(PARALLEL, len(tasks)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise next((one for one in errors if not isinstance(one, TransferCancelled)), errors[0])


def _fetch_layer(
    store: ImageStore,
    repository: Repository,
    workspace: Workspace,
    report: Progress,
    cancel: Cancel,
    diff_id: str,
    descriptor: Descriptor,
) -> None:
    blob: dict[str, Any] = {
        "digest": descriptor.digest,
        "size": descriptor.size,
        "mediaType": descriptor.media_type,
        "sources": [repository.endpoint.name],
    }

    def open_chunks() -> Iterator[bytes]:
        return prefetch(_iterate_reporting(repository, descriptor, report), cancel)

    _, fresh = store.layers.ensure_layer(
        diff_id,
        workspace.path,
        open_chunks,
        blob=blob,
        cancel=cancel,
        on_wait=lambda: report(PullProgress(descriptor.digest, "waiting", 0, descriptor.size)),
    )
    report(PullProgress(descriptor.digest, "done" if fresh else "exists", descriptor.size, descriptor.size))


def _iterate_reporting(repository: Repository, descriptor: Descriptor, report: Progress) -> Iterator[bytes]:
    current = told = 0
    for piece in repository.iterate_blob(descriptor):
        current += len(piece)
        if current - told >= 1 << 19 or current == descriptor.size:
            told = current
            report(PullProgress(descriptor.digest, "downloading", current, descriptor.size))
        yield piece


def prefetch(source: Iterator[bytes], cancel: Cancel) -> Iterator[bytes]:
    """Run `source` in a thread of its own, a bounded number of pieces ahead.

    When the consumer stops early the thread is left behind: it ends as soon as its connection is closed.
    """
    pieces: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
    abandoned = threading.Event()

    def put(piece: bytes | BaseException | None) -> bool:
        while not abandoned.is_set():
            try:
                pieces.put(piece, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            put(next((None for piece in source if not put(piece)), None))
        except BaseException as error:  # raised again in the consumer's thread
            put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        while True:
            try:
                piece = pieces.get(timeout=0.1)
            except queue.Empty:
                check_cancel(cancel)
                continue
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        abandoned.set()
