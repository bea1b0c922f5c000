"""One stage of a build: what its steps are known as, which of them the cache has, and the performing of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from orchestrator.engines.native.dockerfile.cache import StepRecord, compute_key
from orchestrator.engines.native.dockerfile.chain import Chain
from orchestrator.engines.native.dockerfile.front.steps import CopyStep, RunStep
from orchestrator.engines.native.images.content import check_cancel
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import Origin, StageSteps, Step
    from orchestrator.engines.native.dockerfile.narrator import Vertex
    from orchestrator.engines.native.dockerfile.solve import Solver
    from orchestrator.engines.native.images.content import Cancel
    from orchestrator.engines.native.images.layers import LayerStore


class StageResult(Record):
    """A finished stage: its chain, and for each of its own steps the layer's time, None where there is no layer."""

    chain: Chain
    created: tuple[str | None, ...]


class StageJob(Record):
    """A stage to build. It stands on the layers of `foundation`, or on those of the stage `parent`.

    `anew` leaves the cache alone.
    """

    steps: StageSteps
    foundation: Chain | None
    parent: int | None = None
    anew: bool = False


class StepTask(NamedTuple):
    """A step to perform on `chain`; its layer will be known as `key`. `results` are the stages that it can refer to.

    `anew` leaves the cache alone; `cancel` is asked now and then; `vertex` is told what happens.
    """

    step: Step
    key: str
    chain: Chain
    results: Mapping[int, StageResult]
    vertex: Vertex
    anew: bool
    cancel: Cancel


class Performer(Protocol):
    """What the graph needs of those who know layers and files: :class:`.perform.LayerMaker`."""

    layers: LayerStore

    def digest_sources(self, step: Step, finals: Mapping[int, Chain | None]) -> str | None:
        """The hash of all content that a step takes in, without mounting anything. `finals` are the layers that stages
        will have as far as they can be told. None if that does not suffice."""

    def digest_results(self, step: Step, results: Mapping[int, StageResult]) -> str:
        """The same once every stage that the step refers to is there."""

    def render_meaning(self, step: Step) -> Any:
        """Plain data that says what a step does, without its sources."""

    def protect(self, layers: Sequence[str]) -> None:
        """Keep layers from the collector until the build has ended."""

    def stands_alone(self, step: Step) -> bool:
        """Whether the layer does not depend on the layers below it."""

    def perform(self, task: StepTask) -> StepRecord:
        """Make the layer of a step."""


def list_origins(step: Step) -> tuple[Origin, ...]:
    """Where a step takes files from."""
    if isinstance(step, CopyStep):
        return (step.origin,) if step.sources else ()
    mounts = step.mounts if isinstance(step, RunStep) else ()
    return tuple(one.origin for one in mounts if one.origin is not None)


def list_stages(step: Step) -> tuple[int, ...]:
    """The stages that a step takes files from."""
    return tuple(dict.fromkeys(int(one.name) for one in list_origins(step) if one.kind == "stage"))


def makes_layer(step: Step) -> bool:
    """Whether a step makes a layer."""
    return step.filesystem


class Stage:
    """One stage on its way."""

    def __init__(self, solver: Solver, index: int, job: StageJob) -> None:
        self.job = job
        self._solver = solver
        self._index = index
        self._steps = job.steps.steps
        self._layered = [makes_layer(one) for one in self._steps]
        self._keys: list[str | None] = [None] * len(self._steps)
        self._chains: list[Chain | None] = [None] * len(self._steps)
        self._first = 0
        """The first step that has to be performed."""
        self._foreseen = False
        self._base: Chain | None = None
        self._recalled: tuple[str | None, ...] | None = None

    @property
    def has_hit(self) -> bool:
        """Whether the cache has one of the steps, with everything below it."""
        return self._first > 0

    def list_pending(self) -> list[Step]:
        """The steps that have to be performed, or looked up once more is known."""
        return [step for step, layered in zip(self._steps, self._layered, strict=True) if layered][
            sum(self._layered[: self._first]) :
        ]

    def list_results(self) -> list[tuple[Step, str, Chain]]:
        """The steps that made a layer, with their keys and the chains that they came to, as far as they are known."""
        found = zip(self._steps, self._layered, self._keys, self._chains, strict=True)
        return [(step, key, chain) for step, layered, key, chain in found if layered and key and chain is not None]

    @property
    def final(self) -> Chain | None:
        """The layers that the stage will have, if that can be told."""
        return self._chains[-1] if self._steps else self._base

    def foresee(self) -> None:
        """Find the keys of as many steps as possible, and the first one that has to be performed."""
        if self._foreseen:
            return
        self._foreseen = True
        solver, job = self._solver, self.job
        self._base = job.foundation if job.parent is None else solver.stage(job.parent).final
        chain = self._base
        for number, step in enumerate(self._steps):
            if self._layered[number] and chain is not None:
                finals = {one: solver.stage(one).final for one in list_stages(step)}
                content = None if job.anew else solver.performer.digest_sources(step, finals)
                if content is None:
                    chain = None
                else:
                    key = self._keys[number] = self._compute_key(step, chain, content)
                    known = solver.cache.peek(key)
                    chain = self._add(chain, known.layer, known.alias) if known else self._add(chain, f"snapshot:{key}")
            self._chains[number] = chain
        self._first = self._find_first()

    def _find_first(self) -> int:
        """One past the last step whose layer is there with all layers below it."""
        for number in range(len(self._steps) - 1, -1, -1):
            key, chain = self._keys[number], self._chains[number]
            if key is None or chain is None or self._solver.cache.find(key, chain.names) is None:
                continue
            self._solver.performer.protect(chain.layers)
            # A pruning may have been faster.
            if self._solver.cache.find(key, chain.names) is not None:
                return number + 1
        return 0

    def _compute_key(self, step: Step, chain: Chain, content: str) -> str:
        performer = self._solver.performer
        below = "alone" if performer.stands_alone(step) else chain.identity
        return compute_key(below, performer.render_meaning(step), content)

    def _add(self, chain: Chain, layer: str, alias: str = "") -> Chain:
        return chain.add(layer, self._solver.performer.layers, alias=alias)

    def finish_from_cache(self) -> StageResult | None:
        """The result if no step has to be performed; None otherwise."""
        chain = self.final
        if chain is None or not self.is_complete():
            return None
        return StageResult(chain=chain, created=self.recall())

    def is_complete(self) -> bool:
        """Whether no step has to be performed."""
        if any(self._layered[self._first :]):
            return False
        if self._first or self.job.parent is None:
            return True
        return self._solver.stage(self.job.parent).is_complete()

    def recall(self) -> tuple[str | None, ...]:
        """The times of all steps, of this stage and of those below it, from the cache; told once."""
        if self._recalled is None:
            if self.job.parent is not None and self.job.parent not in self._solver.results:
                self._solver.stage(self.job.parent).recall()
            self._recalled = tuple(self._recall(len(self._steps)))
        return self._recalled

    def tell_unneeded(self) -> None:
        """Tell of all steps as steps that were there, unless `recall` has done so."""
        if self._recalled is None:
            for number, step in enumerate(self._steps):
                if self._layered[number]:
                    self._solver.narrator.tell_cached(self._index, number, step)

    def _recall(self, end: int) -> list[str | None]:
        found: list[str | None] = []
        latest = ""
        for number, step in enumerate(self._steps[:end]):
            if not self._layered[number]:
                found.append(None)
                continue
            key = self._keys[number]
            record = self._solver.cache.peek(key) if key is not None else None
            latest = record.created if record is not None else latest
            found.append(latest)
            self._solver.count(cached=True)
            self._solver.narrator.tell_cached(self._index, number, step)
        return found

    def build(self) -> StageResult:
        """Perform what has to be performed."""
        solver = self._solver
        self._start_early()
        if self._first:
            if self.job.parent is not None and self.job.parent not in solver.results:
                solver.stage(self.job.parent).recall()
            found = self._chains[self._first - 1]
        else:
            found = self._get_base()
        assert found is not None
        chain, created = found, self._recall(self._first)
        for number in range(self._first, len(self._steps)):
            step = self._steps[number]
            if not self._layered[number]:
                created.append(None)
                continue
            check_cancel(solver.cancelled)
            record = self._do_step(number, step, chain)
            created.append(record.created)
            chain = self._chains[number] = self._add(chain, record.layer, record.alias)
        return StageResult(chain=chain, created=tuple(created))

    def _get_base(self) -> Chain:
        if self.job.parent is None:
            assert self.job.foundation is not None
            return self.job.foundation
        self._solver.need([self.job.parent])
        return self._solver.results[self.job.parent].chain

    def _start_early(self) -> None:
        """Start the stages that a step will wait for, unless the step may still be found in the cache."""
        solver = self._solver
        if self._first == 0 and self.job.parent is not None:
            solver.start(self.job.parent)
        for number in range(self._first, len(self._steps)):
            key = self._keys[number]
            if key is None or solver.cache.peek(key) is None:
                for index in list_stages(self._steps[number]):
                    solver.start(index)

    def _do_step(self, number: int, step: Step, chain: Chain) -> StepRecord:
        solver = self._solver
        finals = {one: solver.stage(one).final for one in list_stages(step)}
        content = solver.performer.digest_sources(step, finals)
        if content is None or self.job.anew:
            solver.need(list_stages(step))
            content = solver.performer.digest_results(step, solver.results)
        key = self._keys[number] = self._compute_key(step, chain, content)
        if not self.job.anew:
            record = solver.cache.find(key)
            if record is not None:
                solver.count(cached=True)
                solver.narrator.tell_cached(self._index, number, step)
                return record
        solver.need(list_stages(step))
        with solver.narrator.tell_step(self._index, number, step) as vertex:
            told = "waiting for another build of the same step\n"
            with solver.cache.lock(key, cancel=solver.cancelled, on_wait=lambda: vertex.log(told)):
                record = None if self.job.anew else solver.cache.find(key)
                if record is not None:
                    solver.count(cached=True)
                    vertex.mark_cached()
                    return record
                task = StepTask(step, key, chain, solver.results, vertex, self.job.anew, solver.cancelled)
                record = solver.performer.perform(task)
        solver.count(cached=False)
        return record
