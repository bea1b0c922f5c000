"""The detached process that hosts one project's loop: the project's lock, the control socket, the goal on disk.

SIGTERM ends supervision, containers go on; only when the machine goes down they are stopped first. Whatever goes wrong
stands in the run directory's ``supervisor.log``; a crash ends the process with a status other than 0, and its keeper
starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrator.code_cache import is_code_cache_stale, refresh_code_cache
from orchestrator.control_loop.loop import Loop, Settled
from orchestrator.detach import is_machine_ending, leave_control_group
from orchestrator.errors import StackError
from orchestrator.events import Event
from orchestrator.supervision.askers import Asker, Askers
from orchestrator.supervision.confirmation import Confirmation
from orchestrator.supervision.control import (
    CODE_VERSION,
    LineBuffer,
    Place,
    acquire_lock,
    dump_goal,
    encode,
    leave_place,
    list_records,
    listen_control,
    load_goal,
    read_goal,
    require_memory,
    write_goal,
)
from orchestrator.supervision.control_server import Connection
from orchestrator.supervision.keeping import Keeping
from orchestrator.supervision.preload import preload
from orchestrator.supervision.supervisor_log import log_context, log_exception, redirect_streams
from orchestrator.supervision.tracing import Tracer, write_timeline

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine
    from orchestrator.goal import Goal

STEP_DOWN_LIMIT = 5.0
"""Seconds that running operations get when the supervisor is asked to step down."""

SLIM_AFTER = 0.2
"""Seconds after a goal was reached until what the start took is given back, so that the answer comes first."""


def await_goal(channel: int, memory: int, engine: str, keeper: int) -> NoReturn:
    """Be the supervisor that was forked ahead: load everything, then wait for a project on `channel`.

    Exits quietly when the other end closes first, or another supervisor holds the project's lock. `memory` is the
    process `keeper`'s: what is written there lets it start a successor.
    """
    connection = socket.socket(fileno=channel)
    try:
        _exit_if_closed(connection)
        prepared = load_engine(engine)
        _exit_if_closed(connection)
        preload(engine)
        buffer = LineBuffer()
        messages: list[dict[str, Any]] = []
        while not messages:
            data = connection.recv(1 << 16)
            if not data:
                os._exit(0)
            messages = list(buffer.feed(data))
        host, *rest = messages
        place = Place(project=host["project"], run=host["run"], state=host["state"])
        if host["engine"] != engine:
            prepared = load_engine(host["engine"])
        prepared.require_access()
        require_memory(place)
        lock = acquire_lock(place)
        if lock is None:
            connection.sendall(encode({"busy": True}))
            os._exit(0)
        os.write(memory, encode({**host, "do": "adopt"}))
        os.close(memory)
        # The keeper sees to it; a monitor that was started before it came to that would stay behind.
        leave_control_group(os.getpid())
    except Exception as error:
        _refuse(connection, error)
        os._exit(1)
    supervisor = Supervisor(place, host["engine"], prepared, lock, keeper)
    first = b"".join(encode(one) for one in rest) + buffer.rest()
    _host(supervisor, (connection, first))


def _exit_if_closed(connection: socket.socket) -> None:
    """Do not go on importing for a command that has found another supervisor, or is gone."""
    with contextlib.suppress(BlockingIOError):
        if not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            os._exit(0)


def adopt_project(record: dict[str, Any], keeper: int) -> NoReturn:
    """Be the successor of a supervisor that died: take its project over, restart nothing. `keeper` has started it."""
    place = Place(project=record["project"], run=record["run"], state=record["state"])
    lock = acquire_lock(place)
    if lock is None:
        os._exit(0)
    if read_goal(place) is None:
        # A command has taken the project down meanwhile; what the lock has made must not be left.
        leave_place(place, lock)
        os._exit(0)
    _host(Supervisor(place, record["engine"], load_engine(record["engine"]), lock, keeper), None)


def load_engine(name: str) -> Engine:
    """The engine by its name in the registry, or by ``module:Class``."""
    if ":" in name:
        from importlib import import_module

        module, _, attribute = name.partition(":")
        made: Engine = getattr(import_module(module), attribute)()
        return made
    from orchestrator.engines import registry

    return registry.load_engine(name)


def _refuse(connection: socket.socket, error: Exception) -> None:
    if isinstance(error, StackError):
        refused = {"code": error.code, "message": error.message, "hint": error.hint}
    else:
        refused = {
            "code": "unavailable",
            "message": f"the supervisor could not start: {error!r}",
            "hint": traceback.format_exception(error)[-2].strip().replace("\n", "; "),
        }
    with contextlib.suppress(OSError):
        connection.sendall(encode({"refused": refused}))


def _host(supervisor: Supervisor, first: tuple[socket.socket, bytes] | None) -> NoReturn:
    status = 1
    try:
        redirect_streams(supervisor.place)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.set_exception_handler(lambda _loop, context: log_context(context))
        loop.run_until_complete(supervisor.run(first))
        status = 0
        supervisor.keeping.say_farewell()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        # The interpreter's own tear-down would wait for threads that are in an engine call, and takes its time.
        os._exit(status)


class Supervisor:
    """One project's lock, clients and loop."""

    def __init__(self, place: Place, engine_name: str, engine: Engine, lock: int, keeper: int) -> None:
        self.place = place
        self._engine_name = engine_name
        self._engine = engine
        self._lock = lock
        self._clients: set[Connection] = set()
        self._askers = Askers()
        self._running: asyncio.AbstractEventLoop | None = None
        self._unsaved: dict[str, Any] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._slimming: asyncio.Task[None] | None = None
        self._done = asyncio.Event()
        self._begun = False
        self._machine_ends = False
        self._tracer = Tracer()
        self.loop = Loop(
            engine,
            place.project,
            self.emit,
            on_settled=self._settle,
            on_idle=self._consider_leaving,
            on_edit=self._take_edit,
            on_plan=self._tracer.note_plan,
        )
        self.confirmation = Confirmation(self.loop)
        record = {"project": place.project, "run": place.run, "state": place.state, "engine": engine_name}
        self.keeping = Keeping(record, keeper, self._introduce)
        self._engine.on_warning = self._warn

    async def run(self, first: tuple[socket.socket, bytes] | None) -> None:
        """Serve until nothing is left to supervise, or until asked to step down."""
        running = self._running = asyncio.get_running_loop()
        gc.freeze()
        # A short command looks for garbage less often than a process should that lives for months.
        gc.set_threshold(700, 10, 10)
        gc.enable()
        listener = listen_control(self.place)
        server = await running.create_unix_server(lambda: Connection(self), sock=listener)
        # Not through the event loop, which would import `inspect` to look at the handler.
        signal.signal(signal.SIGTERM, lambda *_: running.call_soon_threadsafe(self._terminate))
        self.keeping.begin(running)
        looping = asyncio.create_task(self.loop.run())
        looping.add_done_callback(lambda _task: self._done.set())
        if first is not None:
            channel, buffered = first
            channel.setblocking(False)
            _transport, connection = await running.connect_accepted_socket(lambda: Connection(self), channel)
            if buffered:
                connection.data_received(buffered)
        else:
            self._adopt()
        self._begun = True
        self._consider_leaving()
        await self._done.wait()
        server.close()
        await self._leave(looping)

    def emit(self, event: Event) -> None:
        """Send an event to every client that listens."""
        self._tracer.hear(event)
        listeners = [one for one in self._clients if one.listens]
        if listeners:
            line = encode({"event": event.to_json()})
            for one in listeners:
                one.send_line(line)

    def hello(self) -> dict[str, Any]:
        """Who this is: the first message on every connection."""
        return {
            "project": self.place.project,
            "engine": self._engine_name,
            "version": CODE_VERSION,
            "pid": os.getpid(),
            "keeper": self.keeping.pid,
        }

    def _introduce(self) -> None:
        for one in self._clients:
            one.send({"hello": self.hello()})

    def joined(self, connection: Connection) -> None:
        """A client has connected."""
        self._clients.add(connection)

    def left(self, connection: Connection) -> None:
        """A client is gone, or has said that it is done."""
        self._clients.discard(connection)
        self._askers.forget(connection)
        self._consider_leaving()

    def apply(
        self, connection: Connection, request: int, data: dict[str, Any], token: str = "", *, again: bool = False
    ) -> None:
        """Take a client's goal, to be known by `token`. Raises StackError for one that cannot be read.

        `again` says that the client gave it to a predecessor before: then it does not count against a newer one.
        """
        try:
            goal = load_goal(data)
        except Exception as error:
            raise StackError(f"the goal cannot be read: {error!r}") from error
        for event in self.confirmation.take_kept():
            self.emit(event)
        asker = Asker(connection, request, goal)
        newer = self.loop.goal if again else None
        if newer is not None and newer.issued_at > goal.issued_at:
            if not self._askers.give_up(asker, newer):
                self._askers.add(asker)
                self.loop.submit(newer)
            return
        self._tracer.begin(goal.issued_at)
        self.loop.submit(goal)
        self._askers.supersede(self.loop.goal or goal, asker)
        # What counts from now on is the merged goal; the client's own text is it, unless there was something to merge.
        own = self.loop.goal is goal
        self.confirmation.token = token if own else ""
        self._save(data if own else dump_goal(self.loop.goal or goal))

    def status(self) -> dict[str, Any]:
        """The loop's status and who hosts it."""
        return {**self.hello(), "clients": len(self._clients), **self.loop.status()}

    @property
    def leaving(self) -> bool:
        """True when this process is about to end."""
        return self._done.is_set() or (not self._clients and self.loop.idle)

    def step_down(self) -> None:
        """End supervision; containers go on."""
        self.loop.stop()
        if self._running is not None:
            self._running.call_later(STEP_DOWN_LIMIT, self._done.set)

    def _terminate(self) -> None:
        self._machine_ends = is_machine_ending()
        self.step_down()

    def _adopt(self) -> None:
        found = read_goal(self.place)
        if found is None:
            self._done.set()
            return
        goal, _engine = found
        try:
            with open(self.place.settled) as file:
                settled = float(file.read()) >= goal.issued_at
        except (OSError, ValueError):
            settled = False
        if settled:
            self.loop.adopt(goal)
        else:
            self.loop.submit(goal)

    def _take_edit(self, goal: Goal) -> None:
        # What the loop wants by itself is no longer what a command has asked for.
        self.confirmation.token = ""
        self._save(dump_goal(goal))

    def _save(self, data: dict[str, Any]) -> None:
        self._unsaved = data
        if self._saving is None:
            self._saving = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._unsaved is not None:
                data, self._unsaved = self._unsaved, None
                await self.loop.workers.run("load", lambda one=data: write_goal(self.place, self._engine_name, one))  # type: ignore[misc]
        except OSError as error:
            self._tell("warning", f"the goal could not be kept in {self.place.goal}: {error.strerror}")
        finally:
            self._saving = None

    def _settle(self, settled: Settled) -> None:
        if self._saving is not None:
            # A goal that was reached is a goal that a successor knows.
            self._saving.add_done_callback(lambda _task: self._settle(settled))
            return
        goal = self.loop.goal
        if goal is None or not self.loop.reached:
            return
        self._mark_settled(goal.issued_at)
        self._keep_trace(converged=settled.converged)
        self._askers.answer(settled)
        if self._running is not None:
            self._running.call_later(SLIM_AFTER, self._slim)

    def _keep_trace(self, *, converged: bool) -> None:
        # Written at once: the client that is about to hear of the end may ask for it.
        with contextlib.suppress(OSError):
            write_timeline(self.place, self._tracer.finish(self.place.project, time.time(), converged=converged))

    def _mark_settled(self, issued_at: float) -> None:
        with contextlib.suppress(OSError):
            beside = f"{self.place.settled}.new"
            with open(beside, "w") as file:
                file.write(repr(issued_at))
            os.rename(beside, self.place.settled)

    def _slim(self) -> None:
        if self.loop.reached and self._slimming is None:
            self._slimming = asyncio.create_task(self._give_back())

    async def _give_back(self) -> None:
        try:
            if is_code_cache_stale():
                # In a thread: it reads and writes megabytes, and commands may ask meanwhile.
                await self.loop.workers.run("load", refresh_code_cache)
            if self.loop.reached:
                self.loop.workers.rest()
                release_memory()
        finally:
            self._slimming = None

    def _warn(self, diagnostic: Any) -> None:
        # Engines warn from their worker threads.
        event = Event(time=time.time(), kind="warning", message=diagnostic.render(), details={"code": diagnostic.code})
        if self._running is not None:
            self._running.call_soon_threadsafe(self._hear_warning, event)

    def _hear_warning(self, event: Event) -> None:
        if any(one.listens for one in self._clients):
            self.emit(event)
        else:
            self.confirmation.keep(event)

    def _tell(self, kind: Any, message: str) -> None:
        self.emit(Event(time=time.time(), kind=kind, subject=self.place.project, message=message))

    def _consider_leaving(self) -> None:
        if not self._begun or self._clients or not self.loop.idle:
            return
        if self._saving is not None:
            self._saving.add_done_callback(lambda _task: self._consider_leaving())
        else:
            self._done.set()

    async def _leave(self, looping: asyncio.Task[None]) -> None:
        if looping.done() and not looping.cancelled() and looping.exception() is not None:
            raise looping.exception() or SystemExit(1)
        if self._machine_ends:
            await self._stop_containers()
        if self._slimming is not None:  # a process that ends now would leave half a file behind
            await asyncio.gather(self._slimming, return_exceptions=True)
        self._remove_files()
        looping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looping
        self._engine.stop_serving()
        for one in tuple(self._clients):
            one.close()

    async def _stop_containers(self) -> None:
        """Each with its own stop signal and grace period, as far as the machine waits for it. They stay wanted."""
        observed = await self.loop.workers.run("work", lambda: self._engine.observe(self.place.project))
        stops = [
            self.loop.workers.run("stop", lambda key=one.id: self._engine.stop_container(key, hold=False))  # type: ignore[misc]
            # Also what has just ended by itself: nobody else will write its exit code down.
            for one in observed.containers
        ]
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(outcome, BaseException):
                log_exception(type(outcome), outcome, outcome.__traceback__)

    def _remove_files(self) -> None:
        goal = self.loop.goal
        paths = [self.place.socket]
        if goal is not None and goal.down and self.loop.converged:
            paths += [self.place.log, *list_records(self.place)]
        elif not os.path.getsize(self.place.log):
            paths.append(self.place.log)
        leave_place(self.place, self._lock, paths)


def release_memory() -> None:
    """Give back to the kernel what the start has left behind."""
    import ctypes

    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
