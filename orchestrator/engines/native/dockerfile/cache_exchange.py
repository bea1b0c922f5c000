"""``cache_from`` and ``cache_to``: steps that one machine has performed, for another one.

A cache travels as an image: its layers are those of the steps, its configuration has one field more, with the key of
each step and the positions of its layers. The form is this project's own. ``inline`` puts the same field into the
configuration of the image that is built; ``registry`` (``ref=``) reads both kinds, and writes an image of the cache
alone; ``local`` (``src=``, ``dest=``) does so with an OCI layout in a directory. With ``mode=max`` the steps of all
stages go along, not only those of the image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orchestrator.engines.native.dockerfile.cache import FIELD, StepRecord
from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.errors import EngineError, StackError

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.cache import StepCache
    from orchestrator.engines.native.dockerfile.narrator import Narrator
    from orchestrator.engines.native.dockerfile.perform import LayerMaker
    from orchestrator.engines.native.dockerfile.solve import Solver
    from orchestrator.engines.native.dockerfile.sources.site import BuildSite
    from orchestrator.engines.native.images.content import Cancel
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.platform import Platform
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.images.workspace import Workspace

_IMPORTS: Final = {"registry": "ref", "local": "src"}
_EXPORTS: Final = {"registry": "ref", "local": "dest", "inline": ""}


class CacheSpec(NamedTuple):
    """One entry: its `kind`, the reference or directory, and further options."""

    kind: str
    place: str
    options: Mapping[str, str]


def parse_cache_specs(entries: Sequence[str], *, exporting: bool, warn: Callable[[str], None]) -> list[CacheSpec]:
    """Read ``type=...,key=value`` entries, or bare references. What is not supported is told, and left out.

    Raises BuildError for an entry that lacks what it needs.
    """
    known = _EXPORTS if exporting else _IMPORTS
    name = "cache_to" if exporting else "cache_from"
    found = []
    for entry in entries:
        pairs = [part.partition("=") for part in entry.split(",")]
        options = {key.strip().lower(): value.strip() for key, equals, value in pairs if equals}
        if "type" not in options:
            bare = "=" not in entry
            options = {"type": "registry", "ref": entry} if bare else {"type": "registry", **options}
        kind = options.pop("type")
        if kind not in known:
            warn(f"{name}: a cache of type {kind} is not supported and left out; there are {', '.join(known)}")
            continue
        place = options.get(known[kind], "")
        if known[kind] and not place:
            raise BuildError(f"{name}: {entry} needs {known[kind]}=...", hint=f"type={kind},{known[kind]}=...")
        found.append(CacheSpec(kind, place, options))
    return found


# -- out -------------------------------------------------------------------------------------------------------------


def describe_steps(
    solver: Solver, maker: LayerMaker, cache: StepCache, stages: Sequence[int], layers: Sequence[str]
) -> dict[str, Any]:
    """The field for an image with `layers` (identifiers, base first): the steps of `stages` that these layers hold."""
    position = {layer: number for number, layer in reversed(list(enumerate(layers)))}
    finals = solver.list_finals()
    steps, contents = [], {}
    for index in stages:
        for step, key, chain in solver.stage(index).list_results():
            record = cache.peek(key)
            if record is None or any(one not in position for one in chain.layers):
                continue
            whole = chain.layers[-1:] if maker.stands_alone(step) else chain.layers
            steps.append(
                {
                    "key": key,
                    "alias": record.alias or record.layer,
                    "chain": [position[one] for one in whole],
                    "created": record.created,
                    "text": record.text,
                }
            )
            contents.update(maker.list_contents(step, finals))
    return {"steps": steps, "contents": contents}


def export_cache(
    spec: CacheSpec,
    solver: Solver,
    maker: LayerMaker,
    cache: StepCache,
    line: Sequence[int],
    platform: Platform,
    store: ImageStore,
    workspace: Workspace,
    cancel: Cancel,
) -> None:
    """Write the cache to a registry or a directory. Raises what a push raises."""
    stages = solver.list_stages() if spec.options.get("mode", "min") == "max" else line
    results = [chain for index in stages for _, _, chain in solver.stage(index).list_results()]
    layers = list(dict.fromkeys(layer for chain in results for layer in chain.layers))
    document = {
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": layers},
        "history": [],
        FIELD: describe_steps(solver, maker, cache, stages, layers),
    }
    known = {one.id for one in store.list_images()}
    image = store.commit_image(json.dumps(document, separators=(",", ":")).encode(), layers, workspace)
    try:
        if spec.kind == "registry":
            store.push(image.id, reference=spec.place, cancel=cancel)
        else:
            _write_layout(store, image, Path(spec.place), workspace, cancel)
    finally:
        if image.id not in known:
            store.remove_image(image.id, force=True)


def _write_layout(store: ImageStore, image: Image, folder: Path, workspace: Workspace, cancel: Cancel) -> None:
    import tarfile

    from orchestrator.engines.native.images.content import disk_error

    archive = workspace.make_directory("cache") / "cache.tar"
    store.save_archive([image.id], archive, cancel=cancel)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as members:
            members.extractall(folder, filter="data")
    except OSError as error:
        raise disk_error(error, folder) from error


# -- in --------------------------------------------------------------------------------------------------------------


def import_caches(
    specs: Sequence[CacheSpec],
    cache: StepCache,
    site: BuildSite,
    store: ImageStore,
    workspace: Workspace,
    narrator: Narrator,
    platform: str,
    cancel: Cancel,
) -> bool:
    """Enter the steps of other machines into the cache; whether there were any. What cannot be had is a warning."""
    any_found = False
    for spec in specs:
        try:
            with narrator.open(f"importing cache from {spec.place}"):
                any_found |= _import_cache(spec, cache, site, store, workspace, platform, cancel)
        except EngineError as error:
            if error.code == "cancelled":
                raise
            narrator.warn(f"the cache {spec.place} cannot be used: {error.message}")
        except StackError as error:
            narrator.warn(f"the cache {spec.place} cannot be used: {error.message}")
    return any_found


def _import_cache(
    spec: CacheSpec,
    cache: StepCache,
    site: BuildSite,
    store: ImageStore,
    workspace: Workspace,
    platform: str,
    cancel: Cancel,
) -> bool:
    known = {one.id for one in store.list_images()}
    found: Sequence[Image]
    if spec.kind == "registry":
        found = [_fetch(store, spec.place, platform, cancel)]
    else:
        found = store.load_archive(Path(spec.place), cancel=cancel)
    steps = 0
    try:
        for image in found:
            data = store.read_configuration(image.id)
            document = json.loads(data) if data is not None else {}
            steps += _enter_steps(document.get(FIELD) or {}, image, cache, site, store, workspace)
    finally:
        for image in found:
            if image.id not in known:
                store.remove_image(image.id, force=True)
    return steps > 0


def _fetch(store: ImageStore, text: str, platform: str, cancel: Cancel) -> Image:
    """Pull by digest: no name of this machine may come to mean another image."""
    from orchestrator.engines.native.images.platform import parse_platform
    from orchestrator.engines.native.images.pull import resolve_manifest
    from orchestrator.engines.native.images.reference import parse_reference
    from orchestrator.engines.native.images.transport import Transport

    reference = parse_reference(text)
    settings = store.load_settings()
    transport = Transport(settings, cancel=cancel)
    try:
        digest = resolve_manifest(transport, settings, reference, parse_platform(platform), cancel).digest
    finally:
        transport.close()
    return store.pull(f"{reference.name}@{digest}", platform=platform, cancel=cancel)


def _enter_steps(
    field: Mapping[str, Any],
    image: Image,
    cache: StepCache,
    site: BuildSite,
    store: ImageStore,
    workspace: Workspace,
) -> int:
    workspace.keep(image.diff_ids)
    entered = 0
    for raw in field.get("steps") or ():
        try:
            chain = tuple(image.diff_ids[number] for number in raw["chain"])
            record = StepRecord(
                key=str(raw["key"]),
                layer=chain[-1],
                chain=chain,
                names=store.layers.resolve_chain(chain, workspace.make_directory("chain")),
                created=str(raw["created"]),
                text=str(raw["text"]),
                alias=str(raw["alias"]),
            )
        except (KeyError, IndexError, TypeError) as error:
            raise BuildError("its list of steps is damaged") from error
        entered += 1
        if cache.find(record.key) is None:
            cache.save(record)
    for identity, digest in (field.get("contents") or {}).items():
        site.hashes.note(bytes.fromhex(identity), bytes.fromhex(digest))
    return entered
