"""``import``: a root filesystem tar becomes an image with one layer."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from orchestrator.engines.native.images.changes import apply_changes
from orchestrator.engines.native.images.content import Cancel, check_cancel
from orchestrator.engines.native.images.failures import ImageMissing, InvalidChange
from orchestrator.engines.native.images.platform import detect_platform, parse_platform
from orchestrator.engines.native.images.reference import parse_reference

if TYPE_CHECKING:
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.store import ImageStore

_CHUNK = 1 << 20


def import_rootfs(
    store: ImageStore,
    source: BinaryIO | Path,
    reference: str | None,
    changes: Sequence[str],
    message: str,
    platform: str | None,
    cancel: Cancel | None,
) -> Image:
    """See `ImageStore.import_rootfs`."""
    if reference is not None and parse_reference(reference).digest:
        raise InvalidChange(f"the tag {reference!r} must not have a digest")
    config = apply_changes({}, changes)  # before the long part, so that a typo is told at once
    wanted = parse_platform(platform) if platform else detect_platform()
    with open_source(source) as stream, store.open_workspace() as workspace:
        layer, _ = store.layers.add_layer(
            workspace.make_directory("layer"), iterate_chunks(stream, cancel), workspace.keep, cancel=cancel
        )
        created = render_now()
        document: dict[str, Any] = {
            "created": created,
            "architecture": wanted.architecture,
            **({"variant": wanted.variant} if wanted.variant else {}),
            "os": wanted.os,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.id]},
            "history": [{"created": created, "comment": message or "imported root filesystem"}],
        }
        return store.commit_image(
            json.dumps(document, separators=(",", ":")).encode(),
            [layer.id],
            workspace,
            references=[reference] if reference is not None else (),
        )


@contextmanager
def open_source(source: BinaryIO | Path) -> Iterator[BinaryIO]:
    """Open a path, and close it at the end; pass a stream on. Raises ImageMissing if there is no such file."""
    if not isinstance(source, Path):
        yield source
        return
    try:
        stream = source.open("rb", buffering=0)
    except (FileNotFoundError, IsADirectoryError) as error:
        what = "is a folder" if source.is_dir() else "no such file"
        raise ImageMissing(f"{source}: {what}", resource=str(source), operation="open archive") from error
    with stream:
        yield stream


def iterate_chunks(stream: BinaryIO, cancel: Cancel | None = None) -> Iterator[bytes]:
    """Read a stream to its end."""
    while chunk := stream.read(_CHUNK):
        check_cancel(cancel)
        yield chunk


def render_now() -> str:
    """The time of creation as RFC 3339; SOURCE_DATE_EPOCH (reproducible-builds.org) decides if it is set."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch.isdigit() else None
    moment = now or datetime.datetime.now(datetime.UTC)
    return moment.replace(tzinfo=None).isoformat() + "Z"
