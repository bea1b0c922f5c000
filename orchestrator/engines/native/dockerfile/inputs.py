"""Where files and layers of a build come from besides its own stages: contexts and images, each opened once.

A context of files is a *tree*; an image (also one that an additional context names) is a *chain* of layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.engines.native.dockerfile.chain import SCRATCH, Chain, chain_of_image
from orchestrator.engines.native.dockerfile.front.problems import suggest_name
from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.engines.native.images.failures import ImageMissing, InvalidReference
from orchestrator.engines.native.images.platform import parse_platform, rank_platform
from orchestrator.errors import Diagnostic, EngineError

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import Base, Origin
    from orchestrator.engines.native.dockerfile.narrator import Narrator
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.engines.native.dockerfile.sources.contexts import Context
    from orchestrator.engines.native.dockerfile.sources.site import BuildSite, SourceRoot
    from orchestrator.engines.native.images.content import Cancel
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.images.workspace import Workspace
    from orchestrator.source import Location

_IMAGE_SCHEMES = ("docker-image://", "oci-layout://")
_ATTEMPTS = 5  # at an image that somebody else removes at the same time


class Foundation(NamedTuple):
    """What a stage stands on: layers, and the whole configuration of the image that they are from (empty: none)."""

    chain: Chain
    document: Mapping[str, Any]


class BuildInputs:
    """The contexts and images of one build. Thread-safe."""

    def __init__(
        self,
        store: ImageStore,
        workspace: Workspace,
        request: BuildRequest,
        platform: str,
        narrator: Narrator,
        cancel: Cancel,
        site: BuildSite,
    ) -> None:
        self._store = store
        self._workspace = workspace
        self._request = request
        self._platform = platform
        self._narrator = narrator
        self._cancel = cancel
        self._site = site
        self._images: dict[tuple[str, str], Image] = {}
        self._contexts: dict[str | None, Context] = {}
        self._locks: dict[Any, Lock] = {}
        self._lock = Lock()
        self.stage_names: tuple[str, ...] = ()
        """What the Dockerfile calls its stages, by number (empty: nothing): for messages."""

    def _hold(self, key: Any) -> Lock:
        with self._lock:
            return self._locks.setdefault(key, Lock())

    # -- trees -------------------------------------------------------------------------------------------------------

    def is_tree(self, kind: str, name: str) -> bool:
        """Whether an origin or a base is a context of files."""
        if kind == "named":
            return not self._request.contexts[name].startswith(_IMAGE_SCHEMES)
        return kind == "context"

    def open_tree(self, origin: Origin) -> SourceRoot | None:
        """The files of a context; None for a build without one. Raises ContextError."""
        return self.context(origin.name if origin.kind == "named" else None).source

    def context(self, name: str | None = None) -> Context:
        """The build context, or an additional one. Raises ContextError."""
        from orchestrator.engines.native.dockerfile.sources.contexts import open_build_context, open_named_context

        with self._hold(("context", name)):
            if name in self._contexts:
                return self._contexts[name]
            if name is None:
                found = open_build_context(self._request, self._site)
            else:
                source = self._request.contexts[name]
                found = open_named_context(name, source, self._site, platform=self._platform, workspace=self._workspace)
            self._contexts[name] = found
            return found

    def describe(self, origin: Origin) -> str:
        """What messages call an origin."""
        if origin.kind == "stage":
            number = int(origin.name)
            name = self.stage_names[number] if number < len(self.stage_names) else ""
            return f"the stage {name or number}"
        if origin.kind == "image":
            return f"the image {origin.name}"
        return f"the context {origin.name}" if origin.kind == "named" else "the build context"

    # -- chains ------------------------------------------------------------------------------------------------------

    def open_chain(self, origin: Origin, location: Location) -> Chain:
        """The layers of an image that files are taken from, by the step at `location`. Raises BuildError ..."""
        if self._is_scratch(origin.kind, origin.name):
            return SCRATCH
        try:
            return chain_of_image(self._require(self._name_of(origin.kind, origin.name), self._platform, location))
        except EngineError as error:
            if origin.kind == "image":
                self._suggest_stage(error, origin.name)
            raise

    def _suggest_stage(self, error: EngineError, name: str) -> None:
        """A name that is no stage is taken for an image: whoever misspelled a stage hears of a registry otherwise."""
        near = suggest_name(name, self.stage_names)
        if near and near not in error.hint:
            error.hint = f"{near} {error.hint}".strip()
            error.diagnostics = tuple(one._replace(hint=error.hint) for one in error.diagnostics)

    def open_base(self, base: Base) -> Foundation:
        """What a stage stands on that is not another stage; a directory counts as nothing. Raises BuildError ..."""
        import json

        if self._is_scratch(base.kind, base.name) or self.is_tree(base.kind, base.name):
            return Foundation(SCRATCH, {})
        image = self._require(self._name_of(base.kind, base.name), base.platform or self._platform, base.location)
        data = self._store.read_configuration(image.id)
        return Foundation(chain_of_image(image), json.loads(data) if data is not None else {})

    def identify(self, names: Iterable[str] | None) -> dict[str, str] | None:
        """The identifiers of images that were used for the build's own platform; None if one was not (or for None)."""
        found = {name: self._images.get((name, self._platform)) for name in names or ()}
        if names is None or None in found.values():
            return None
        return {name: image.id for name, image in found.items() if image is not None}

    def list_images(self) -> list[tuple[str, Image]]:
        """Every image that was opened, with what it was called."""
        return [(name, image) for (name, _), image in self._images.items()]

    @property
    def platform(self) -> str:
        """What is built for."""
        return self._platform

    def _is_scratch(self, kind: str, name: str) -> bool:
        """Whether nothing at all is meant: no image is called so."""
        if kind == "named":
            return self._request.contexts[name] == f"{_IMAGE_SCHEMES[0]}scratch"
        return kind == "scratch" or (kind == "image" and name == "scratch")

    def _name_of(self, kind: str, name: str) -> str:
        """The image that is meant: a reference, or the identifier of one that came from a layout."""
        return self.context(name).image if kind == "named" else name

    def _require(self, name: str, platform: str, location: Location | None) -> Image:
        with self._hold(("image", name)):
            found = self._images.get((name, platform))
            if found is None:
                found = self._images[name, platform] = self._find(name, platform, location)
            return found

    def _find(self, name: str, platform: str, location: Location | None) -> Image:
        for _ in range(_ATTEMPTS):
            image = self._obtain(name, platform, location)
            self._workspace.keep((image.id, *image.diff_ids))
            # Somebody may have removed it before it was protected; the name alone does not matter then.
            if self._store.read_configuration(image.id) is not None and self._store.layers.has_all(image.layers):
                return image
        return self._store.require_image(image.id)

    def _obtain(self, name: str, platform: str, location: Location | None) -> Image:
        try:
            image = self._store.resolve_image(name)
            if image is not None and not _serves(image, platform):
                image = None
            if image is None or (self._request.pull and not name.startswith("sha256:")):
                image = self._pull(name, platform, image)
            return image
        except (InvalidReference, ImageMissing) as error:
            raise BuildError(error.message, location=location, hint=error.hint, code=error.code) from error
        except EngineError as error:
            if location is not None and not error.diagnostics:
                said = error.message if name in error.message else f"{name}: {error.message}"
                error.diagnostics = (Diagnostic(error.code, said, location, hint=error.hint),)
            raise

    def _pull(self, name: str, platform: str, known: Image | None) -> Image:
        with self._narrator.open(f"[internal] load metadata for {name}") as vertex:
            done: dict[str, tuple[int, int]] = {}

            def report(one: Any) -> None:
                done[one.layer] = (one.current, one.total)
                vertex.status(name, sum(a for a, _ in done.values()), sum(b for _, b in done.values()))

            image = self._store.pull(name, platform=platform, progress=report, cancel=self._cancel)
            if known is not None and known.id == image.id:
                vertex.mark_cached()
            return image


def _serves(image: Image, platform: str) -> bool:
    if not image.platform:
        return True
    offered, wanted = parse_platform(image.platform), parse_platform(platform)
    return rank_platform(offered, wanted) is not None
