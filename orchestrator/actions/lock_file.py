"""``stack.lock``: which digest each image of a stack had when it was locked. Pure.

JSON with a line for each fact, sorted, so that a difference shows what has moved. A checksum tells a lock that was
written from one that was edited, or merged by a tool that knows nothing of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from orchestrator.errors import StackError
from orchestrator.record import Record
from orchestrator.source import Path

if TYPE_CHECKING:
    from orchestrator.model import Stack

NAME: Final = "stack.lock"
_VERSION: Final = 1
_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}")


class LockInvalid(StackError):
    """The lock cannot be read, has been edited, or does not fit the stack file or the images."""

    code = "lock-invalid"


class LockedImage(Record):
    """One image: `reference` as stack files write it, with the platform that is asked for ("" for this machine's).

    Either `digest` is set, the registry's, or `image_id`, for an image that came from no registry.
    """

    reference: str
    platform: str = ""
    digest: str = ""
    image_id: str = ""


class Lock(Record):
    """All of them, and the images that are built from what is here: those are not locked."""

    images: tuple[LockedImage, ...] = ()
    built: tuple[str, ...] = ()

    def find(self, reference: str, platform: str) -> LockedImage | None:
        """What is known of an image."""
        return next((one for one in self.images if (one.reference, one.platform) == (reference, platform)), None)


class Use(Record):
    """An image that a stack names: where, and for which platform."""

    reference: str
    platform: str
    path: Path


def list_uses(stack: Stack) -> tuple[list[Use], list[str]]:
    """The images that a stack names and does not build (of services, of hooks, mounted), and those that it builds."""
    from orchestrator.reconcile.images import list_builders

    built = list_builders(stack)
    found = [one for one in iterate_uses(stack) if one.reference not in built]
    return found, sorted(built)


def iterate_uses(stack: Stack) -> Iterator[Use]:
    """Every image that a stack names, by service."""
    for name, service in sorted(stack.services.items()):
        platform = service.platform or ""
        if service.image and "provider" not in service.config:
            yield Use(reference=service.image, platform=platform, path=("services", name, "image"))
        hooks = service.config.get("pre_start") or ()
        for index, hook in enumerate(hooks):
            if hook.get("image"):
                path: Path = ("services", name, "pre_start", index, "image")
                yield Use(reference=str(hook["image"]), platform=hook.get("platform") or platform, path=path)
        holders: list[tuple[Path, Any]] = [(("services", name), service.config)]
        holders += [(("services", name, "pre_start", index), hook) for index, hook in enumerate(hooks)]
        for base, holder in holders:
            for index, mount in enumerate(holder.get("volumes") or ()):
                if mount.get("type") == "image" and mount.get("source"):
                    path = (*base, "volumes", index, "source")
                    yield Use(reference=str(mount["source"]), platform=platform, path=path)


def render_lock(lock: Lock) -> str:
    """The text of the file."""
    content = _plain(lock)
    return json.dumps({"version": _VERSION, **content, "checksum": _sum(content)}, indent=2, ensure_ascii=False) + "\n"


def parse_lock(text: str, name: str) -> Lock:
    """Read a lock; `name` is the file's, for messages. Raises LockInvalid."""
    again = "write it again: stack lock"
    try:
        data = json.loads(text)
    except ValueError as error:
        raise LockInvalid(f"{name} is no lock: {error}", hint=again) from None
    if not isinstance(data, dict) or not isinstance(data.get("version"), int):
        raise LockInvalid(f"{name} is no lock", hint=again)
    if data["version"] != _VERSION:
        raise LockInvalid(f"{name} is of version {data['version']}; this stack reads version {_VERSION}", hint=again)
    content = {"images": data.get("images"), "built": data.get("built")}
    if data.get("checksum") != _sum(content):
        raise LockInvalid(f"{name} has been edited: its checksum does not fit", hint=again)
    try:
        images = tuple(_load_image(one) for one in content["images"] or ())
        built = tuple(str(one) for one in content["built"] or ())
    except (TypeError, KeyError, ValueError, AttributeError):
        raise LockInvalid(f"{name} is no lock", hint=again) from None
    return Lock(images=images, built=built)


def _load_image(data: dict[str, Any]) -> LockedImage:
    digest, image_id = str(data.get("digest", "")), str(data.get("id", ""))
    if not _DIGEST.fullmatch(digest or image_id) or (digest and image_id):
        raise ValueError(digest)
    return LockedImage(
        reference=str(data["image"]), platform=str(data.get("platform", "")), digest=digest, image_id=image_id
    )


def _plain(lock: Lock) -> dict[str, Any]:
    images = []
    for one in sorted(lock.images, key=lambda one: (one.reference, one.platform)):
        pairs = {"image": one.reference, "platform": one.platform, "digest": one.digest, "id": one.image_id}
        images.append({key: value for key, value in pairs.items() if value})
    return {"images": images, "built": sorted(lock.built)}


def _sum(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def replace_images(tree: dict[str, Any], pins: Sequence[tuple[Path, str]]) -> None:
    """Put other references into a canonical tree, in place."""
    for path, reference in pins:
        place: Any = tree
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = reference
