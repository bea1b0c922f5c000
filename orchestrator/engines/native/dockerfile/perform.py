"""Makes the layer of one step: COPY, WORKDIR and RUN over the layers below, each in a workspace of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.engines.native.dockerfile.cache import StepCache, StepRecord, choose_layer_id
from orchestrator.engines.native.dockerfile.chain import SCRATCH, Chain
from orchestrator.engines.native.dockerfile.front.steps import CopyStep, Origin, RunStep, Step, WorkdirStep
from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.engines.native.dockerfile.sources.site import BuildSite, SourceRoot
from orchestrator.engines.native.dockerfile.step_keys import StepKeys, copy_of_mount, needs_origin
from orchestrator.engines.native.images.content import check_cancel, disk_error
from orchestrator.engines.native.images.failures import DiskFull
from orchestrator.errors import Diagnostic, StackError

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.inputs import BuildInputs
    from orchestrator.engines.native.dockerfile.performing.layering import Bench
    from orchestrator.engines.native.dockerfile.performing.runner import Runner
    from orchestrator.engines.native.dockerfile.performing.trees import ShownTrees, Sweeper
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.engines.native.dockerfile.stage_work import StepTask
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.images.workspace import Workspace


class LayerMaker(StepKeys):
    """The performer of :class:`.solve.Solver`. Thread-safe."""

    def __init__(
        self,
        store: ImageStore,
        cache: StepCache,
        workspace: Workspace,
        site: BuildSite,
        request: BuildRequest,
        inputs: BuildInputs,
        runner: Runner,
    ) -> None:
        super().__init__(workspace, site, request, inputs, runner)
        self.layers = store.layers
        self._store_root = store.root
        self._cache = cache
        self._made_trees: ShownTrees | None = None
        self._made_sweeper: Sweeper | None = None

    def close(self) -> None:
        """Wait until what the steps left behind is removed."""
        if self._made_sweeper is not None:
            self._made_sweeper.close()

    # Both only once something is made: an unchanged build does without.

    @property
    def _trees(self) -> ShownTrees:
        from orchestrator.engines.native.dockerfile.performing.trees import ShownTrees

        with self._lock:
            self._made_trees = self._made_trees or ShownTrees(self._workspace)
            return self._made_trees

    @property
    def _sweeper(self) -> Sweeper:
        from orchestrator.engines.native.dockerfile.performing.trees import Sweeper

        with self._lock:
            self._made_sweeper = self._made_sweeper or Sweeper()
            return self._made_sweeper

    def protect(self, layers: Sequence[str]) -> None:
        """See `stage_work.Performer`."""
        self._workspace.keep(layers)

    def perform(self, task: StepTask) -> StepRecord:
        """See `stage_work.Performer`."""
        from orchestrator.engines.native.dockerfile.performing.layering import finish_layer, make_bench

        step, chain = task.step, task.chain
        layer_id = choose_layer_id(task.key, lambda one: self.layers.find_layer(one) is not None, anew=task.anew)
        alone = self.stands_alone(step)
        self._workspace.keep((*chain.layers, layer_id))
        made = self.layers.find_layer(layer_id)
        if made is None:
            folder = self._workspace.make_directory("step")
            try:
                bench = make_bench(folder)
                self._write(task, bench)
                check_cancel(task.cancel)
                clamp = self._request.source_date_epoch
                measured = finish_layer(bench.upper, () if alone else chain.lower, clamp=clamp)
                moment = render_time(clamp)
                made = self.layers.adopt_directory(bench.upper, layer_id, measured=measured, created=moment)
            except (OSError, DiskFull) as error:
                raise _explain(error, step, folder, self._store_root) from error
            finally:
                self._sweeper.remove(folder)
        else:
            task.vertex.mark_cached()
        whole = (SCRATCH if alone else chain).add(layer_id, self.layers)
        record = StepRecord(
            key=task.key,
            layer=layer_id,
            chain=whole.layers,
            names=whole.names,
            created=made.record.get("created") or render_time(self._request.source_date_epoch),
            text=step.text,
        )
        self._cache.save(record)
        return record

    def _write(self, task: StepTask, bench: Bench) -> None:
        from orchestrator.engines.native.dockerfile.performing.layering import call_with_mounts

        step, chain = task.step, task.chain
        chains = {index: one.chain for index, one in task.results.items()}
        if isinstance(step, CopyStep):
            call_with_mounts(lambda: self._copy(step, bench, chain, chains))
        elif isinstance(step, WorkdirStep):
            call_with_mounts(lambda: self._make_working_dir(step, bench, chain))
        elif isinstance(step, RunStep):

            def open_origin(origin: Origin, path: str, folder: Path) -> Path:
                return self._open_origin(origin, path, folder, chains, step)

            self._runner.run(step, bench, chain.lower, task.vertex, open_origin, task.cancel)
        else:
            raise BuildError(f"{step.text}: not a step that makes a layer", location=step.location)

    def _copy(self, step: CopyStep, bench: Bench, chain: Chain, chains: Mapping[int, Chain | None]) -> None:
        from orchestrator.engines.native.dockerfile.performing.copying import perform_copy
        from orchestrator.engines.native.dockerfile.performing.layering import mount_bench, open_bench

        with self._lock:  # its sources have been looked through for the key
            plan = self._plans.get(id(step))
        plan = plan or self._plan(step, self._open_source(step, chains))
        epoch = self._request.source_date_epoch
        if step.link and not plan.needs_users:
            perform_copy(plan, bench.upper, link=True, epoch=epoch)
            return
        open_bench(bench)
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
        if self._inputs.is_tree(step.origin.kind, step.origin.name):
            return self._inputs.open_tree(step.origin)
        return self._view(step.origin, self._find_chain(step.origin, chains, step.location))

    def _open_origin(
        self, origin: Origin, path: str, folder: Path, chains: Mapping[int, Chain | None], step: RunStep
    ) -> Path:
        """What a mount takes from, as a directory; called within the step's mount namespace."""
        from orchestrator.engines.native.dockerfile.performing.layering import mount_view

        if not self._inputs.is_tree(origin.kind, origin.name):
            mount_view(self._find_chain(origin, chains, step.location).lower, folder)
            return folder
        from orchestrator.engines.native.dockerfile.performing.copying import perform_copy

        source = self._inputs.open_tree(origin)
        copy = copy_of_mount(origin, path, step.location)
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
        from orchestrator.engines.native.dockerfile.performing.layering import mount_bench, open_bench
        from orchestrator.engines.native.dockerfile.sources.views import resolve_in_root
        from orchestrator.engines.native.runtime.users import resolve_identity
        from orchestrator.errors import NotFound

        open_bench(bench)
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


def _explain(error: OSError | DiskFull, step: Step, folder: Path, store: Path) -> StackError:
    known = disk_error(error, store) if isinstance(error, OSError) else error
    if isinstance(known, DiskFull):
        said = f"no space left on the disk that holds {store}"
        place = (Diagnostic(known.code, said, step.location, hint=known.hint),)
        full = DiskFull(said, resource=str(store), operation="build", hint=known.hint)
        full.diagnostics = place
        return full
    if isinstance(known, StackError):
        return known
    where = str(known.filename or "").removeprefix(str(folder))
    said = f"{known.strerror} ({where})" if where else str(known.strerror or known)
    return BuildError(f"{step.text}: {said}", location=step.location)


def _unmount(target: Path) -> None:
    from orchestrator.engines.native import host

    host.unmount(str(target))


def render_time(epoch: int | None) -> str:
    """Now, or the given seconds since the epoch, as RFC 3339."""
    moment = time.time() if epoch is None else epoch
    seconds = int(moment)
    fraction = f".{int((moment - seconds) * 1e6):06d}" if epoch is None else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"
