"""One operation, one engine call: what each operation of a plan means to the engine, and to the board."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from orchestrator.control_loop.building import Builders
from orchestrator.control_loop.conditions import Board, ConditionFailed
from orchestrator.control_loop.executor import Progress
from orchestrator.control_loop.fetching import Fetchers
from orchestrator.control_loop.hook_runner import HookRunner
from orchestrator.control_loop.providers import Answers
from orchestrator.control_loop.settling import Settling
from orchestrator.errors import EngineError, NotFound, StackError
from orchestrator.events import Event, Sink
from orchestrator.goal import BuildOptions
from orchestrator.plan import (
    BuildImage,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    KillContainer,
    Operation,
    PullImage,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    RestartContainer,
    RunHooks,
    RunInit,
    RunProvider,
    Settle,
    StartContainer,
    StopContainer,
    WaitFor,
)
from orchestrator.state import Container
from orchestrator.workers import Workers

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine, ImageProgress
    from orchestrator.model import Stack
    from orchestrator.state import ImageFacts

_NO_OPTIONS = BuildOptions()

PROGRESS_EVERY = 0.1
"""Seconds between two progress events of one operation."""


class InitFailed(EngineError):
    """A ``pre_start`` container ended with another exit code than 0."""

    code = "pre-start-failed"

    def __init__(self, one: RunInit, container: Container | None) -> None:
        self.container = container
        self.exit_code = container.exit_code if container else None
        how = f"exited with code {self.exit_code}" if container else "was removed before it ended"
        super().__init__(
            f"service {one.service.name}: pre_start[{one.index}] {how}", resource=one.subject, operation="pre_start"
        )


class Performer:
    """Performs the operations of one plan for one stack."""

    def __init__(
        self,
        engine: Engine,
        stack: Stack,
        board: Board,
        workers: Workers,
        emit: Sink,
        clock: Callable[[], float],
        images: dict[str, ImageFacts],
        build_options: BuildOptions = _NO_OPTIONS,
        answers: Answers | None = None,
    ) -> None:
        self._engine = engine
        self._stack = stack
        self._board = board
        self._workers = workers
        self._emit = emit
        self._clock = clock
        self._images = images
        self._settling = Settling(board)
        self._hooks = HookRunner(engine, board, workers, emit, clock)
        self._answers = answers or Answers()
        self.builders = Builders(engine, stack, build_options, workers)
        self.fetchers = Fetchers(engine, workers)
        self.stopping: set[str] = set()
        """Ids of containers whose grace period runs now."""
        self._ahead: dict[str, tuple[str, asyncio.Task[None]]] = {}

    async def __call__(self, operation: Operation, progress: Progress) -> None:
        """Perform one operation. Raises StackError."""
        await _PERFORM[type(operation)](self, operation, progress)

    async def _pull(self, one: PullImage, progress: Progress) -> None:
        self._images[one.reference] = await self.fetchers.perform(one.reference, one.platform, self._throttle(progress))

    def _throttle(self, progress: Progress) -> Callable[[ImageProgress], None]:
        loop, last = asyncio.get_running_loop(), {"": 0.0}

        def tell(layer: ImageProgress) -> None:
            now = time.monotonic()
            if layer.current < layer.total and now - last.get(layer.layer, 0.0) < PROGRESS_EVERY:
                return
            last[layer.layer] = now
            details: Mapping[str, Any] = {"layer": layer.layer, "current": layer.current, "total": layer.total}
            loop.call_soon_threadsafe(progress, layer.status, details)

        return tell

    async def _build(self, one: BuildImage, progress: Progress) -> None:
        def warn(text: str) -> None:
            event = Event(time=self._clock(), kind="warning", subject=one.subject, message=text)
            self._emit(event.replace(service=one.service.name))

        self._images[one.subject] = await self.builders.perform(
            one, progress, show_layer=self._throttle(progress), warn=warn
        )

    async def _create_network(self, one: CreateNetwork, _progress: Progress) -> None:
        await self._workers.run("work", lambda: self._engine.create_network(self._stack.name, one.network))

    async def _remove_network(self, one: RemoveNetwork, _progress: Progress) -> None:
        await self._workers.run("work", lambda: self._engine.remove_network(self._stack.name, one.name))

    async def _create_volume(self, one: CreateVolume, _progress: Progress) -> None:
        await self._workers.run("work", lambda: self._engine.create_volume(self._stack.name, one.volume))

    async def _remove_volume(self, one: RemoveVolume, _progress: Progress) -> None:
        await self._workers.run("work", lambda: self._engine.remove_volume(self._stack.name, one.name))

    async def _create(self, one: CreateContainer, _progress: Progress) -> None:
        await self._create_container(one)

    async def _create_container(self, one: CreateContainer) -> Container:
        made = await self._workers.run("work", lambda: self._engine.create_container(self._stack, one))
        replaced = self._board.get(one.replaces) if one.replaces else None
        if replaced is not None and replaced.name == one.container_name:
            # Two records of one name must never be found: whoever starts by name means the new one.
            self._board.put(replaced.replace(name=f"{replaced.id[:12]}_{replaced.name}"))
        container = Container(
            id=made,
            name=one.container_name,
            project=self._stack.name,
            service=one.service.name,
            number=one.number,
            image=one.service.image or "",
            image_id="",
            status="created",
            config=one.service.config,
            config_hash=one.config_hash,
            oneoff=one.oneoff,
            created_at=self._clock(),
        )
        self._board.put(container)
        return container

    async def _start(self, one: StartContainer, _progress: Progress) -> None:
        container = self._board.find(one.container_name)
        if container is None:
            raise NotFound(f"no container {one.container_name}", resource=one.container_name, operation="start")
        try:
            await self._hooks.note_due(container, one.hooks)
            await self._start_again(container, one.cause)
        except StackError as error:
            if error.code == "caller-gone" and container.auto_remove:
                await self._workers.run("work", lambda: self._engine.remove_container(container.id, volumes=True))
                self._board.drop(container.id)
            raise

    async def kill(self, container_id: str) -> None:
        """End at once what is being stopped; it may have ended by itself."""
        with suppress(StackError):
            await self._workers.run("work", lambda: self._engine.kill_container(container_id))

    def look_ahead(self, one: StartContainer) -> None:
        """Have a container made ready for a start that is to come."""
        container = self._board.find(one.container_name)
        if container is not None:
            self._ahead[one.id] = container.id, asyncio.create_task(self._prepare(container.id))

    async def _prepare(self, container_id: str) -> None:
        # What is wrong shows at the start.
        with suppress(StackError):
            await self._workers.run("ahead", lambda: self._engine.prepare_container(container_id))

    async def withdraw(self, succeeded: Iterable[str]) -> None:
        """Give back what was made ready for starts that have not come; `succeeded` are the operations that have."""
        for key in self._ahead.keys() - set(succeeded):
            container_id, preparing = self._ahead[key]
            await preparing
            with suppress(StackError):
                await self._workers.run("ahead", lambda one=container_id: self._engine.unprepare_container(one))  # type: ignore[misc]

    async def _start_again(self, container: Container, cause: str) -> None:
        begun = self._clock()

        def call() -> None:
            self._engine.start_container(container.id, cause=cause)
            if container.restart_count:
                self._engine.record_restart(container.id, 0)

        with self._board.hold(container.id):
            await self._workers.run("work", call)
            now = self._board.get(container.id) or container
            if now.status == "running" and now.started_at >= begun:
                return
            if now.alive:
                # The end of its last run has not been heard of yet; what was known of that run counts no more.
                now = now.replace(status="exited", pid=0, health=None)
                self._board.put(now)
            self._board.put(
                now.replace(
                    status="running", started_at=begun, exit_code=None, hold=False, restart_count=0, health=None
                )
            )

    async def _stop(self, one: StopContainer, _progress: Progress) -> None:
        await self._end(one.container_id, one.timeout, hold=one.hold)

    async def _end(self, container_id: str, timeout: float | None, *, hold: bool) -> None:
        self.stopping.add(container_id)
        try:
            await self._board.released(container_id)
            call = lambda: self._engine.stop_container(container_id, timeout=timeout, hold=hold)  # noqa: E731
            await self._workers.run("stop", call)
        finally:
            self.stopping.discard(container_id)
        now = self._board.get(container_id)
        if now is not None and (now.alive or now.hold != hold):
            ended = {"status": "exited", "pid": 0, "finished_at": self._clock()} if now.alive else {}
            self._board.put(now.replace(**ended, hold=hold))

    async def _restart(self, one: RestartContainer, progress: Progress) -> None:
        await self._end(one.container_id, one.timeout, hold=False)
        progress("Stopped", {})
        container = self._board.get(one.container_id)
        if container is None:
            raise NotFound(f"no container {one.container_name}", resource=one.container_name, operation="restart")
        await self._hooks.note_due(container, one.hooks)
        await self._start_again(container, one.cause)

    async def _kill(self, one: KillContainer, _progress: Progress) -> None:
        await self._workers.run("work", lambda: self._engine.kill_container(one.container_id, one.signal))

    async def _remove(self, one: RemoveContainer, _progress: Progress) -> None:
        await self._board.released(one.container_id)
        await self._workers.run("work", lambda: self._engine.remove_container(one.container_id, volumes=one.volumes))
        self._board.drop(one.container_id)

    async def _rename(self, one: RenameContainer, _progress: Progress) -> None:
        call = lambda: self._engine.rename_container(one.container_id, one.new_name, one.number)  # noqa: E731
        await self._workers.run("work", call)
        now = self._board.get(one.container_id)
        if now is not None:
            self._board.put(now.replace(name=one.new_name, number=one.number))

    async def _run_init(self, one: RunInit, _progress: Progress) -> None:
        left = self._board.find(one.container_name)
        if left is not None:
            await self._workers.run("work", lambda: self._engine.remove_container(left.id))
            self._board.drop(left.id)
        beside = self._board.find(one.beside)
        creation = CreateContainer(
            id=one.id,
            subject=one.subject,
            cause=one.cause,
            service=one.service,
            number=1,
            container_name=one.container_name,
            config_hash="",
            replaces=beside.id if beside else None,
            oneoff=True,
        )
        made = await self._create_container(creation)
        await self._start_again(made, one.cause)
        async with self._hooks.relay_output(made, one):
            await self._board.wait_until([made.service], lambda: not self._runs(made.id))
        ended = self._board.get(made.id)
        code = ended.exit_code if ended is not None else None
        if ended is None or code != 0:
            raise InitFailed(one, ended)
        await self._workers.run("work", lambda: self._engine.remove_container(made.id, volumes=True))
        self._board.drop(made.id)

    def _runs(self, container_id: str) -> bool:
        found = self._board.get(container_id)
        return found is not None and found.alive

    async def _run_hooks(self, one: RunHooks, _progress: Progress) -> None:
        container = self._board.get(one.container_id) if one.container_id else self._board.find(one.container_name)
        if container is None:
            return
        failed = await self._hooks.run(one, container)
        if failed is None:
            return
        if one.when == "post_start":
            await self._end(container.id, None, hold=True)
            await self._hooks.note_due(container, 0)
        raise failed

    async def _wait(self, one: WaitFor, _progress: Progress) -> None:
        try:
            async with asyncio.timeout(one.timeout):
                await self._board.wait(one.condition, one.service)
        except TimeoutError:
            failure = ConditionFailed(
                f"waited {one.timeout:g} s for {one.service} ({one.condition}) in vain", service=one.service
            )
            self._accept(one, failure)
        except ConditionFailed as failure:
            kind = "dependency" if one.required else f'optional dependency "{one.service}"'
            failure.message = f"{kind} failed to start: {failure.message}"
            self._accept(one, failure)

    async def _ask_provider(self, one: RunProvider, progress: Progress) -> None:
        hear = asyncio.get_running_loop().call_soon_threadsafe
        ask = lambda: self._answers.ask(  # noqa: E731
            self._stack, one.service, one.action, lambda text: (hear(progress, text, {}), None)[1], self._clock
        )
        for warning in await self._workers.run("stop", ask):
            self._emit(Event(time=self._clock(), kind="warning", subject=one.service.name, message=warning))

    async def _settle(self, one: Settle, _progress: Progress) -> None:
        try:
            await self._settling.wait(one)
        except ConditionFailed as failure:
            self._accept(one, failure)

    def _accept(self, one: WaitFor, failure: ConditionFailed) -> None:
        if one.required:
            raise failure
        self._emit(
            Event(
                time=self._clock(),
                kind="warning",
                subject=one.subject,
                service=one.service,
                message=f"{failure.message}; going on"
                if isinstance(one, Settle)
                else f"{failure.message}; going on without it",
            )
        )


_PERFORM: dict[type[Operation], Callable[[Performer, Any, Progress], Any]] = {
    PullImage: Performer._pull,
    BuildImage: Performer._build,
    CreateNetwork: Performer._create_network,
    RemoveNetwork: Performer._remove_network,
    CreateVolume: Performer._create_volume,
    RemoveVolume: Performer._remove_volume,
    CreateContainer: Performer._create,
    StartContainer: Performer._start,
    StopContainer: Performer._stop,
    RestartContainer: Performer._restart,
    KillContainer: Performer._kill,
    RemoveContainer: Performer._remove,
    RunInit: Performer._run_init,
    RunHooks: Performer._run_hooks,
    RunProvider: Performer._ask_provider,
    RenameContainer: Performer._rename,
    WaitFor: Performer._wait,
    Settle: Performer._settle,
}
