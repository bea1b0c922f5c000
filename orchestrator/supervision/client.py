"""The caller's side: gives a goal to a project's supervisor, streams its events, and comes back with how it ended.

Plain sockets and no event loop, since it stands on the road of every command. Where no supervisor runs, the prepared
one becomes it; where one runs already, the goal is handed to that. A supervisor that dies half-way is followed to its
successor with the same goal, which asks for each thing once.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from orchestrator.control_loop.failures import Failure
from orchestrator.errors import StackError, Unavailable
from orchestrator.events import Event, Sink
from orchestrator.record import Record
from orchestrator.supervision.control import (
    CODE_VERSION,
    LineBuffer,
    Place,
    connect_control,
    dump_goal,
    encode,
    read_goal,
)
from orchestrator.supervision.launch import Prepared, prepare

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout
    from orchestrator.goal import Goal

HANDOVER_LIMIT = 15.0
"""Seconds to find a supervisor that answers, before the command gives up."""

PATIENCE = 0.5
"""Seconds that a supervisor which is about to listen, or is being started again, gets before another is forked."""

RETRY = 0.005
"""Seconds between two looks for a supervisor that has the lock and is about to listen, or is being started again."""

LIVES = 4
"""How many supervisors may die under one goal before the command gives up."""


class Outcome(Record):
    """How a goal ended. `superseded`: a newer goal took its place, and this is how that one ended.

    `token` is what the supervisor knows the goal by (:mod:`orchestrator.supervision.confirming`).
    """

    converged: bool
    failures: tuple[Failure, ...] = ()
    superseded: bool = False
    token: str = ""


class _Lost(Exception):
    """The supervisor went away, or was never ours."""


class Session:
    """A conversation with one project's supervisor, whichever process that is."""

    def __init__(
        self,
        project: str,
        *,
        prepared: Prepared | None = None,
        engine: str | None = None,
        layout: Layout | None = None,
    ) -> None:
        self.place = Place.of(project, layout)
        self._engine = engine or os.environ.get("STACK_ENGINE") or "native"
        self._prepared = prepared
        self._socket: socket.socket | None = None
        self._buffer = LineBuffer()
        self._ready: list[dict[str, Any]] = []
        self._supervisor = self._keeper = -1
        self._keeper_pid = 0
        self._contended = False
        self._request = 0

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def converge(self, goal: Goal, sink: Sink, *, timeout: float | None = None) -> Outcome:
        """Give the project a new goal and stream events into `sink` until it is reached or given up.

        Raises StackError when no supervisor can be had, and when `timeout` seconds have passed (the goal stays).
        KeyboardInterrupt passes through; the goal stays, and the session can be given another one.
        """
        self._request += 1
        token = f"{os.getpid()}-{time.time_ns()}"
        asked = {"do": "apply", "request": self._request, "token": token, "goal": dump_goal(goal)}
        line = encode(asked)
        deadline = None if timeout is None else time.monotonic() + timeout
        deaths, contention = 0, time.monotonic() + HANDOVER_LIMIT
        while deaths < LIVES and time.monotonic() < contention:
            try:
                self._find_supervisor()
                self._send(line)
                for message in self._messages(deadline):
                    if "event" in message:
                        sink(Event.from_json(message["event"]))
                    elif "settled" in message and message["settled"]["request"] == self._request:
                        return _load_outcome(message["settled"], token)
            except _Lost:
                self._drop()
                if not self._contended:
                    # A newer goal may have been given since: this one must not count against it.
                    line = encode({**asked, "again": True})
                    deaths, contention = deaths + 1, time.monotonic() + HANDOVER_LIMIT
            except BaseException:
                # Whatever was half read or half sent is worth nothing; the supervisor goes on, or is found again.
                self._abandon()
                raise
        raise self._unreachable(f"died {deaths} times" if deaths else "cannot be reached", "converge")

    def follow(self, sink: Sink, *, until: Callable[[Event], bool] | None = None) -> bool:
        """Stream events until `until(event)` is true (then True), or the supervisor is gone for good (then False)."""
        while True:
            try:
                if self._socket is None and not self._rejoin():
                    return False
                self._send(encode({"do": "subscribe"}))
                for message in self._messages(None):
                    if "event" in message:
                        event = Event.from_json(message["event"])
                        sink(event)
                        if until is not None and until(event):
                            return True
            except _Lost:
                self._drop()
            except BaseException:
                self._abandon()
                raise

    def finish(self, *, timeout: float = 10.0) -> bool:
        """End the conversation. If nothing is left to supervise, wait until the supervisor and its keeper are gone.

        True if they are gone, False if the supervisor stays (or did not end in `timeout` seconds).
        """
        staying = self._socket is None
        if self._socket is not None:
            try:
                self._send(encode({"do": "leave"}))
                for message in self._messages(time.monotonic() + timeout):
                    staying = staying or "staying" in message
            except (_Lost, StackError):
                pass
        gone = not staying and self._await_end(timeout)
        self.close()
        return gone

    def close(self) -> None:
        """End the conversation at once; the supervisor goes on."""
        self._drop()
        self._forget_processes()
        if self._prepared is not None:
            self._prepared.close()

    def ask(self, do: str, answer: str, *, timeout: float = 5.0) -> dict[str, Any] | None:
        """Send one command to a supervisor that runs; None where none does, or only one of another version."""
        try:
            # Who only asks must not end what supervises: nothing would until the next goal.
            if self._socket is None and not self._connect(replace=False):
                return None
            self._send(encode({"do": do}))
            for message in self._messages(time.monotonic() + timeout):
                if answer in message:
                    return message
        except _Lost:
            self._drop()
        return None

    def shut_down(self) -> bool:
        """Ask the supervisor to step down, containers go on; True once it is gone, False where none ran."""
        if not self._connect():
            return False
        self._step_down()
        return True

    def _find_supervisor(self) -> None:
        if self._socket is not None:
            return
        deadline = time.monotonic() + HANDOVER_LIMIT
        patience = time.monotonic() + PATIENCE
        while not self._connect():
            if self._prepared is None or not self._prepared.usable:
                if time.monotonic() < patience and (self._contended or self._keeper_lives()):
                    time.sleep(RETRY)
                    continue
                if self._prepared is not None:
                    self._prepared.close()
                self._prepared = prepare(self._engine)
            if self._host(self._prepared):
                return
            if time.monotonic() > deadline:
                raise self._unreachable("does not answer", "connect")
            time.sleep(RETRY)
        if self._prepared is not None and self._prepared.usable:
            self._prepared.close()

    def _unreachable(self, what: str, operation: str) -> Unavailable:
        return Unavailable(
            f"the supervisor of {self.place.project} {what}",
            resource=self.place.project,
            operation=operation,
            hint=f"its last words are in {self.place.log}; should it hang, end it: its containers go on",
        )

    def _connect(self, *, replace: bool = True) -> bool:
        """Connect to the supervisor that runs; one of another version is left, with `replace` asked to step down."""
        connection = connect_control(self.place)
        if connection is None:
            return False
        self._use(connection)
        try:
            hello = self._read_hello()
        except _Lost:
            self._drop()
            return False
        if hello["version"] != CODE_VERSION:
            self._step_down() if replace else self._drop()
            return False
        return True

    def _step_down(self) -> None:
        try:
            self._send(encode({"do": "shutdown"}))
            for _message in self._messages(time.monotonic() + HANDOVER_LIMIT):
                pass
        except _Lost:
            pass
        self._await_end(HANDOVER_LIMIT)
        self._drop()

    def _host(self, prepared: Prepared) -> bool:
        """Make the prepared supervisor this project's; False if another got the lock first."""
        try:
            prepared.host(self.place, self._engine)
        except OSError:
            prepared.close()
            self._prepared = None
            return False
        self._use(prepared.socket)
        # Not read yet: the goal can be on its way before the supervisor has finished importing.
        return True

    def _use(self, connection: socket.socket) -> None:
        self._socket, self._buffer, self._ready = connection, LineBuffer(), []

    def _read_hello(self) -> dict[str, Any]:
        for message in self._messages(time.monotonic() + HANDOVER_LIMIT):
            if "hello" in message:
                hello: dict[str, Any] = message["hello"]
                return hello
        raise _Lost

    def _messages(self, deadline: float | None) -> Iterator[dict[str, Any]]:
        """Yield messages; raises _Lost at the end of the stream, Unavailable at the deadline."""
        while True:
            while self._ready:
                message = self._ready.pop(0)
                if "hello" in message:
                    self._remember_processes(message["hello"])
                    self._contended = False
                elif "busy" in message:
                    self._contended = True
                    raise _Lost
                elif "refused" in message:
                    raise _load_refusal(message["refused"])
                yield message
            if self._socket is None:
                raise _Lost
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0 or not _is_readable(self._socket.fileno(), left):
                    raise Unavailable(f"{self.place.project}: timed out", resource=self.place.project)
            try:
                data = self._socket.recv(1 << 17)
            except OSError:
                data = b""
            if not data:
                raise _Lost
            self._ready.extend(self._buffer.feed(data))

    def _send(self, line: bytes) -> None:
        if self._socket is None:
            raise _Lost
        try:
            self._socket.sendall(line)
        except OSError:
            raise _Lost from None

    def _remember_processes(self, hello: dict[str, Any]) -> None:
        self._forget_processes()
        self._supervisor, self._keeper = _open_process(hello["pid"]), _open_process(hello["keeper"])
        self._keeper_pid = hello["keeper"]

    def _forget_processes(self) -> None:
        for process in (self._supervisor, self._keeper):
            if process >= 0:
                os.close(process)
        self._supervisor = self._keeper = -1

    def _await_end(self, timeout: float) -> bool:
        """Wait until the supervisor and its keeper have ended."""
        deadline = time.monotonic() + timeout
        for process in (self._supervisor, self._keeper):
            if process >= 0 and not _is_readable(process, max(0.0, deadline - time.monotonic())):
                return False
        if self._keeper_pid:
            # It may be a child of this very process, and then nobody else can collect it.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._keeper_pid, os.WNOHANG)
        return True

    def _keeper_lives(self) -> bool:
        """True while the supervisor that was lost may come back."""
        return self._keeper >= 0 and not _is_readable(self._keeper, 0)

    def _rejoin(self) -> bool:
        deadline = time.monotonic() + HANDOVER_LIMIT
        while not self._connect():
            if not self._keeper_lives() or time.monotonic() > deadline:
                return False
            time.sleep(RETRY)
        return True

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _abandon(self) -> None:
        if self._prepared is not None and self._prepared.hosting and self._supervisor < 0:
            # It has not said hello: it must not take up this goal after a newer one was dealt with.
            self._prepared.discard()
        self._drop()


def converge(
    goal: Goal,
    *,
    sink: Sink,
    prepared: Prepared | None = None,
    engine: str | None = None,
    layout: Layout | None = None,
    timeout: float | None = None,
) -> Outcome:
    """Bring a project to `goal` and come back; the supervisor goes on if there is anything left to supervise.

    If nothing is left, returns only when no process of ours is. Raises what :meth:`Session.converge` raises.
    """
    with Session(goal.stack.name, prepared=prepared, engine=engine, layout=layout) as session:
        outcome = session.converge(goal, sink, timeout=timeout)
        session.finish()
        return outcome


def follow(project: str, sink: Sink, *, layout: Layout | None = None) -> bool:
    """Stream a project's events until its supervisor ends; False at once where none runs."""
    with Session(project, layout=layout) as session:
        return session.follow(sink)


def query_status(project: str, *, layout: Layout | None = None) -> dict[str, Any] | None:
    """What the project's supervisor knows (see ``Loop.status``); None where none runs."""
    with Session(project, layout=layout) as session:
        answer = session.ask("status", "status")
        return answer["status"] if answer else None


def request_shutdown(project: str, *, layout: Layout | None = None) -> bool:
    """End supervision, containers go on. True once supervisor and keeper are gone, False where none ran."""
    with Session(project, layout=layout) as session:
        return session.shut_down()


def load_goal(project: str, *, layout: Layout | None = None) -> Goal | None:
    """The goal that the project was last brought to; None where there is none."""
    found = read_goal(Place.of(project, layout))
    return found[0] if found else None


def _open_process(pid: int) -> int:
    try:
        return os.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        return -1


def _is_readable(descriptor: int, seconds: float) -> bool:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def _load_outcome(settled: dict[str, Any], token: str) -> Outcome:
    return Outcome(
        converged=settled["converged"],
        failures=tuple(Failure.from_json(one) for one in settled["failures"]),
        superseded=settled["superseded"],
        token=token,
    )


def _load_refusal(refused: dict[str, Any]) -> StackError:
    error = Unavailable(refused["message"], hint=refused["hint"])
    error.code = refused["code"]
    return error
