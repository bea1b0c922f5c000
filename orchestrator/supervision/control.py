"""The control socket's wire protocol: one JSON object a line, over a unix socket; and where a project's things are.

To the supervisor: ``{"do": "apply", "request": N, "token": T, "goal": {...}}`` (with ``"again": true`` for a goal
that a predecessor may have had already), ``subscribe``, ``status``, ``ping``, ``leave``, ``shutdown``; ``{"do":
"confirm", "token": T, "at": TIME}`` asks for the goal of that token once more if that leaves nothing to do; ``host``
comes first on the socket of a supervisor that was forked ahead. From it: ``hello``, ``event``, ``settled``,
``confirmed``, ``status``, ``pong``, ``staying``, ``busy``, ``refused``. No event loop is imported here: clients use
it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator import __version__
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout
    from orchestrator.errors import Unavailable
    from orchestrator.goal import Goal

PROTOCOL = 2
CODE_VERSION = f"{__version__}/{PROTOCOL}"
"""What both ends compare: a supervisor of another version is asked to step down."""


class Place(Record):
    """The files of one project's supervisor; all paths absolute.

    `run` (lost at reboot) holds the lock, the control socket, the log and the mark of a goal that was reached; `state`
    holds the goal.
    """

    project: str
    run: str
    state: str

    @classmethod
    def of(cls, project: str, layout: Layout | None = None) -> Place:
        """The project's place below `layout` (default: the environment's)."""
        if layout is None:
            from orchestrator.engines.native.layout import Layout

            layout = Layout.from_environment()
        return cls(
            project=project,
            run=os.path.abspath(layout.project_run(project)),
            state=os.path.abspath(layout.project_state(project)),
        )

    @property
    def lock(self) -> str:
        """Held by the project's one supervisor for as long as it lives."""
        return f"{self.run}/supervisor.lock"

    @property
    def socket(self) -> str:
        """The control socket."""
        return f"{self.run}/control.sock"

    @property
    def log(self) -> str:
        """The supervisor's own troubles."""
        return f"{self.run}/supervisor.log"

    @property
    def settled(self) -> str:
        """Holds `issued_at` of the last goal that was reached (or given up): adoption does not begin it again."""
        return f"{self.run}/settled"

    @property
    def trace(self) -> str:
        """What the last command did, and when (:mod:`orchestrator.supervision.tracing`)."""
        return f"{self.run}/trace.json"

    @property
    def goal(self) -> str:
        """The last goal, for a supervisor that takes over and for commands that edit it."""
        return f"{self.state}/goal.json"


_ENCODER = json.JSONEncoder(separators=(",", ":"), default=str, check_circular=False)


def encode(message: Mapping[str, Any]) -> bytes:
    """Render one message as a line."""
    return _ENCODER.encode(message).encode() + b"\n"


class LineBuffer:
    """Puts received bytes together into messages."""

    __slots__ = ("_parts",)

    def __init__(self, start: bytes = b"") -> None:
        self._parts: list[bytes] = [start] if start else []

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield every message that `data` completes. ValueError for a line that is not a JSON object."""
        self._parts.append(data)
        if b"\n" not in data and not (len(self._parts) == 2 and b"\n" in self._parts[0]):
            return
        lines = b"".join(self._parts).split(b"\n")
        self._parts = [lines.pop()]
        for line in lines:
            if line:
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise ValueError("not an object")
                yield message

    def rest(self) -> bytes:
        """What has been received of a line that is not complete yet."""
        return b"".join(self._parts)


def dump_goal(goal: Goal) -> dict[str, Any]:
    """Return the goal as JSON-able data."""
    from orchestrator.codec import dump_record
    from orchestrator.spec.transport import dump_stack

    data = {
        name: dump_record(value)
        for name, value in goal.__dict__.items()
        if name != "stack" and (name not in goal._defaults or value != goal._defaults[name])
    }
    return {**data, "stack": dump_stack(goal.stack)}


def load_goal(data: Mapping[str, Any]) -> Goal:
    """The reverse of :func:`dump_goal`."""
    from orchestrator.codec import load_record
    from orchestrator.goal import Goal
    from orchestrator.spec.transport import load_dumped_stack

    fields = {name: load_record(value) for name, value in data.items() if name in Goal._names and name != "stack"}
    return Goal(**{**fields, "stack": load_dumped_stack(data["stack"])})


def read_goal(place: Place) -> tuple[Goal, str] | None:
    """The last goal of a project and its engine's name, or None where there is none that can be read."""
    try:
        with open(place.goal, "rb") as file:
            data = json.load(file)
        return load_goal(data["goal"]), str(data["engine"])
    except Exception:
        # Not there, or written by another version: either way nobody can take it up.
        return None


def write_goal(place: Place, engine: str, goal: Mapping[str, Any]) -> None:
    """Keep the goal (as dumped), crash-safe, for this user alone.

    Of the project's variables, which stacks with providers have, only those are kept that a successor, which inherits
    the variables of this process, would not have: every other one is no business of a disk.
    """
    variables = goal["stack"].get("environment") or {}
    kept = {name: value for name, value in variables.items() if os.environ.get(name) != value}
    goal = {**goal, "stack": {**goal["stack"], "environment": kept}}
    os.makedirs(place.state, mode=0o700, exist_ok=True)
    beside = f"{place.goal}.new"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(encode({"version": CODE_VERSION, "engine": engine, "goal": goal}))
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, place.goal)


def require_memory(place: Place) -> None:
    """See to the folder that the goal is kept in. Raises Unavailable where none can be, or nothing written there."""
    try:
        os.makedirs(place.state, mode=0o700, exist_ok=True)
        # A full disk is no obstacle: what takes a project down must be possible there.
        if not os.access(place.state, os.W_OK):
            code = errno.EROFS if os.statvfs(place.state).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(code, os.strerror(code), place.state)
    except OSError as error:
        raise _explain(error) from error


def _explain(error: OSError) -> Unavailable:
    from orchestrator.engines.native.unusable import describe_refusal

    return describe_refusal(error)


def acquire_lock(place: Place) -> int | None:
    """Take the project's lock; return its descriptor, or None while another supervisor holds it.

    Raises Unavailable where the run directory cannot be made.
    """
    import fcntl

    while True:
        try:
            os.makedirs(place.run, mode=0o711, exist_ok=True)
        except OSError as error:
            raise _explain(error) from error
        try:
            lock = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        # A supervisor that leaves unlinks the file while it holds the lock: what we hold must still be what is there.
        try:
            there = os.stat(place.lock)
            if os.path.samestat(os.fstat(lock), there):
                return lock
        except FileNotFoundError:
            pass
        os.close(lock)


def clear_place(place: Place) -> None:
    """Remove what a supervisor that could not do anything has left: for a project of which nothing is there.

    What it wants, if anything, counts no more. Does nothing where a supervisor runs.
    """
    if not (os.path.isdir(place.run) or os.path.isdir(place.state)):
        return
    lock = acquire_lock(place)
    if lock is None:
        return
    leave_place(place, lock, (place.socket, place.log, *list_records(place)))


def list_records(place: Place) -> tuple[str, ...]:
    """The files that remember what a project was to be, and how it came to that."""
    kept = (place.goal, place.settled, place.trace)
    # What is written anew stands beside the old one first, and whoever writes it may be killed.
    return (*kept, *(f"{one}.new" for one in kept))


def leave_place(place: Place, lock: int, paths: Iterable[str] = ()) -> None:
    """Remove `paths`, the project's lock, whose descriptor is closed, and its folders if they are empty then."""
    # The lock goes last: from then on another supervisor may begin.
    for path in (*paths, place.lock):
        with contextlib.suppress(OSError):
            os.unlink(path)
    for folder in (place.state, place.run):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    os.close(lock)


def connect_control(place: Place) -> socket.socket | None:
    """Connect to the project's supervisor; None when there is none that listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _reachable(place) as path:
            connection.connect(path)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def listen_control(place: Place) -> socket.socket:
    """Make the control socket; only for the holder of the lock."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with _reachable(place) as path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place.socket)
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
    listener.listen(64)
    listener.setblocking(False)
    return listener


class _reachable:
    """A way to the control socket that fits into sun_path (108 bytes), however long the run directory's name is."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._folder = -1

    def __enter__(self) -> str:
        if len(self._place.socket.encode()) < 100:
            return self._place.socket
        self._folder = os.open(self._place.run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._folder}/control.sock"

    def __exit__(self, *_exception: object) -> None:
        if self._folder >= 0:
            os.close(self._folder)
