"""The local image store: what exists, under which names, and what may go. Safe between processes and after a crash.

Lookups read two small JSON files and import nothing heavy; everything that moves bytes lives in its own module and is
imported by the method that needs it. All methods block; an event loop calls them through a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from orchestrator.engines.native.images.build_cache import BuildCache, PrunedCache
from orchestrator.engines.native.images.content import (
    BlobStore,
    Cancel,
    compute_digest,
    disk_error,
    hold_shared_lock,
)
from orchestrator.engines.native.images.failures import ImageInUse, ImageMissing
from orchestrator.engines.native.images.image import Image, RemovedImage, parse_image_config
from orchestrator.engines.native.images.index import Index, IndexFile, drop_names
from orchestrator.engines.native.images.kept import Kept
from orchestrator.engines.native.images.layers import EMPTY_LAYER, LayerStore, list_chain_keys
from orchestrator.engines.native.images.moments import note_moment, read_moments, sweep_marks
from orchestrator.engines.native.images.reference import parse_reference, render_familiar
from orchestrator.engines.native.images.reserve import keep_reserve, release_reserve
from orchestrator.engines.native.images.workspace import Workspace, open_workspace, read_kept, take_stale

if TYPE_CHECKING:
    from orchestrator.engines.native.images.pull import PullProgress
    from orchestrator.engines.native.images.registries import RegistrySettings
    from orchestrator.engines.native.layout import Layout


Used = Collection[str] | Callable[[], Collection[str]]
"""Identifiers of images that containers use; as a function it is asked while nobody can begin to use another."""


class ImageStore:
    """The images below ``layout.images``. Constructing it does no I/O.

    `settings` says how registries are reached; by default it is read from the configuration files when first needed.
    `cache` holds the records of builds: layers that they name stay although no image has them (see `BuildCache`).
    """

    def __init__(self, layout: Layout, *, settings: RegistrySettings | None = None) -> None:
        self.root = layout.images
        self.blobs = BlobStore(self.root / "blobs")
        self.layers = LayerStore(self.root)
        self.cache = BuildCache(self.root / "cache")
        self._index = IndexFile(self.root)
        self._work = self.root / "work"
        self._settings = settings
        self._configs = Kept()

    # -- lookups -----------------------------------------------------------------------------------------------------

    def resolve_image(self, name: str) -> Image | None:
        """The image that `name` means: a reference, a full or short identifier, or a digest. None if there is none.

        Raises InvalidReference for text that can be no name, AmbiguousImage for a short identifier of several.
        """
        index = self._index.load()
        image_id = index.find(name)
        return self._read_image(index, image_id) if image_id else None

    def require_image(self, name: str) -> Image:
        """Like resolve_image, but raises ImageMissing with the nearest known names."""
        image = self.resolve_image(name)
        if image is None:
            raise self._missing(name)
        return image

    def list_images(self) -> tuple[Image, ...]:
        """Every image, the newest first."""
        index = self._index.load()
        found = (self._read_image(index, one) for one in sorted(index.images))
        return tuple(sorted((one for one in found if one), key=lambda one: one.created, reverse=True))

    def read_configuration(self, image_id: str) -> bytes | None:
        """The OCI configuration blob of an image (history, rootfs, config), as it came."""
        return self.blobs.read(image_id)

    def load_index(self) -> Index:
        """Which names lead to which images now."""
        return self._index.load()

    def read_record(self, image_id: str) -> dict[str, Any]:
        """The stored record of an image. Raises ImageMissing."""
        record = self._index.read_record(image_id)
        if record is None:
            raise self._missing(image_id)
        return record

    # -- names -------------------------------------------------------------------------------------------------------

    def tag_image(self, image_id: str, reference: str) -> None:
        """Give an image (any name that resolves) another reference; it moves away from the image that had it."""
        parsed = parse_reference(reference)
        if parsed.digest:
            from orchestrator.engines.native.images.failures import InvalidReference

            raise InvalidReference(f"{reference!r} has a digest: a tag is a name without one")
        self.prepare()
        with self._index.change() as index:
            found = index.find(image_id)
            if found is None:
                raise self._missing(image_id)
            index.add_group(str(parsed), index.list_members(image_id) or [found])

    def note_moment(self, reference: str, kind: Literal["pulled", "built"], moment: float) -> None:
        """Remember when a name was last fetched from its registry, or built. A name that is gone is let be."""
        note_moment(self.root, self._index, parse_reference(reference).pinned, kind, moment)

    def tag_group(self, image_ids: Sequence[str], references: Sequence[str]) -> None:
        """Let each name stand for the images of several platforms: it leads to the first, an index of all is pushed."""
        self.prepare()
        with self._index.change() as index:
            for image_id in image_ids:
                if image_id not in index.images:
                    raise self._missing(image_id)
            for reference in references:
                index.add_group(str(parse_reference(reference)), image_ids)

    def list_group(self, name: str) -> tuple[Image, ...]:
        """The images that a name stands for: usually one, for several platforms one of each. Raises ImageMissing."""
        index = self._index.load()
        members = index.list_members(name)
        found = tuple(image for one in members if (image := self._read_image(index, one)) is not None)
        return found or (self.require_image(name),)

    def note_digest(self, image_id: str, repo_digest: str) -> None:
        """Remember the ``name@digest`` that an image has in a registry. An image that is gone is let be."""
        with self._index.change() as index:
            if image_id in index.images:
                index.add(image_id, digests=(repo_digest,))

    def untag_image(self, reference: str) -> RemovedImage:
        """Remove one reference; the image itself stays, unnamed if that was its last one."""
        canonical = str(parse_reference(reference))
        self.prepare(removing=True)
        with self._index.change() as index:
            if canonical not in index.tags and canonical not in index.digests:
                raise self._missing(reference)
            index.drop_reference(canonical)
        return RemovedImage(untagged=(canonical,))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Nothing is removed meanwhile: for whoever looks an image up and writes down, elsewhere, that it is used."""
        if not self.root.is_dir():
            yield
            return
        with hold_shared_lock(self._index.lock):
            yield

    # -- removal -----------------------------------------------------------------------------------------------------

    def remove_image(
        self, name: str, *, force: bool = False, in_use: Used = (), keep_untagged: bool = False
    ) -> RemovedImage:
        """Remove a reference, and with the last one the image and the layers that nobody else uses.

        `in_use` are identifiers of images that containers use (or what lists them, see `hold`): these are refused, or
        with `force` lose their names only. Raises ImageMissing and ImageInUse. `keep_untagged` removes names only.
        """
        self.prepare(removing=True)
        with self._index.change() as index:
            image_id = index.find(name)
            if image_id is None:
                raise self._missing(name)
            groups = dict(index.groups)
            removed = drop_names(index, image_id, name, force)
            if keep_untagged:
                return RemovedImage(untagged=removed)
            # With a name for several platforms, the images of the others go, too.
            others = {one for key, members in groups.items() if key not in index.groups for one in members}
            used = set(in_use() if callable(in_use) else in_use)
            gone = sorted(({image_id} | others) - index.list_named() - (used - {image_id}))
            if image_id in used and image_id in gone:
                gone.remove(image_id)
                if not force:
                    raise ImageInUse(
                        f"the image {render_familiar(name)} is used by a container",
                        resource=name,
                        operation="remove image",
                        hint="remove the container first, or force the removal of the name alone",
                    )
            for one in gone:
                index.drop_image(one)
        return RemovedImage(removed, tuple(gone), self.collect_garbage() if gone else 0)

    def prune(self, in_use: Used = (), *, unnamed_only: bool = True) -> RemovedImage:
        """Remove images that no name leads to (or, with `unnamed_only=False`, all) and that no container uses."""
        deleted, untagged = [], []
        self.prepare(removing=True)
        with self._index.change() as index:
            named = index.list_named() if unnamed_only else set()
            used = set(in_use() if callable(in_use) else in_use)
            for image_id in sorted(index.images - named - used):
                untagged += [*index.references(image_id), *index.repo_digests(image_id)]
                index.drop_image(image_id)
                deleted.append(image_id)
        return RemovedImage(tuple(untagged), tuple(deleted), self.collect_garbage())

    def prune_cache(self, *, used_before: float | None = None, keep_bytes: int | None = None) -> PrunedCache:
        """Forget results of builds: those last used before a moment (seconds since the epoch), and the longest unused
        until what only the cache holds takes at most `keep_bytes`. Without either: all of them.

        What a build under way has announced in its workspace stays on disk.
        """
        from orchestrator.engines.native.images.build_cache import choose_prunable
        from orchestrator.engines.native.images.garbage import list_image_layers

        self.prepare(removing=True)
        with self._index.change() as index:
            protected = list_image_layers(index, self._index)
            records = self.cache.list_records()
            chosen = choose_prunable(
                records, self.layers, used_before=used_before, keep_bytes=keep_bytes, protected=protected
            )
            for record in chosen:
                self.cache.remove(record.key)
        return PrunedCache(tuple(one.key for one in chosen), self.collect_garbage())

    def collect_garbage(self) -> int:
        """Remove layers, blobs and temporary files that nothing needs. Returns the bytes of layers given back.

        Safe while others pull, build or remove: what a live operation has announced stays.
        """
        if not self.root.is_dir():
            return 0
        from orchestrator.engines.native.images.garbage import list_used, remove_litter

        self.prepare()
        reclaimed = 0
        with open_workspace(self._work, self._index.lock) as workspace:
            with self._index.change() as index:
                take_stale(self._work, workspace.path)
                used_layers, used_blobs = list_used(index, self._index, self.layers, self.cache, read_kept(self._work))
                for name in sorted(self.layers.list_names() - used_layers):
                    layer = self.layers.read_layer(name)
                    if self.layers.discard_layer(name, workspace.path):
                        reclaimed += layer.size if layer else 0
                for digest in self.blobs.list_digests():
                    if digest not in used_blobs:
                        self.blobs.remove(digest)
                for image_id in self._index.list_records() - index.images:
                    self._index.remove_record(image_id)
                sweep_marks(self.root, index)
            remove_litter(self.root)
        return reclaimed

    # -- entering images (used by pull, import, load and build) ------------------------------------------------------

    def prepare(self, *, removing: bool = False) -> None:
        """Make the store's folders if they are not there. Unavailable without root: layers hold other users' files."""
        from orchestrator.engines.native.privilege import require_root

        require_root("change images")
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._work.mkdir(mode=0o700, exist_ok=True)
        self.layers.prepare()
        self._index.prepare()
        (release_reserve if removing else keep_reserve)(self.root)

    @contextmanager
    def open_workspace(self) -> Iterator[Workspace]:
        """Temporary files and protection from the collector for one operation; cleans up after the dead."""
        try:
            self.prepare()
            with open_workspace(self._work, self._index.lock) as workspace:
                with self._index.change():
                    take_stale(self._work, workspace.path)
                yield workspace
        except OSError as error:
            raise disk_error(error, self.root) from error

    def commit_image(
        self,
        configuration: bytes,
        layer_ids: Sequence[str],
        workspace: Workspace,
        *,
        references: Sequence[str] = (),
        repo_digests: Sequence[str] = (),
        blobs: Mapping[str, bytes] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Image:
        """Enter an image whose layers (`layer_ids`, base first) are all in the layer store.

        `configuration` is an OCI image configuration; its digest becomes the identifier. `blobs` are further documents
        to keep (manifest, index), `annotations` those of the manifest that it leaves with. It becomes visible whole.
        """
        import json

        workspace.keep(
            (*layer_ids, EMPTY_LAYER, *list_chain_keys(layer_ids), compute_digest(configuration), *(blobs or ()))
        )
        names = self.layers.resolve_chain(layer_ids, workspace.make_directory("chain"))
        if not names:  # an image of configuration alone; overlayfs needs something to stand on
            names = (self.layers.adopt_directory(workspace.make_directory("empty"), EMPTY_LAYER).name,)
        self.layers.settle(names)
        image_id = self.blobs.write(configuration)
        kept = [self.blobs.write(data, digest=digest) for digest, data in (blobs or {}).items()]
        raw = json.loads(configuration)
        record = {
            "id": image_id,
            "config": raw.get("config") or {},
            "created": raw.get("created") or "",
            "platform": "/".join(filter(None, (raw.get("os"), raw.get("architecture"), raw.get("variant")))),
            "layers": names,
            "diff_ids": list(layer_ids),
            "size": sum(layer.size for layer in map(self.layers.read_layer, names) if layer),
        }
        with self._index.change() as index:
            before = (self._index.read_record(image_id) or {}) if image_id in index.images else {}
            record["blobs"] = sorted({*before.get("blobs", ()), *kept})
            record |= {"annotations": dict(annotations)} if annotations else {}
            if record != before:
                self._index.write_record(image_id, record)
            index.add(image_id, digests=tuple(repo_digests))
            for reference in references:
                index.add(image_id, str(parse_reference(reference)))
            image = self._read_image(index, image_id)
        assert image is not None
        return image

    # -- moving bytes ------------------------------------------------------------------------------------------------

    def import_rootfs(
        self,
        source: BinaryIO | Path,
        *,
        reference: str | None,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str | None = None,
        cancel: Cancel | None = None,
    ) -> Image:
        """Make an image with one layer from a root filesystem tar (plain, gzip, zstd, bzip2 or xz).

        `changes` are Dockerfile instructions (CMD, ENV ...). Raises InvalidChange, InvalidImage, UnsafeLayer.
        """
        from orchestrator.engines.native.images.importer import import_rootfs

        return import_rootfs(self, source, reference, changes, message, platform, cancel)

    def load_archive(self, source: BinaryIO | Path, *, cancel: Cancel | None = None) -> tuple[Image, ...]:
        """Load the images of an OCI layout (archive or folder) or a docker-archive. Raises InvalidImage."""
        from orchestrator.engines.native.images.archive import load_archive

        return load_archive(self, source, cancel)

    def save_archive(
        self,
        names: Sequence[str],
        target: BinaryIO | Path,
        *,
        form: Literal["both", "oci", "docker"] = "both",
        cancel: Cancel | None = None,
    ) -> None:
        """Write images as one archive: an OCI layout, a docker-archive, or one that is both at once."""
        from orchestrator.engines.native.images.save import save_archive

        save_archive(self, names, target, cancel, form)

    def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        progress: Callable[[PullProgress], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Image:
        """Fetch an image from its registry; layers that are here already are not fetched.

        `platform` is ``os/architecture[/variant]``, by default this machine's. `progress` is called from several
        threads. Raises ImageMissing, Unauthorized, RateLimited, RegistryUnreachable, TlsFailure, InvalidImage ...
        """
        from orchestrator.engines.native.images.pull import pull_image

        self.prepare()
        return pull_image(self, self.load_settings(), reference, platform, progress, cancel)

    def push(
        self,
        name: str,
        *,
        reference: str | None = None,
        progress: Callable[[PullProgress], None] | None = None,
        cancel: Cancel | None = None,
    ) -> str:
        """Send an image to the registry of `reference` (by default `name`). Returns the manifest's digest."""
        from orchestrator.engines.native.images.push import push_image

        return push_image(self, self.load_settings(), name, reference or name, progress, cancel)

    def load_settings(self) -> RegistrySettings:
        """The registry settings, read once."""
        if self._settings is None:
            from orchestrator.engines.native.images.registries import load_registry_settings

            self._settings = load_registry_settings()
        return self._settings

    def fsck(self, *, deep: bool = False) -> list[str]:
        """Everything that is inconsistent in the store; `deep` also writes every layer's tar again and compares."""
        from orchestrator.engines.native.images.fsck import check_store

        if not self.root.is_dir():
            return []
        with self._index.change() as index:
            return check_store(self, index, deep=deep)

    def repair(self, *, deep: bool = False) -> list[str]:
        """Take out everything that `fsck` complains of. Returns the names of the images that are lost."""
        from orchestrator.engines.native.images.fsck import repair_store

        with self.open_workspace() as workspace, self._index.change() as index:
            return repair_store(self, index, workspace.path, deep=deep)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _read_image(self, index: Index, image_id: str) -> Image | None:
        record = self._index.read_record(image_id)
        if record is None:
            return None
        return Image(
            id=image_id,
            references=index.references(image_id),
            repo_digests=index.repo_digests(image_id),
            config=self._configs.read(self._index.record_path(image_id), lambda: parse_image_config(record["config"])),
            # overlayfs refuses a directory twice; below its first occurrence it would show nothing anyway.
            layers=tuple(self.layers.directory(name) for name in dict.fromkeys(reversed(record["layers"]))),
            diff_ids=tuple(record["diff_ids"]),
            size=record["size"],
            created=record["created"],
            platform=record["platform"],
            moments=read_moments(self.root, index, image_id),
        )

    def _missing(self, name: str) -> ImageMissing:
        return ImageMissing.among(name, [render_familiar(one) for one in self._index.load().tags])
