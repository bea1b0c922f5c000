"""The Engine protocol: what the core asks of whatever runs containers.

All calls block and are thread-safe; the executor runs them in worker threads, and quick commands call them directly
without an event loop. Each performs one thing and decides nothing. Errors are :class:`orchestrator.errors.EngineError`
subclasses. Everything that removes or stops is idempotent: a resource that is gone already is success.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

from orchestrator.errors import Diagnostic
from orchestrator.goal import BuildOptions
from orchestrator.model import Network, Service, Stack, Volume
from orchestrator.record import Record
from orchestrator.state import Container, HealthStatus, ImageFacts, ObservedState

if TYPE_CHECKING:
    import asyncio

    from orchestrator.plan import CreateContainer

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_NO_OPTIONS = BuildOptions()


class ExecRequest(Record):
    """A command to run in a running container. None takes the container's own user, directory."""

    command: tuple[str, ...]
    user: str | None = None
    working_dir: str | None = None
    environment: Mapping[str, str] = _NOTHING
    privileged: bool = False
    tty: bool = False
    stdin: bool = False
    detach: bool = False


class AttachRequest(Record):
    """How to be attached to a container. `detach_keys` are the bytes that leave it running; empty for none.

    `stdin` passes on what is typed, `sig_proxy` the signals that this process gets.
    """

    stdin: bool = True
    sig_proxy: bool = True
    detach_keys: bytes = b"\x10\x11"


class ExecResult(Record):
    """How a captured command ended: exit code (124 and `timed_out` on a time-out) and the end of its output."""

    exit_code: int
    output: str = ""
    timed_out: bool = False


class PathFacts(Record):
    """What is at a path in a container."""

    kind: Literal["file", "directory", "link"]


class FileSync(Record):
    """A path of this machine and its place in a container; both absolute. What is there when it is synced counts."""

    source: str
    target: str


class ProcessFacts(Record):
    """One process of a container, numbered as this machine does; times in seconds, `started_at` since the epoch."""

    pid: int
    parent: int
    uid: int
    cpu_seconds: float
    started_at: float
    terminal: str
    command: str


class ContainerUsage(Record):
    """What a container uses. `time` is monotonic seconds; CPU time is seconds since its start, the rest bytes.

    All zero for one that does not run.
    """

    time: float
    cpu_seconds: float = 0.0
    memory: int = 0
    memory_limit: int = 0
    received: int = 0
    sent: int = 0
    read: int = 0
    written: int = 0
    pids: int = 0


class CommitRequest(Record):
    """How to make an image of a container. `changes` are Dockerfile instructions, applied last."""

    reference: str = ""
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    pause: bool = True


class ContainerEvent(Record):
    """Something that happened to a container of a project. `time` is nanoseconds since the epoch.

    `action` is Docker's word: create, start, die, stop, kill, pause, unpause, rename, destroy, ``health_status: ...``.
    """

    time: int
    service: str
    container: str
    action: str
    attributes: Mapping[str, str] = _NOTHING


class LogLine(Record):
    """One line of a container's output, without its newline. `time` is RFC 3339 with nanoseconds as it was written."""

    container: str
    service: str
    stream: Literal["stdout", "stderr"]
    time: str
    text: str


class Change(Record):
    """Something that happened to a container without us: it exited, or was killed for want of memory."""

    container_id: str
    kind: Literal["exited"]
    exit_code: int
    finished_at: float


class Finding(Record):
    """One line of ``stack doctor``."""

    name: str
    state: Literal["ok", "warning", "missing"]
    detail: str
    hint: str = ""


class ImageProgress(Record):
    """How far one layer of a pull is; sizes in bytes, `total` 0 when unknown."""

    layer: str
    status: str
    current: int = 0
    total: int = 0


class BuildEvent(Record):
    """Something a build did. `vertex` is one line of the display, the same for all events of one step.

    `kind` ``started`` opens it (`name` is what is shown: ``[build 2/5] RUN make``), ``log`` brings `text` (bytes
    decoded with replacement, as it came), ``status`` a measured part (`text` its label, `current` of `total` bytes),
    ``cached``, ``done``, ``failed`` (`text` the message) and ``cancelled`` close it. ``warning`` belongs to no
    vertex. `time` is seconds since the epoch.
    """

    kind: Literal["started", "log", "status", "cached", "done", "failed", "cancelled", "warning"]
    vertex: int
    time: float
    name: str = ""
    text: str = ""
    stream: Literal["stdout", "stderr"] = "stdout"
    current: int = 0
    total: int = 0


def dump_build_event(event: BuildEvent) -> dict[str, Any]:
    """Return a build's event as plain data; what is not set is left out."""
    return {
        name: value
        for name, value in event.__dict__.items()
        if name not in event._defaults or value != event._defaults[name]
    }


def load_build_events(details: Mapping[str, Any]) -> list[BuildEvent]:
    """The events of a build in the details of a progress event; none in those of any other."""
    return [
        BuildEvent(**{name: value for name, value in one.items() if name in BuildEvent._names})
        for one in details.get("build") or ()
    ]


class BuildProgress(Protocol):
    """Takes events from any thread; never raises, never blocks."""

    def __call__(self, event: BuildEvent, /) -> None:
        """Take one event."""


class Engine(Protocol):
    """What runs containers."""

    name: str
    on_warning: Callable[[Diagnostic], None]
    """Where operations tell of limits they had to bend (an rlimit above the hard limit ...)."""

    def require_access(self, *, starting: bool = False) -> None:
        """Raise Unavailable, with what to do, when this process may change nothing here. Looking may still work.

        With `starting` also when something is missing that every container takes to start.
        """

    def check(self, stack: Stack) -> Sequence[Diagnostic]:
        """Every attribute of the stack that this engine cannot honour, at its line. Pure and quick."""

    def observe(self, project: str, stack: Stack | None = None) -> ObservedState:
        """What is there. With `stack`, facts of the images and of external networks and volumes that it names too."""

    def projects(self) -> Sequence[str]:
        """Names of all projects that have anything on this engine."""

    def pull_image(
        self,
        reference: str,
        *,
        platform: str | None = None,
        progress: Callable[[ImageProgress], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> ImageFacts:
        """Fetch an image; EngineError soon after `cancel` becomes true. NotFound, Unavailable."""

    def build_image(
        self,
        stack: Stack,
        service: Service,
        *,
        options: BuildOptions = _NO_OPTIONS,
        progress: BuildProgress | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> ImageFacts:
        """Build the service's image; images of other services that it is built from are here already.

        `cancel` is asked now and then, from several threads; once it says True the build ends with an error. Raises
        ModelError for what the stack file asks for in vain, EngineError for a build that fails.
        """

    def push_image(
        self,
        reference: str,
        *,
        progress: Callable[[ImageProgress], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> str:
        """Send an image to its registry; return the digest that it has there. NotFound, Unavailable."""

    def create_network(self, project: str, network: Network) -> None:
        """Create a network; one that exists with the same configuration is success, with another is Conflict."""

    def remove_network(self, project: str, name: str) -> None:
        """Remove a network. Conflict while a container with processes is on it.

        One that has ended does not keep it; should it start again, it takes a place on the network of that name then.
        """

    def create_volume(self, project: str, volume: Volume) -> None:
        """Create a named volume; one that exists is success."""

    def remove_volume(self, project: str, name: str) -> None:
        """Remove a volume with what is in it. Conflict while a container uses it."""

    def create_container(self, stack: Stack, request: CreateContainer) -> str:
        """Create a container, not started; return its id. Conflict when the name is taken by another."""

    def start_container(self, container_id: str, *, cause: str = "") -> None:
        """Start a created or exited container; one that runs is success. `cause`, in words, goes into its event."""

    def prepare_container(self, container_id: str) -> None:
        """Do ahead what of a created container's start can be done without anybody's noticing; may do nothing.

        What is wrong shows at the start.
        """

    def unprepare_container(self, container_id: str) -> None:
        """Give back what :meth:`prepare_container` made, for a start that does not come."""

    def stop_container(self, container_id: str, *, timeout: float | None = None, hold: bool = True) -> None:
        """Stop signal, SIGKILL after `timeout` seconds (None: the container's own grace period); returns when dead."""

    def kill_container(self, container_id: str, signal: str = "SIGKILL") -> None:
        """Send a signal by name or number to the main process."""

    def pause_container(self, container_id: str, *, paused: bool) -> None:
        """Freeze or thaw all processes of a container."""

    def remove_container(self, container_id: str, *, volumes: bool = False) -> None:
        """Remove a container (killed first if it runs); with `volumes` its anonymous volumes too."""

    def rename_container(self, container_id: str, new_name: str, number: int) -> None:
        """Change name and replica number. Conflict when the name is taken."""

    def record_health(self, container_id: str, health: HealthStatus | None) -> None:
        """Remember what the supervisor's probes found, so that ``ps`` tells it."""

    def record_restart(self, container_id: str, count: int, *, at: float = 0.0) -> None:
        """Remember how often the restart policy has started the container again, and when it is going to (0: not)."""

    def record_hooks(self, container_id: str, due: int) -> None:
        """Remember how many of a container's ``post_start`` hooks, the last ones, are still to be run."""

    def exec_attached(self, container: Container, request: ExecRequest) -> int:
        """Run a command with this process's stdio (and terminal, if asked), pass on resizes and signals; exit code."""

    def attach_container(
        self, container: Container, request: AttachRequest, *, begin: Callable[[], None] | None = None
    ) -> int | None:
        """Relay a container's stdio, resizes and signals until it has ended (its exit code) or is left (None).

        A container that was made with `called` is given with `begin`, which sees to its start: it is called in a
        thread of its own, and the container's first instruction waits until this process is attached.
        """

    def await_caller(self, container_id: str) -> None:
        """Return once the process that a container was made for (`called`) has ended; at once for any other."""

    def exec_captured(self, container: Container, request: ExecRequest, *, timeout: float) -> ExecResult:
        """Run a command and keep the last 4 KiB of its output; killed after `timeout` seconds."""

    def look_at_path(self, container: Container, path: str, *, follow: bool = True) -> PathFacts | None:
        """What is at an absolute path of a container, running or not; None if there is nothing."""

    def list_folder(self, container: Container, path: str) -> Sequence[str]:
        """The names in a folder of a container, sorted, folders with a slash behind them; none if it is no folder."""

    def read_archive(self, container: Container, path: str, name: str, *, follow: bool = False) -> Iterator[bytes]:
        """Yield the tar of what is at `path`, called `name` in it (``.``: what is in a directory). NotFound.

        `follow` takes what a link at `path` leads to, inside the container.
        """

    def write_archive(self, container: Container, directory: str, source: IO[bytes]) -> None:
        """Unpack a tar stream into a directory of a container; nothing leads out of it. NotFound, Conflict."""

    def sync_files(self, container: Container, syncs: Sequence[FileSync], *, changed_only: bool = False) -> int:
        """Make each target what its source is now: a file, a link, a directory, or nothing; return how many were made.

        What is there keeps its owner; what is new gets that of its directory. With `changed_only` a target that is
        the same is left alone, and nothing is removed. NotFound, Conflict.
        """

    def read_filesystem(self, container: Container) -> Iterator[bytes]:
        """Yield the tar of a container's whole file system, without what is mounted in it."""

    def commit_container(self, container: Container, request: CommitRequest) -> str:
        """Make an image of a container's file system and configuration; return its id."""

    def list_processes(self, container: Container) -> Sequence[ProcessFacts]:
        """The processes of a running container. Conflict when it does not run."""

    def read_usage(self, container: Container) -> ContainerUsage:
        """What a container uses now."""

    def read_events(
        self,
        project: str,
        *,
        since: float | None = None,
        until: float | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> Iterator[ContainerEvent]:
        """Yield what happened to a project's containers since a moment (epoch seconds; None: now), and what happens.

        Ends at `until`, or when `stopped()` says so (asked after each change, and once a second unless it is a
        :class:`~orchestrator.engines.bell.Bell`).
        """

    def read_logs(
        self,
        containers: Sequence[Container],
        *,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        follow: bool = False,
        stopped: Callable[[], bool] | None = None,
    ) -> Iterator[LogLine]:
        """Yield lines in the order of their times; with `follow`, go on until `stopped()` or every container ended."""

    def watch(self, project: str, notify: Callable[[Change], None]) -> Callable[[], None]:
        """Call `notify` from a thread of the engine's own on each change; returns what ends the watch. Never polls."""

    def serve(self, stack: Stack, loop: asyncio.AbstractEventLoop) -> None:
        """Host what a daemonless engine needs while containers run (names, port proxies) on `loop`; idempotent.

        Called by the supervisor, from a worker thread, before its first operation, and again when it adopts containers
        that run already.
        """

    def stop_serving(self) -> None:
        """End what :meth:`serve` began."""

    def diagnose(self, *, fix: bool = False) -> Sequence[Finding]:
        """What this machine has and lacks for this engine; with `fix`, put right what the engine can."""
