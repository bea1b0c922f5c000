"""Makes the layer of one step: COPY, WORKDIR and RUN over the layers below, each in a workspace of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.dockerfile.cache import StepCache, StepRecord, choose_layer_id, compute_key
from orchestrator.engines.native.dockerfile.chain import SCRATCH, Chain
from orchestrator.engines.native.dockerfile.failures import BuildError
from orchestrator.engines.native.dockerfile.site import BuildSite, SourceRoot
from orchestrator.engines.native.dockerfile.steps import CopyStep, Origin, RunMount, RunStep, Step, WorkdirStep
from orchestrator.engines.native.dockerfile.trees import ShownTrees
from orchestrator.engines.native.images.content import Cancel, check_cancel, disk_error, remove_tree
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.copying import CopyPlan
    from orchestrator.engines.native.dockerfile.layering import Bench
    from orchestrator.engines.native.dockerfile.narrator import Vertex
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.engines.native.dockerfile.runner import Runner
    from orchestrator.engines.native.dockerfile.solve import StageResult
    from orchestrator.engines.native.dockerfile.supplies import Supplies
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.images.workspace import Workspace
    from orchestrator.source import Location

_VERSION = 1
"""Changes when the same step comes to another layer than it did with an older version of this program."""


class _Unseen(Exception):
    """A path was asked for that is not mounted here."""


def _refuse() -> Path:
    raise _Unseen


class LayerMaker:
    """The performer of :class:`.solve.Solver`. Thread-safe."""

    def __init__(
        self,
        store: ImageStore,
        cache: StepCache,
        workspace: Workspace,
        site: BuildSite,
        request: BuildRequest,
        supplies: Supplies,
        runner: Runner,
    ) -> None:
        self.layers = store.layers
        self._cache = cache
        self._workspace = workspace
        self._site = site
        self._request = request
        self._supplies = supplies
        self._runner = runner
        self._digests: dict[tuple[int, str], str] = {}
        self._copies: dict[int, CopyStep] = {}
        self._plans: dict[int, CopyPlan] = {}
        self._trees = ShownTrees(workspace)
        self._lock = Lock()

    # -- keys --------------------------------------------------------------------------------------------------------

    def digest_sources(self, step: Step, finals: Mapping[int, Chain | None]) -> str | None:
        """See `solve.Performer`."""
        try:
            return self._digest(step, finals, look=False)
        except _Unseen:
            return None

    def digest_results(self, step: Step, results: Mapping[int, StageResult]) -> str:
        """See `solve.Performer`."""
        return self._digest(step, {index: one.chain for index, one in results.items()}, look=True)

    def _digest(self, step: Step, chains: Mapping[int, Chain | None], *, look: bool) -> str:
        if isinstance(step, CopyStep):
            return self._digest_copy(step, chains, look)
        if isinstance(step, RunStep):
            return compute_key([self._digest_mount(one, chains, look) for one in step.mounts])
        return ""

    def _digest_mount(self, mount: RunMount, chains: Mapping[int, Chain | None], look: bool) -> str:
        if mount.origin is None:
            return ""
        if mount.type == "bind":
            with self._lock:
                copy = self._copies.get(id(mount))
                if copy is None:
                    copy = self._copies[id(mount)] = _copy_of_mount(mount.origin, mount.source, mount.location)
            return self._digest_copy(copy, chains, look)
        if mount.origin.kind in ("context", "named"):
            return mount.origin.name
        return self._find_chain(mount.origin, chains).identity

    def _digest_copy(self, step: CopyStep, chains: Mapping[int, Chain | None], look: bool) -> str:
        chain: Chain | None = None
        local = needs_origin(step)
        if local and not self._supplies.is_tree(step.origin.kind, step.origin.name):
            chain = self._find_chain(step.origin, chains)
        key = (id(step), chain.identity if chain is not None else "")
        with self._lock:
            known = self._digests.get(key)
        if known is not None:
            return known
        if chain is None:
            source = self._supplies.open_tree(step.origin) if local else None
            plan = self._plan(step, source)
            digest = plan.digest
            with self._lock:
                self._plans[id(step)] = plan
        else:
            digest = self._digest_layers(step, chain, look)
        with self._lock:
            self._digests[key] = digest
        return digest

    def _digest_layers(self, step: CopyStep, chain: Chain, look: bool) -> str:
        if not look:
            name = self._supplies.describe(step.origin)
            return self._plan(step, SourceRoot(_refuse, name=name, identity=chain.identity)).digest
        from orchestrator.engines.native.dockerfile.layering import call_with_mounts

        source = self._view(step.origin, chain)
        return call_with_mounts(lambda: self._plan(step, source).digest)

    def _view(self, origin: Origin, chain: Chain) -> SourceRoot:
        """The files of a chain, mounted once somebody looks at them. Only within `call_with_mounts`."""
        mounted: list[Path] = []

        def mount() -> Path:
            from orchestrator.engines.native.dockerfile.layering import mount_view

            if not mounted:
                folder = self._workspace.make_directory("view")
                mount_view(chain.lower, folder)
                mounted.append(folder)
            return mounted[0]

        return SourceRoot(mount, name=self._supplies.describe(origin), identity=chain.identity)

    def list_contents(self, step: Step, chains: Mapping[int, Chain | None]) -> dict[str, str]:
        """What is remembered of the contents that a step takes from layers, in hexadecimal digits by identity."""
        from orchestrator.engines.native.dockerfile.copying import identify_content

        found = {}
        for copy in self._list_copies(step):
            if not needs_origin(copy) or self._supplies.is_tree(copy.origin.kind, copy.origin.name):
                continue
            try:
                identity = identify_content(self._find_chain(copy.origin, chains).identity, copy)
            except _Unseen:
                continue
            digest = self._site.hashes.recall(identity)
            if digest is not None:
                found[identity.hex()] = digest.hex()
        return found

    def _list_copies(self, step: Step) -> list[CopyStep]:
        if isinstance(step, CopyStep):
            return [step]
        mounts = step.mounts if isinstance(step, RunStep) else ()
        return [
            _copy_of_mount(one.origin, one.source, one.location)
            for one in mounts
            if one.type == "bind" and one.origin is not None
        ]

    def _find_chain(self, origin: Origin, chains: Mapping[int, Chain | None]) -> Chain:
        if origin.kind == "stage":
            chain = chains.get(int(origin.name))
            if chain is None:
                raise _Unseen
            return chain
        return self._supplies.open_chain(origin)

    def _plan(self, step: CopyStep, source: SourceRoot | None) -> CopyPlan:
        from orchestrator.engines.native.dockerfile.copying import plan_copy

        return plan_copy(step, source, self._site)

    def render_meaning(self, step: Step) -> Any:
        """See `solve.Performer`."""
        always = (_VERSION, type(step).__name__, self._request.source_date_epoch)
        if isinstance(step, WorkdirStep):
            return (*always, step.path, step.user)
        if isinstance(step, CopyStep):
            return (*always, step.link)
        assert isinstance(step, RunStep)
        return (*always, *self._runner.render_meaning(step))

    def protect(self, layers: Sequence[str]) -> None:
        """See `solve.Performer`."""
        self._workspace.keep(layers)

    def stands_alone(self, step: Step) -> bool:
        """See `solve.Performer`."""
        if not isinstance(step, CopyStep) or not step.link:
            return False
        from orchestrator.engines.native.dockerfile.ownership import is_numeric

        return step.chown is None or is_numeric(step.chown)

    # -- layers ------------------------------------------------------------------------------------------------------

    def perform(
        self,
        step: Step,
        key: str,
        chain: Chain,
        results: Mapping[int, StageResult],
        vertex: Vertex,
        *,
        anew: bool,
        cancel: Cancel,
    ) -> StepRecord:
        """See `solve.Performer`."""
        from orchestrator.engines.native.dockerfile.layering import finish_layer, make_bench

        layer_id = choose_layer_id(key, lambda one: self.layers.find_layer(one) is not None, anew=anew)
        alone = self.stands_alone(step)
        self._workspace.keep((*chain.layers, layer_id))
        made = self.layers.find_layer(layer_id)
        if made is None:
            folder = self._workspace.make_directory("step")
            try:
                bench = make_bench(folder)
                chains = {index: one.chain for index, one in results.items()}
                self._write(step, bench, chain, chains, vertex, cancel)
                check_cancel(cancel)
                clamp = self._request.source_date_epoch
                measured = finish_layer(bench.upper, () if alone else chain.lower, clamp=clamp)
                moment = render_time(clamp)
                made = self.layers.adopt_directory(bench.upper, layer_id, measured=measured, created=moment)
            except OSError as error:
                raise _explain(error, step, folder) from error
            finally:
                remove_tree(folder)
        else:
            vertex.mark_cached()
        whole = (SCRATCH if alone else chain).add(layer_id, self.layers)
        record = StepRecord(
            key=key,
            layer=layer_id,
            chain=whole.layers,
            names=whole.names,
            created=made.record.get("created") or render_time(self._request.source_date_epoch),
            text=step.text,
        )
        self._cache.save(record)
        return record

    def _write(
        self,
        step: Step,
        bench: Bench,
        chain: Chain,
        chains: Mapping[int, Chain | None],
        vertex: Vertex,
        cancel: Cancel,
    ) -> None:
        from orchestrator.engines.native.dockerfile.layering import call_with_mounts

        if isinstance(step, CopyStep):
            call_with_mounts(lambda: self._copy(step, bench, chain, chains))
        elif isinstance(step, WorkdirStep):
            call_with_mounts(lambda: self._make_working_dir(step, bench, chain))
        elif isinstance(step, RunStep):

            def open_origin(origin: Origin, path: str, folder: Path) -> Path:
                return self._open_origin(origin, path, folder, chains, step)

            self._runner.run(step, bench, chain.lower, vertex, open_origin, cancel)
        else:
            raise BuildError(f"{step.text}: not a step that makes a layer", location=step.location)

    def _copy(self, step: CopyStep, bench: Bench, chain: Chain, chains: Mapping[int, Chain | None]) -> None:
        from orchestrator.engines.native.dockerfile.copying import perform_copy
        from orchestrator.engines.native.dockerfile.layering import mount_bench

        with self._lock:  # its sources have been looked through for the key
            plan = self._plans.get(id(step))
        plan = plan or self._plan(step, self._open_source(step, chains))
        epoch = self._request.source_date_epoch
        if step.link and not plan.needs_users:
            perform_copy(plan, bench.upper, link=True, epoch=epoch)
            return
        mount_bench(bench, chain.lower)
        try:
            if step.link:
                # A layer of its own all the same: only names of users are looked up in the stage.
                apart = bench.folder / "apart"
                apart.mkdir(mode=0o755)
                perform_copy(plan, apart, link=True, users=bench.root, epoch=epoch)
            else:
                perform_copy(plan, bench.root, epoch=epoch)
        finally:
            _unmount(bench.root)
        if step.link:
            os.rename(bench.upper, bench.folder / "unused")
            os.rename(bench.folder / "apart", bench.upper)

    def _open_source(self, step: CopyStep, chains: Mapping[int, Chain | None]) -> SourceRoot | None:
        if not needs_origin(step):
            return None
        if self._supplies.is_tree(step.origin.kind, step.origin.name):
            return self._supplies.open_tree(step.origin)
        return self._view(step.origin, self._find_chain(step.origin, chains))

    def _open_origin(
        self, origin: Origin, path: str, folder: Path, chains: Mapping[int, Chain | None], step: RunStep
    ) -> Path:
        """What a mount takes from, as a directory; called within the step's mount namespace."""
        from orchestrator.engines.native.dockerfile.layering import mount_view

        if not self._supplies.is_tree(origin.kind, origin.name):
            mount_view(self._find_chain(origin, chains).lower, folder)
            return folder
        from orchestrator.engines.native.dockerfile.copying import perform_copy

        source = self._supplies.open_tree(origin)
        copy = _copy_of_mount(origin, path, step.location)
        if source is None:
            self._plan(copy, None)  # says that there is no context
            return folder
        try:
            return self._trees.open(
                origin.name, path, source, lambda into: perform_copy(self._plan(copy, source), into)
            )
        except (FileNotFoundError, NotADirectoryError):
            self._plan(copy, source)  # says what is missing
            raise

    def _make_working_dir(self, step: WorkdirStep, bench: Bench, chain: Chain) -> None:
        from orchestrator.engines.native.dockerfile.layering import mount_bench
        from orchestrator.engines.native.dockerfile.views import resolve_in_root
        from orchestrator.engines.native.users import resolve_identity
        from orchestrator.errors import NotFound

        mount_bench(bench, chain.lower)
        try:
            root = str(bench.root)
            identity = resolve_identity(root, step.user, path="USER") if step.user else None
            made = root
            for part in resolve_in_root(root, step.path, missing_ok=True).split("/"):
                made = f"{made}/{part}"
                if part and not os.path.isdir(made):
                    os.mkdir(made, 0o755)
                    os.chmod(made, 0o755)
                    if identity is not None:
                        os.chown(made, identity.uid, identity.gid)
        except NotFound as error:
            raise BuildError(error.message, location=step.location, hint=error.hint) from error
        except (FileExistsError, NotADirectoryError) as error:
            raise BuildError(
                f"WORKDIR {step.path}: a file stands in the way", location=step.location, hint="remove it before"
            ) from error
        finally:
            _unmount(bench.root)


def _explain(error: OSError, step: Step, folder: Path) -> StackError:
    known = disk_error(error, folder)
    if isinstance(known, StackError):
        return known
    where = str(error.filename or "").removeprefix(str(folder))
    said = f"{error.strerror} ({where})" if where else str(error.strerror or error)
    return BuildError(f"{step.text}: {said}", location=step.location)


def _unmount(target: Path) -> None:
    from orchestrator.engines.native import host

    host.unmount(str(target))


def _copy_of_mount(origin: Origin, path: str, location: Location) -> CopyStep:
    """The COPY that would bring what a bind mount shows: its content key is the mount's."""
    text = f"RUN --mount=type=bind,source={path or '/'}"
    return CopyStep(
        location=location,
        text=text,
        instruction="COPY",
        sources=(path or "/",),
        destination=path or "/",
        origin=origin,
        unpack=False,
    )


def needs_origin(step: CopyStep) -> bool:
    """Whether anything is taken from the step's origin: heredocs and URLs are not."""
    if step.instruction == "COPY":
        return bool(step.sources)
    from orchestrator.engines.native.dockerfile.values import is_remote

    return not all(is_remote(one) for one in step.sources)


def render_time(epoch: int | None) -> str:
    """Now, or the given seconds since the epoch, as RFC 3339."""
    moment = time.time() if epoch is None else epoch
    seconds = int(moment)
    fraction = f".{int((moment - seconds) * 1e6):06d}" if epoch is None else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"
