"""One project in the real loop, over an engine in memory: commands, crashes and failures at random, in virtual time."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from orchestrator.actions import goals
from orchestrator.control_loop import providers
from orchestrator.control_loop.loop import Loop, Settled
from orchestrator.digest import config_hash
from orchestrator.errors import EngineError
from orchestrator.events import Event
from orchestrator.goal import Goal, Want
from orchestrator.model import Service, Stack
from orchestrator.reconcile import reconcile
from orchestrator.reconcile.providers import inject_environment, is_provided
from orchestrator.restart import LONGEST_WAIT
from orchestrator.supervision.control import dump_goal, load_goal
from reconcile.random_stacks import (
    IMAGES,
    INIT_IMAGE,
    Document,
    edit_document,
    load_document,
    make_document,
    render_document,
)
from reconcile.virtual_time import InlineWorkers, VirtualLoop, run_virtual
from reconcile.weather_engine import WeatherEngine

EPOCH = 1_000_000.0
PATIENCE = 600.0
"""Seconds, of virtual time, that a goal may take."""


class Host:
    """What the supervisor is to the loop: keeps the goal, starts a successor after a crash, leaves when idle."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.loop: Loop | None = None
        self.latest: Loop | None = None
        self.saved: dict[str, Any] | None = None
        self.settled_at = 0.0
        self.crashes = 0
        self._workers: InlineWorkers | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: asyncio.Future[Settled] | None = None

    def boot(self, *, adopt: bool) -> Loop:
        """Be a new process; with `adopt` the successor of one that died."""
        world = self._world
        self._workers = InlineWorkers(world.chance)
        loop = self.loop = self.latest = Loop(
            world.engine,
            "app",
            world.hear,
            on_settled=lambda settled: self._settle(loop, settled),
            on_idle=lambda: self._leave(loop),
            on_edit=lambda goal: self.save(goal),
            on_plan=lambda plan: world.engine.note_plan(_complete(loop), plan),
            clock=world.clock,
            workers=self._workers,  # type: ignore[arg-type]
        )
        self._task = asyncio.get_running_loop().create_task(loop.run())
        if adopt and self.saved is not None:
            goal = load_goal(self.saved)
            if self.settled_at >= goal.issued_at:
                loop.adopt(goal)
            else:
                loop.submit(goal)
        return loop

    async def apply(self, goal: Goal) -> Settled:
        """Give it a goal as a command does, and wait; a crash meanwhile is followed to the successor."""
        self._waiting = asyncio.get_running_loop().create_future()
        self.submit(goal)
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._waiting
        except TimeoutError:
            status = self.loop.status() if self.loop else None
            raise AssertionError(f"the goal is neither reached nor given up: {status}") from None
        finally:
            self._waiting = None

    async def crash(self, goal: Goal | None, *, keeper: bool) -> None:
        """kill -9. The keeper, if it lives, starts a successor; the waiting command, if any, asks again for `goal`."""
        assert self._workers is not None
        self.crashes += 1
        self._workers.die()
        self._world.engine.forget_watches()
        mine = asyncio.all_tasks() - self._world.tasks
        self.loop = None
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)
        if keeper:
            self.boot(adopt=True)
        if self._waiting is not None and goal is not None:
            self.submit(goal)

    def submit(self, goal: Goal) -> None:
        """Give a goal to whoever lives, and keep what comes of it."""
        loop = self.loop or self.boot(adopt=False)
        loop.submit(goal)
        self.save(loop.goal or goal)

    def save(self, goal: Goal) -> None:
        """Keep what is wanted for a successor."""
        self.saved = dump_goal(goal)

    def _settle(self, loop: Loop, settled: Settled) -> None:
        if loop is not self.loop:
            return
        assert loop.goal is not None
        self.settled_at = loop.goal.issued_at
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(settled)

    def _leave(self, loop: Loop) -> None:
        if loop is self.loop and self._waiting is None and self._task is not None:
            loop.stop()
            self.loop = None

    async def gone(self) -> bool:
        """Whether the process has ended, or does so in a moment."""
        async with asyncio.timeout(PATIENCE):
            while self.loop is not None and self.loop.idle:
                self._leave(self.loop)
            if self.loop is None and self._task is not None:
                await asyncio.gather(self._task, return_exceptions=True)
        return self.loop is None


class World:
    """One run. Everything that is random comes out of `seed`."""

    def __init__(self, seed: int, tell: Callable[[str], None]) -> None:
        self.chance = random.Random(seed)
        self.tell = tell
        self.virtual: VirtualLoop | None = None
        self.engine = WeatherEngine(self.chance, self.clock, self._say)
        self.host = Host(self)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.events: list[Event] = []
        self.errors: list[BaseException] = []
        self.goal: Goal | None = None
        self.attempts = 0
        self._looks = 0.0
        self._documents: list[Document] = []
        for reference in (*IMAGES, INIT_IMAGE):
            self.engine.publish_image(reference)

    def clock(self) -> float:
        """Epoch seconds; never the same twice."""
        self._looks += 1e-6
        return EPOCH + self._looks + (self.virtual.time() if self.virtual is not None else 0.0)

    def _say(self, text: str) -> None:
        self.tell(f"{self.clock() - EPOCH:9.3f} {text}")

    def hear(self, event: Event) -> None:
        """What the loop tells."""
        if event.kind in ("error", "warning", "health") or (event.kind == "container" and event.action != "die"):
            self._say(f"  {event.kind} {event.subject} {event.action} {event.message[:90]}")
        self.events.append(event)

    def run(self) -> None:
        """Live through it. AssertionError says what must never happen."""
        with self._replaced():
            try:
                run_virtual(self._main)
            finally:
                if self.errors:
                    raise AssertionError(f"internal errors: {self.errors}") from self.errors[0]

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        def note(_kind: Any, error: BaseException, _trace: Any) -> None:
            if not isinstance(error, EngineError):
                self._say(f"WRONG {error!r}")
                self.errors.append(error)

        def ask(_project: str, service: Any, action: str, *_more: Any) -> tuple[dict[str, str], tuple[str, ...]]:
            self._say(f"    provider {action} {service.name}")
            self.engine._begin(f"provider {action}", service.name)
            (self.engine.answered.add if action == "up" else self.engine.answered.discard)(service.name)
            return {f"{service.name.upper()}_URL": "there"} if action == "up" else {}, ()

        with (
            patch.object(sys, "excepthook", note),
            patch.object(providers, "run_provider", ask),
            patch.object(providers, "find_provider", lambda kind: kind),
        ):
            yield

    async def _main(self, virtual: VirtualLoop) -> None:
        self.virtual = virtual
        virtual.set_exception_handler(self._note_trouble)
        self.tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        chance = self.chance
        self._documents = [make_document(chance)]
        for _ in range(chance.randint(1, 5)):
            document = self._documents[-1]
            if chance.random() < 0.5:
                document = edit_document(chance, document)
            self._documents.append(document)
            self._set_weather(chance.choice((0.0, 0.0, 0.05, 0.15)))
            await self._live(self._make_goal(document))
        await self._prove(self._documents[-1])

    def _note_trouble(self, _loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(error if isinstance(error, BaseException) else AssertionError(str(context.get("message"))))

    def _set_weather(self, badness: float) -> None:
        self.engine.fail, self.engine.crash, self.engine.sick = badness, badness * 2, badness * 2
        self._say(f"weather {badness}")

    def _make_goal(self, document: Document) -> Goal:
        """What some command asks for, with the stack as the file has it now."""
        chance, now, previous = self.chance, self.clock(), self.goal
        stack = load_document(document, chance.choice(((), ("debug",))))
        if not stack.services:
            stack = load_document(document, ("debug",))
        some = _want_some(chance, stack)
        base = previous.stack if previous is not None else stack
        existing = {name: len(self.engine.look(Goal(stack=base)).of_service(name)) for name in base.services}
        existing = {name: count for name, count in existing.items() if count}
        kind = chance.choice(("up", "up", "up", "up", "up", "stop", "start", "restart", "rm", "down", "create"))
        self._say(f"{kind} {some}\n{render_document(document)}")
        match kind:
            case "stop" | "rm":
                want: Want = "stopped" if kind == "stop" else "absent"
                goal = goals.edit_want(stack, previous, some, want, now)
            case "start" if existing:
                goal = goals.edit_start(stack, previous, existing, now, wait=chance.random() < 0.3)
            case "restart" if existing:
                named = chance.sample(sorted(existing), chance.randint(1, len(existing)))
                goal = goals.edit_restart(stack, previous, named, existing, now, dependents=chance.random() < 0.8)
            case "down":
                goal = goals.edit_down(stack, now, remove_orphans=True, remove_volumes=chance.random() < 0.5)
            case _:
                goal = goals.edit_up(stack, previous, self._choose_up(stack, some, start=kind != "create"), now)
        self.goal = goal
        return goal

    def _choose_up(self, stack: Stack, some: tuple[str, ...], *, start: bool) -> goals.UpOptions:
        chance = self.chance

        def maybe(part: float) -> bool:
            return chance.random() < part

        scalable = [name for name in some if _can_be_scaled(stack.services[name])]
        recreate = chance.choice(("", "", "", "force", "never"))
        return goals.UpOptions(
            services=some if maybe(0.4) else (),
            dependencies=maybe(0.85),
            start=start,
            scale={name: chance.randint(0, 3) for name in scalable if maybe(0.2)},
            force_recreate=recreate == "force",
            no_recreate=recreate == "never",
            # What contradicts itself is refused before there is a goal.
            always_recreate_deps=maybe(0.1) and recreate != "never",
            renew_anon_volumes=maybe(0.1) and recreate != "never",
            remove_orphans=maybe(0.4),
            pull=chance.choice(("policy", "policy", "always", "missing")),
            wait=start and maybe(0.3),
            rollback=maybe(0.15),
        )

    async def _live(self, goal: Goal) -> None:
        """Let a command run; meanwhile, and for a while after it, things happen."""
        command = asyncio.get_running_loop().create_task(self.host.apply(goal))
        self.tasks.add(command)
        for _ in range(self.chance.choice((0, 0, 1, 2, 3))):
            await asyncio.sleep(self.chance.choice((0.0, 0.01, 0.1, 1.0)) * self.chance.random())
            await self._disturb(goal, waiting=not command.done())
        settled = await command
        self._say(f"settled {settled.converged}: {[one.message for one in settled.failures]}")
        for _ in range(self.chance.choice((0, 0, 1, 2))):
            await asyncio.sleep(self.chance.uniform(0, 20))
            await self._disturb(goal, waiting=False)
        self.tasks.discard(command)

    async def _disturb(self, goal: Goal, *, waiting: bool) -> None:
        chance = self.chance
        match chance.choice(("exit", "exit", "exit", "crash", "crash", "edit")):
            case "crash" if self.host.loop is not None:
                keeper = chance.random() < 0.7
                self._say(f"  kill -9 of the supervisor{'' if keeper else ' and its keeper'}")
                await self.host.crash(self.goal if waiting else None, keeper=keeper)
            case "edit" if waiting and self.host.loop is not None and not goal.down:
                document = edit_document(chance, self._documents[-1])
                self._documents.append(document)
                newer = self._make_goal(document)
                self.host.submit(newer)
            case _:
                alive = [one.state for one in self.engine._containers.values() if one.state.alive]
                if alive:
                    one = chance.choice(sorted(alive, key=lambda state: state.id))
                    self.engine.exit(one.id, chance.choice((0, 1, 137)))

    async def _prove(self, document: Document) -> None:
        """In good weather: it converges, a second plan is empty, nothing moves any more, and `down` leaves nothing."""
        self._set_weather(0.0)
        await asyncio.sleep(100)
        stack = load_document(document, ("debug",))
        self.attempts = 0
        while True:
            self.attempts += 1
            self.goal = goals.edit_up(stack, None, goals.UpOptions(remove_orphans=True), self.clock())
            self._say("up, in good weather")
            settled = await self.host.apply(self.goal)
            if settled.converged:
                break
            assert self.attempts < 3, f"does not converge: {[one.message for one in settled.failures]}"
            await asyncio.sleep(60)
        self._check_reached(self.goal)
        await asyncio.sleep(LONGEST_WAIT + 5)
        calls = list(self.engine.calls)
        self._check_reached(self.goal)
        await asyncio.sleep(LONGEST_WAIT + 5)
        assert self.engine.calls == calls, f"it does not come to rest: {self.engine.calls[len(calls) :]}"
        self._check_timers()
        down = goals.edit_down(stack, self.clock(), remove_orphans=True, remove_volumes=True)
        self._say("down")
        settled = await self.host.apply(down)
        assert settled.converged, f"down fails: {[one.message for one in settled.failures]}"
        left = self.engine.look(down)
        assert not (left.containers or left.networks or left.volumes), f"down leaves {left}"
        assert await self.host.gone(), "the supervisor stays although nothing is left"
        assert not self.virtual.timers(), "timers outlive the supervisor"  # type: ignore[union-attr]

    def _check_timers(self) -> None:
        """Nothing wakes up but probes."""
        assert self.virtual is not None
        probed = [
            one
            for one in self.engine.look(self.goal or Goal(stack=Stack(name="app"))).containers
            if one.status == "running" and one.config.get("healthcheck")
        ]
        timers = self.virtual.timers()
        assert len(timers) <= len(probed), f"{len(probed)} probes, and these timers: {timers}"

    def _check_reached(self, goal: Goal) -> None:
        loop = self.host.latest
        assert loop is not None
        stack = inject_environment(goal.stack, loop.answers.by_service)
        observed = self.engine.look(goal).replace(provided=loop.answers.moments)
        plan = reconcile(goal.replace(stack=stack), observed, self.clock())
        assert not plan, f"a second plan is not empty:\n{plan.render()}"
        for name, service in stack.services.items():
            replicas = observed.of_service(name)
            if is_provided(service):
                assert not replicas
                continue
            assert len(replicas) == goal.replicas(name), f"{name} has {len(replicas)} replicas"
            for one in replicas:
                assert one.config_hash == config_hash(service, stack)
                assert one.image_id == observed.images[service.image or ""].id  # type: ignore[union-attr]
                assert one.name == (service.container_name or f"app-{name}-{one.number}")
                # A server that ended well and may rest counts as a job that is done.
                done = one.exit_code == 0 and service.restart.condition in ("no", "on-failure")
                assert one.alive or done, f"{one.name} is {one.status}"
                hooked = not (one.alive and service.post_start and one.id in self.engine.hookless)
                assert hooked, f"the hooks after the start of {one.name} were never run"
        strange = [one for one in observed.containers if one.oneoff or one.service not in stack.services]
        assert not strange, f"orphans are left: {[(one.name, one.status) for one in strange]}"


def _can_be_scaled(service: Service) -> bool:
    named = "container_name" in service.config or service.ports
    return not named and service.environment.get("KIND") == "server"


def _complete(loop: Loop) -> Goal:
    """The loop's goal, with what providers have said."""
    assert loop.goal is not None
    return loop.goal.replace(stack=inject_environment(loop.goal.stack, loop.answers.by_service))


def _want_some(chance: random.Random, stack: Stack) -> tuple[str, ...]:
    names = sorted(stack.services)
    return tuple(chance.sample(names, chance.randint(1, len(names))))
