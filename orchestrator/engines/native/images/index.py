"""Which names lead to which images: one small JSON file, replaced whole, so that a lookup costs two reads."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.engines.native.images.content import disk_error, hold_lock, write_file
from orchestrator.engines.native.images.failures import AmbiguousImage, ImageInUse, InvalidImage
from orchestrator.engines.native.images.kept import Kept
from orchestrator.engines.native.images.reference import is_digest, is_hex, parse_reference, render_familiar

VERSION = 1


class Index:
    """Tags and repository digests, both to image identifiers, and every image identifier.

    `groups` lists, for a tag that stands for several platforms, the images of all of them; `tags` leads to the first.
    `moments` says of a name when it came to mean its image (``tagged``), and when it was last ``pulled`` (or found
    unchanged at its registry) and ``built`` (or found to be up to date), in seconds since the epoch.
    """

    __slots__ = ("digests", "groups", "images", "moments", "tags")

    def __init__(
        self,
        tags: dict[str, str] | None = None,
        digests: dict[str, str] | None = None,
        images: set[str] | None = None,
        moments: dict[str, dict[str, float]] | None = None,
        groups: dict[str, list[str]] | None = None,
    ) -> None:
        self.tags = {} if tags is None else tags
        self.digests = {} if digests is None else digests
        self.images = set() if images is None else images
        self.moments = {} if moments is None else moments
        self.groups = {} if groups is None else groups

    def find(self, name: str) -> str | None:
        """The identifier that `name` means: a reference, an identifier, its beginning, or a digest.

        Raises InvalidReference and AmbiguousImage.
        """
        if is_digest(name):
            if name in self.images:
                return name
            return next((found for key, found in sorted(self.digests.items()) if key.endswith(f"@{name}")), None)
        if (canonical := self.find_reference(name)) is not None:
            return self.tags.get(canonical) or self.digests[canonical]
        bare = name.removeprefix("sha256:")
        if not is_hex(bare):
            return None
        matching = sorted(one for one in self.images if one.startswith(f"sha256:{bare}"))
        if len(matching) > 1:
            raise AmbiguousImage(
                f"{name!r} is the beginning of {len(matching)} image identifiers",
                resource=name,
                operation="find image",
                hint="give more digits: " + ", ".join(one[7:23] for one in matching[:4]),
            )
        return matching[0] if matching else None

    def find_reference(self, name: str) -> str | None:
        """The known tag or ``name@digest`` that `name` means, complete; None for identifiers and what is not here.

        A name wins over the beginning of an identifier: ``b`` can be both. Raises InvalidReference.
        """
        if name.startswith("sha256:"):
            return None
        canonical = parse_reference(name).pinned
        return canonical if canonical in self.tags or canonical in self.digests else None

    def references(self, image_id: str) -> tuple[str, ...]:
        """The tags of an image, sorted."""
        return tuple(sorted(name for name, found in self.tags.items() if found == image_id))

    def repo_digests(self, image_id: str) -> tuple[str, ...]:
        """The ``name@digest`` forms of an image, sorted."""
        return tuple(sorted(name for name, found in self.digests.items() if found == image_id))

    def add(self, image_id: str, reference: str = "", digests: tuple[str, ...] = ()) -> None:
        """Enter an image; `reference` (canonical) moves away from the image that had it."""
        self.images.add(image_id)
        if reference:
            if self.tags.get(reference) != image_id:
                self.moments[reference] = {"tagged": time.time()}
                self.groups.pop(reference, None)
            self.tags[reference] = image_id
        for digest in digests:
            self.digests[digest] = image_id

    def add_group(self, reference: str, members: Sequence[str]) -> None:
        """Let a tag (canonical) stand for the images of several platforms; it leads to the first."""
        self.add(members[0], reference)
        self.groups.pop(reference, None)
        if len(members) > 1:
            self.groups[reference] = list(members)

    def list_members(self, name: str) -> list[str]:
        """The images that a name of several platforms stands for; empty for others. Raises InvalidReference."""
        return self.groups.get(self.find_reference(name) or "", [])

    def list_named(self) -> set[str]:
        """Every image that some name leads to, alone or as one of several platforms."""
        grouped = {member for members in self.groups.values() for member in members}
        return {*self.tags.values(), *self.digests.values(), *grouped}

    def drop_reference(self, reference: str) -> None:
        """Remove a tag or ``name@digest``, and with a repository's last tag the repository's digests."""
        if reference in self.digests:
            del self.digests[reference]
            return
        concerned = {*self.groups.pop(reference, ()), self.tags.pop(reference)}
        name = reference.rpartition(":")[0]
        for key in (one for one in self.tags if one.rpartition(":")[0] == name):
            concerned -= {self.tags[key], *self.groups.get(key, ())}
        self.digests = {
            key: found for key, found in self.digests.items() if found not in concerned or key.partition("@")[0] != name
        }

    def drop_image(self, image_id: str) -> None:
        """Remove an image and everything that names it."""
        self.images.discard(image_id)
        self.tags = {key: value for key, value in self.tags.items() if value != image_id}
        self.groups = {
            key: members for key, members in self.groups.items() if key in self.tags and image_id not in members
        }
        self.digests = {key: value for key, value in self.digests.items() if value != image_id}


def drop_names(index: Index, image_id: str, name: str, force: bool) -> tuple[str, ...]:
    """Take away what `name` means: one reference, or with an identifier all of them (several only with `force`).

    Returns what went. Raises ImageInUse.
    """
    references = index.references(image_id)
    if (canonical := index.find_reference(name)) is not None:
        digests_before = index.repo_digests(image_id)
        index.drop_reference(canonical)
        gone = set(digests_before) - set(index.repo_digests(image_id))
        return (canonical, *sorted(gone - {canonical}))
    if len(references) > 1 and not force:
        raise ImageInUse(
            f"the image {name} has {len(references)} names: {', '.join(map(render_familiar, references))}",
            resource=name,
            operation="remove image",
            hint="remove the names one by one, or force",
        )
    names = (*references, *index.repo_digests(image_id))
    for one in references:
        index.groups.pop(one, None)
    index.tags = {key: value for key, value in index.tags.items() if value != image_id}
    index.digests = {key: value for key, value in index.digests.items() if value != image_id}
    return names


class IndexFile:
    """``index.json`` and the records ``images/<hex>.json`` below the images folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "index.json"
        self._records = root / "images"
        self.lock = root / "lock"
        self._kept = Kept()

    def prepare(self) -> None:
        """Make the folders."""
        self._records.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load(self) -> Index:
        """The index as it is now; empty if there is none. Not to be changed: it is kept for the next one who asks."""
        return self._kept.read(str(self._path), self._read)

    def _read(self) -> Index:
        try:
            raw = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return Index()
        except PermissionError as error:
            raise disk_error(error, self._path) from error
        except ValueError as error:
            raise InvalidImage(
                f"the image index {self._path} is damaged: {error}",
                operation="read index",
                hint="move the file away; images can then be pulled or imported again",
            ) from error
        if raw.get("version") != VERSION:
            raise InvalidImage(
                f"the image index {self._path} has version {raw.get('version')}, this program reads {VERSION}",
                operation="read index",
            )
        return Index(raw["tags"], raw["digests"], set(raw["images"]), raw.get("moments"), raw.get("groups"))

    @contextmanager
    def change(self) -> Iterator[Index]:
        """Hold the store lock, give the index, and write it back if it was changed and nothing was raised."""
        with hold_lock(self.lock):
            index = self._read()
            before = _render(index)
            yield index
            after = _render(index)
            if after != before:
                write_file(self._path, after)

    def read_record(self, image_id: str) -> dict[str, Any] | None:
        """The record of an image, or None. Not to be changed: it is kept for the next one who asks."""
        return self._kept.read(self.record_path(image_id), lambda: self._read_record(image_id))

    def _read_record(self, image_id: str) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads(Path(self.record_path(image_id)).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return record

    def write_record(self, image_id: str, record: Mapping[str, Any]) -> None:
        """Store the record of an image. It becomes visible with `Index.add`."""
        write_file(Path(self.record_path(image_id)), json.dumps(record, separators=(",", ":")).encode())

    def remove_record(self, image_id: str) -> None:
        """Remove a record; absent is fine."""
        with suppress(FileNotFoundError):
            os.unlink(self.record_path(image_id))

    def list_records(self) -> set[str]:
        """Identifiers of every record on disk, in the index or not."""
        if not self._records.is_dir():
            return set()
        return {f"sha256:{one.name[:-5]}" for one in self._records.iterdir() if one.name.endswith(".json")}

    def record_path(self, image_id: str) -> str:
        """Where the record of an image is."""
        return f"{self._records}/{image_id.removeprefix('sha256:')}.json"


def _render(index: Index) -> bytes:
    raw: dict[str, Any] = {
        "version": VERSION,
        "tags": index.tags,
        "digests": index.digests,
        "images": sorted(index.images),
    }
    raw["moments"] = {
        name: found for name, found in index.moments.items() if name in index.tags or name in index.digests
    }
    if index.groups:
        raw["groups"] = {name: members for name, members in index.groups.items() if name in index.tags}
    return json.dumps(raw, indent=1, sort_keys=True).encode()
