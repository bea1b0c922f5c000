"""The stages of a build as a graph: looked up first, then performed, each in a thread of its own.

First every needed stage is gone through without touching a file system (`Stage.foresee`): a step's key follows from the
layers below it, which are known by name before they exist. Where the last known key is in the cache, nothing before it
has to be there. What is left is performed: a stage starts at once and waits for another one where a step needs it. The
first failure stops everything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from orchestrator.engines.native.dockerfile.stage_work import Performer, Stage, StageJob, StageResult
from orchestrator.engines.native.images.content import check_cancel
from orchestrator.engines.native.images.failures import TransferCancelled

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.cache import StepCache
    from orchestrator.engines.native.dockerfile.chain import Chain
    from orchestrator.engines.native.dockerfile.front.steps import Step
    from orchestrator.engines.native.dockerfile.narrator import Narrator

_WAIT: Final = 0.1  # seconds between two looks at whether the build was cancelled, while a stage waits for another


class Solver:
    """Builds `target` and what it needs. `jobs` are the needed stages by their index."""

    def __init__(
        self,
        jobs: Mapping[int, StageJob],
        target: int,
        cache: StepCache,
        performer: Performer,
        narrator: Narrator,
        cancel: Callable[[], bool],
    ) -> None:
        self.cache = cache
        self.performer = performer
        self.narrator = narrator
        self.results: dict[int, StageResult] = {}
        self.cached = 0
        self.built = 0
        self._jobs = jobs
        self._target = target
        self._cancel = cancel
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._lock = threading.RLock()
        self._threads: dict[int, threading.Thread] = {}
        self._done: dict[int, threading.Event] = {index: threading.Event() for index in jobs}
        self._stages: dict[int, Stage] = {}

    def list_pending(self) -> list[Step]:
        """Steps of the target, and of the stages that it stands on, that the cache does not have. After `foresee`."""
        found: list[Step] = []
        index: int | None = self._target
        while index is not None:
            stage = self._stages[index]
            found += stage.list_pending()
            index = stage.job.parent if not stage.has_hit else None
        return found

    def list_stages(self) -> list[int]:
        """The indexes of all stages that the target needs."""
        return sorted(self._stages)

    def list_finals(self) -> dict[int, Chain | None]:
        """The layers of each stage as far as they are known."""
        return {
            index: self.results[index].chain if index in self.results else one.final
            for index, one in self._stages.items()
        }

    def cancelled(self) -> bool:
        """Whether everything is to stop: somebody asked, or a stage failed."""
        return self._stop.is_set() or self._cancel()

    def foresee(self) -> bool:
        """Look everything up; whether the cache has all that the target needs. May be called again before `run`."""
        for index, job in self._jobs.items():
            self._stages[index] = Stage(self, index, job)
        for stage in self._stages.values():
            stage.foresee()
        return self._stages[self._target].is_complete()

    def run(self) -> StageResult:
        """Build, after `foresee`. Raises what the first stage that failed raised, and TransferCancelled."""
        try:
            self.start(self._target)
            result = self.wait(self._target)
            self._tell_unneeded()
            return result
        except TransferCancelled:
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            self._stop.set()
            for thread in self._list_threads():
                thread.join()

    def _tell_unneeded(self) -> None:
        """Tell of the steps that nobody had to look at, since what is made from them was there."""
        for index, stage in sorted(self._stages.items()):
            if index not in self.results:
                stage.tell_unneeded()

    def _list_threads(self) -> Iterable[threading.Thread]:
        seen: set[int] = set()
        while True:  # a thread that is joined may have started another one before it saw the stop
            with self._lock:
                fresh = [index for index in self._threads if index not in seen]
            if not fresh:
                return
            for index in fresh:
                seen.add(index)
                yield self._threads[index]

    def stage(self, index: int) -> Stage:
        """The stage of that index, foreseen."""
        self._stages[index].foresee()
        return self._stages[index]

    def start(self, index: int) -> None:
        """Have a stage built, if nobody does yet. Returns at once."""
        with self._lock:
            if index in self._threads or self._done[index].is_set():
                return
            known = self._stages[index].finish_from_cache()
            if known is not None:
                self.results[index] = known
                self._done[index].set()
                return
            thread = threading.Thread(target=self._build, args=(index,), name=f"stage-{index}", daemon=True)
            self._threads[index] = thread
        thread.start()

    def wait(self, index: int) -> StageResult:
        """The result of a stage that was started. Raises TransferCancelled when everything stops."""
        while not self._done[index].wait(_WAIT):
            check_cancel(self.cancelled)
        if index not in self.results:
            raise TransferCancelled("cancelled", operation="build")
        return self.results[index]

    def need(self, indices: Iterable[int]) -> None:
        """Have stages built, and wait for them."""
        wanted = tuple(indices)
        for index in wanted:
            self.start(index)
        for index in wanted:
            self.wait(index)

    def created(self, index: int) -> tuple[str | None, ...]:
        """The times of a stage's steps; for one that was not needed, since a later one was there, from the cache."""
        found = self.results.get(index)
        return found.created if found is not None else self._stages[index].recall()

    def count(self, *, cached: bool) -> None:
        """Count a step."""
        with self._lock:
            if cached:
                self.cached += 1
            else:
                self.built += 1

    def _build(self, index: int) -> None:
        try:
            self.results[index] = self._stages[index].build()
        except BaseException as error:
            with self._lock:
                if self._failure is None and not (isinstance(error, TransferCancelled) and self.cancelled()):
                    self._failure = error
            self._stop.set()
        finally:
            self._done[index].set()
