"""Building an image, from the request to the entry in the store.

The Dockerfile is read and planned without touching a file system; then the stages that are needed are looked up in the
cache and, where that does not have them, performed (:mod:`.solve`). What remains of an unchanged build is the lookup.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.dockerfile.cache import FIELD, FOLDER, StepCache
from orchestrator.engines.native.dockerfile.commit import BuiltStage, render_configuration
from orchestrator.engines.native.dockerfile.front.steps import CopyStep, Origin, RunStep, StageSteps
from orchestrator.engines.native.dockerfile.inputs import BuildInputs, Foundation
from orchestrator.engines.native.dockerfile.narrator import Narrator
from orchestrator.engines.native.dockerfile.perform import LayerMaker, render_time
from orchestrator.engines.native.dockerfile.performing.runner import Runner
from orchestrator.engines.native.dockerfile.recall import list_references
from orchestrator.engines.native.dockerfile.request import BuildResult
from orchestrator.engines.native.dockerfile.solve import Solver
from orchestrator.engines.native.dockerfile.sources.failures import BuildError
from orchestrator.engines.native.dockerfile.sources.git_login import make_login
from orchestrator.engines.native.dockerfile.sources.site import BuildSite
from orchestrator.engines.native.dockerfile.stage_work import StageJob, makes_layer
from orchestrator.engines.native.images.content import compute_digest
from orchestrator.engines.native.images.platform import Platform, detect_platform, parse_platform, rank_platform
from orchestrator.engines.native.images.reference import parse_reference

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.cache_exchange import CacheSpec
    from orchestrator.engines.native.dockerfile.front.stages import StagePlan
    from orchestrator.engines.native.dockerfile.front.steps import Base
    from orchestrator.engines.native.dockerfile.request import BuildEvent, BuildProgress, BuildRequest
    from orchestrator.engines.native.images.content import Cancel
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.images.workspace import Workspace
    from orchestrator.engines.native.layout import Layout
    from orchestrator.errors import Diagnostic


def build_image(
    store: ImageStore,
    layout: Layout,
    request: BuildRequest,
    progress: BuildProgress | None = None,
    cancel: Cancel | None = None,
) -> BuildResult:
    """Build what `request` asks for and give it its tags.

    `progress` takes events from several threads; `cancel` is asked now and then, from several threads too. Raises
    DockerfileInvalid with every fault of the Dockerfile, BuildError (RunFailed, CopyError, ContextError) with the place
    in it, the errors of a pull, DiskFull, and TransferCancelled when `cancel` became true.
    """
    narrator = Narrator(progress or _ignore)
    cancelled = cancel or _never
    for tag in request.tags:
        parse_reference(tag)
    platforms = _list_platforms(request)
    with ExitStack() as held:
        workspace = held.enter_context(store.open_workspace())
        build = _Build(store, layout, request, workspace, narrator, cancelled, held)
        results = [build.run(one, platforms) for one in platforms]
        if len(results) > 1:
            store.tag_group([one.image_id for one in results], request.tags)
    build.cache.prune_sometimes()
    return BuildResult(
        image_id=results[0].image_id,
        cached_steps=sum(one.cached_steps for one in results),
        built_steps=sum(one.built_steps for one in results),
        references=results[0].references if len(results) == 1 else None,
    )


def _parse_caches(request: BuildRequest, narrator: Narrator) -> tuple[list[CacheSpec], list[CacheSpec]]:
    if not request.cache_from and not request.cache_to:
        return [], []
    from orchestrator.engines.native.dockerfile.cache_exchange import parse_cache_specs

    return (
        parse_cache_specs(request.cache_from, exporting=False, warn=narrator.warn),
        parse_cache_specs(request.cache_to, exporting=True, warn=narrator.warn),
    )


def _list_platforms(request: BuildRequest) -> list[str]:
    """What to build for. This machine's own comes first: the names lead to that image."""
    here = str(detect_platform())
    wanted = dict.fromkeys(str(parse_platform(one)) for one in request.platforms)
    return sorted(wanted, key=lambda one: one != here) or [here]


def _ignore(_event: BuildEvent) -> None:
    return


def _never() -> bool:
    return False


class _Build:
    """One request on its way."""

    def __init__(
        self,
        store: ImageStore,
        layout: Layout,
        request: BuildRequest,
        workspace: Workspace,
        narrator: Narrator,
        cancel: Cancel,
        held: ExitStack,
    ) -> None:
        self.cache = StepCache(store)
        self.cache.prepare()
        self._store = store
        self._layout = layout
        self._request = request
        self._workspace = workspace
        self._narrator = narrator
        self._cancel = cancel
        self._held = held
        self._began = time.time()
        self._warned: set[Diagnostic] = set()
        self._imports, self._exports = _parse_caches(request, narrator)
        self._site = BuildSite(
            workspace.path,
            store.root / FOLDER,
            store=store,
            tell=narrator.open,
            cancel=cancel,
            login=make_login(request),
        )
        held.callback(self._site.close)
        self._runner = Runner(layout, request)
        held.callback(self._runner.close)

    def run(self, platform: str, platforms: Sequence[str]) -> BuildResult:
        """Build for one of `platforms`. An image for that one alone gets its names at once."""
        several = len(platforms) > 1
        inputs = BuildInputs(
            self._store, self._workspace, self._request, platform, self._narrator, self._cancel, self._site
        )
        plan = self._plan(inputs, platform)
        for name, source in self._request.contexts.items():
            if os.path.isabs(source):  # also one that no step uses: it was meant to be there
                inputs.context(name)
        inputs.stage_names = tuple(one.name for one in plan.dockerfile.stages)
        plan, foundations = self._open_bases(plan, inputs)
        stages = self._evaluate(plan, foundations, inputs)
        self._check(plan, stages)
        jobs = {index: self._make_job(plan, index, foundations, one) for index, one in stages.items()}
        self._narrator.titles = _name_steps(stages, platform if several else "")
        maker = LayerMaker(self._store, self.cache, self._workspace, self._site, self._request, inputs, self._runner)
        self._held.callback(maker.close)
        solver = Solver(jobs, plan.target, self.cache, maker, self._narrator, self._cancel)
        if not solver.foresee() and self._import_caches(platform):
            solver.foresee()
        self._runner.warm_up([one for one in solver.list_pending() if isinstance(one, RunStep)])
        for index, one in stages.items():
            self._tell_base(plan, index, one, platform if several else "")
        result = solver.run()
        if platform == platforms[-1]:
            self._runner.begin_close()
        line = _list_line(plan)
        built = [BuiltStage(steps=stages[index], created=solver.created(index)) for index in line]
        layers, target = result.chain.layers, parse_platform(stages[plan.target].platform or platform)
        extra = {}
        if any(one.kind == "inline" for one in self._exports):
            from orchestrator.engines.native.dockerfile.cache_exchange import describe_steps

            extra[FIELD] = describe_steps(solver, maker, self.cache, line, layers)
        with self._narrator.open("exporting to image") as vertex:
            document = foundations[line[0]].document
            tags = () if several else self._request.tags
            image = self._commit(built, document, layers, target, extra, self._attest(inputs, stages, plan), tags=tags)
            vertex.log(f"image {image.id}\n")
            for tag in tags:
                vertex.log(f"naming to {parse_reference(tag)}\n")
        for spec in self._exports:
            if spec.kind != "inline":
                self._export_cache(spec, solver, maker, line, target, several=several)
        return BuildResult(
            image_id=image.id,
            cached_steps=solver.cached,
            built_steps=solver.built,
            references=inputs.identify(list_references(stages, [plan.stage(index).base for index in stages], platform)),
        )

    # -- before anything is built ------------------------------------------------------------------------------------

    def _plan(self, inputs: BuildInputs, platform: str) -> StagePlan:
        from orchestrator.engines.native.dockerfile.front.epoch import read_epoch
        from orchestrator.engines.native.dockerfile.front.parser import parse_dockerfile
        from orchestrator.engines.native.dockerfile.front.stages import plan_stages
        from orchestrator.engines.native.dockerfile.sources.contexts import read_dockerfile

        request = self._request
        text, name = read_dockerfile(request, inputs.context())
        with self._narrator.open(f"[internal] load build definition from {name}"):
            parsed = parse_dockerfile(text, name)
            args = dict(request.args)
            if request.source_date_epoch is not None:
                args.setdefault("SOURCE_DATE_EPOCH", str(request.source_date_epoch))
            plan = plan_stages(
                parsed,
                target=request.target,
                args=args,
                platform=platform,
                build_platform=str(detect_platform()),
                contexts=tuple(request.contexts),
            )
            if request.source_date_epoch is None:
                self._request = request.replace(source_date_epoch=read_epoch(parsed, plan.shared_args))
        self._warn((*parsed.warnings, *plan.warnings))
        return plan

    def _warn(self, found: Sequence[Diagnostic]) -> None:
        for one in found:
            if one not in self._warned:
                self._warned.add(one)
                self._narrator.warn(one.render())

    def _open_bases(self, plan: StagePlan, inputs: BuildInputs) -> tuple[StagePlan, dict[int, Foundation]]:
        """The images under the needed stages. Their ONBUILD triggers may need further stages."""
        from orchestrator.engines.native.dockerfile.front.stages import add_triggers

        found: dict[int, Foundation] = {}
        while True:
            waiting = [one for one in plan.stages if one.base.kind != "stage" and one.index not in found]
            if not waiting:
                return plan, found
            found.update(_open_all({one.index: one.base for one in waiting}, inputs))
            for one in waiting:
                triggers = (found[one.index].document.get("config") or {}).get("OnBuild")
                if triggers:
                    plan = add_triggers(plan, one.index, triggers)

    def _evaluate(
        self, plan: StagePlan, foundations: Mapping[int, Foundation], inputs: BuildInputs
    ) -> dict[int, StageSteps]:
        from orchestrator.engines.native.dockerfile.front.evaluate import evaluate_stage

        stages: dict[int, StageSteps] = {}
        for one in plan.stages:
            base: Any
            if one.base.kind == "stage":
                base = stages[int(one.base.name)]
            else:
                base = foundations[one.index].document.get("config") or None
            steps = evaluate_stage(plan, one.index, base)
            self._warn(steps.warnings)
            if one.base.kind == "named" and inputs.is_tree(one.base.kind, one.base.name):
                steps = steps.replace(steps=(_copy_all(one.base, steps), *steps.steps))
            stages[one.index] = steps
        return stages

    def _check(self, plan: StagePlan, stages: Mapping[int, StageSteps]) -> None:
        here = detect_platform()
        for stage in stages.values():
            runs = [one for one in stage.steps if isinstance(one, RunStep)]
            for step in runs:
                self._runner.check(step)
            wanted = parse_platform(stage.platform)
            if runs and rank_platform(wanted, here) is None and not _is_emulated(wanted):
                raise BuildError(
                    f"RUN for {wanted} cannot be executed on {here}",
                    location=runs[0].location,
                    code="unsupported",
                    hint="register an emulator with binfmt_misc (apt-get install qemu-user-static), or let this stage "
                    "run here: FROM --platform=$BUILDPLATFORM",
                )

    def _make_job(
        self, plan: StagePlan, index: int, foundations: Mapping[int, Foundation], steps: StageSteps
    ) -> StageJob:
        wanted = self._request.no_cache
        names = wanted if isinstance(wanted, tuple) else ()
        anew = wanted is True or steps.name in {one.lower() for one in names} or str(index) in names
        if index in foundations:
            return StageJob(steps=steps, foundation=foundations[index].chain, anew=anew)
        return StageJob(steps=steps, foundation=None, parent=int(plan.stage(index).base.name), anew=anew)

    def _tell_base(self, plan: StagePlan, index: int, steps: StageSteps, platform: str) -> None:
        base = plan.stage(index).base
        if base.kind != "stage":
            with self._narrator.open(_render_title(steps, 1, f"FROM {base.name or 'scratch'}", platform)) as vertex:
                vertex.mark_cached()

    # -- after everything is built -----------------------------------------------------------------------------------

    def _attest(self, inputs: BuildInputs, stages: Mapping[int, StageSteps], plan: StagePlan) -> Mapping[str, str]:
        """The provenance, if it is asked for, as the annotation that it is kept in."""
        if not self._request.provenance:
            return {}
        import json

        from orchestrator.engines.native.dockerfile.provenance import render_provenance
        from orchestrator.engines.native.images.attestations import PROVENANCE

        predicate = render_provenance(
            self._request, stages, inputs.list_images(), inputs.platform, plan.dockerfile.name, self._began
        )
        return {PROVENANCE: json.dumps(predicate, separators=(",", ":"))}

    def _commit(
        self,
        line: Sequence[BuiltStage],
        document: Mapping[str, Any],
        layers: Sequence[str],
        platform: Platform,
        extra: Mapping[str, Any],
        provenance: Mapping[str, str],
        *,
        tags: Sequence[str],
    ) -> Image:
        epoch = self._request.source_date_epoch
        configuration = render_configuration(
            line,
            document,
            layers,
            platform=platform,
            labels=self._request.labels,
            epoch=render_time(epoch) if epoch is not None else None,
            now=render_time(epoch),
            extra=extra,
        )
        names = [str(parse_reference(one)) for one in tags]
        known = self._store.resolve_image(compute_digest(configuration))
        annotations = {**self._request.annotations, **provenance}
        same = known is not None and annotations == self._store.read_record(known.id).get("annotations", {})
        if (
            known is not None
            and same
            and set(names) <= set(known.references)
            and self._store.layers.has_all(known.layers)
        ):
            return known
        return self._store.commit_image(
            configuration, layers, self._workspace, references=names, annotations=annotations
        )

    def _import_caches(self, platform: str) -> bool:
        if not self._imports:
            return False
        from orchestrator.engines.native.dockerfile.cache_exchange import import_caches

        return import_caches(
            self._imports,
            self.cache,
            self._site,
            self._store,
            self._workspace,
            self._narrator,
            platform,
            self._cancel,
        )

    def _export_cache(
        self,
        spec: CacheSpec,
        solver: Solver,
        maker: LayerMaker,
        line: Sequence[int],
        platform: Platform,
        *,
        several: bool,
    ) -> None:
        from orchestrator.engines.native.dockerfile.cache_exchange import export_cache

        if several:
            self._narrator.warn(
                f"cache_to: the cache of {platform} is not written: several platforms, one {spec.place}"
            )
            return
        with self._narrator.open(f"exporting cache to {spec.place}"):
            export_cache(spec, solver, maker, self.cache, line, platform, self._store, self._workspace, self._cancel)


def _open_all(bases: Mapping[int, Base], inputs: BuildInputs) -> dict[int, Foundation]:
    """Open images, those that have to be fetched at the same time."""
    found: dict[int, Foundation] = {}
    if len({(one.kind, one.name, one.platform) for one in bases.values()}) < 2:
        return {index: inputs.open_base(one) for index, one in bases.items()}
    import threading

    from orchestrator.engines.native.images.pull import run_parallel

    def open_one(index: int, base: Base) -> Callable[[], None]:
        return lambda: found.__setitem__(index, inputs.open_base(base))

    run_parallel([open_one(index, one) for index, one in bases.items()], threading.Event())
    return found


def _list_line(plan: StagePlan) -> list[int]:
    """The stages that the target stands on, the lowest first, with the target."""
    line = [plan.target]
    while plan.stage(line[0]).base.kind == "stage":
        line.insert(0, int(plan.stage(line[0]).base.name))
    return line


def _name_steps(stages: Mapping[int, StageSteps], platform: str) -> dict[tuple[int, int], str]:
    titles = {}
    for index, stage in stages.items():
        number = 1
        for position, step in enumerate(stage.steps):
            if makes_layer(step):
                number += 1
                titles[index, position] = _render_title(stage, number, step.text, platform)
    return titles


def _render_title(stage: StageSteps, number: int, text: str, platform: str) -> str:
    total = 1 + sum(makes_layer(one) for one in stage.steps)
    return f"[{' '.join(filter(None, (platform, stage.shown, f'{number}/{total}')))}] {text}"


def _copy_all(base: Base, stage: StageSteps) -> CopyStep:
    """A directory as a base: its files are the first layer."""
    assert base.location is not None
    return CopyStep(
        location=base.location,
        text=f"FROM {base.name}",
        created_by=f"COPY / / # {base.name}",
        config=stage.steps[0].config if stage.steps else stage.config,
        instruction="COPY",
        sources=("/",),
        destination="/",
        directory=True,
        origin=Origin(kind="named", name=base.name),
        unpack=False,
    )


def _is_emulated(platform: Platform) -> bool:
    """Whether the kernel starts programs of that platform through an emulator."""
    names = {"amd64": "x86_64", "386": "i386", "arm64": "aarch64", "loong64": "loongarch64"}
    name = names.get(platform.architecture, platform.architecture)
    try:
        with open(f"/proc/sys/fs/binfmt_misc/qemu-{name}") as file:
            return file.readline().strip() == "enabled"
    except OSError:
        return False
