"""Operations and the plan: a DAG of what to do, each with its cause.

An operation is pure data and stands for one engine call or one thing to wait for. `id` is unique in its plan and stable
between runs (``start web-1``); `needs` names the operations that must have succeeded before; `cause` says in a
person's words why it is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from orchestrator.errors import Diagnostic
from orchestrator.model import Condition, Hook, Network, Service, Volume
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.digest import FieldChange


_VERBS: dict[type[Operation], str] = {}


class Operation(Record):
    """The base of all operations. `subject` is what a screen shows: a container, network, volume or image name."""

    id: str
    subject: str
    cause: str
    needs: tuple[str, ...] = ()

    @property
    def verb(self) -> str:
        """The operation's verb: the class name in words (``create container``)."""
        kind = type(self)
        found = _VERBS.get(kind)
        if found is None:
            words = "".join(f" {c.lower()}" if c.isupper() else c for c in kind.__name__).strip()
            found = _VERBS[kind] = words
        return found


class PullImage(Operation):
    """Fetch `reference` from its registry."""

    reference: str
    platform: str | None = None
    service: str = ""


class BuildImage(Operation):
    """Build the service's image. With `pull_first` only if no registry gives it."""

    service: Service
    pull_first: bool = False


class RunProvider(Operation):
    """Have the service's provider do its ``up``, ``stop`` or ``down``."""

    service: Service
    action: str


class CreateNetwork(Operation):
    """Create a network of the project."""

    network: Network


class RemoveNetwork(Operation):
    """Remove the network with engine name `name`."""

    name: str


class CreateVolume(Operation):
    """Create a named volume of the project."""

    volume: Volume


class RemoveVolume(Operation):
    """Remove the volume with engine name `name`, and what is in it."""

    name: str


class CreateContainer(Operation):
    """Create replica `number` of `service`, not started.

    `replaces` is the id of the container whose name, and whose anonymous volumes if `inherit_volumes`, it takes over.
    In the same step the replaced one, if it has that name, becomes ``{first 12 of its id}_{name}``; it may still run.
    `config_hash` is what the reconciler compares next time. `called`: whoever makes it will be attached before its
    first instruction. `auto_remove`: it goes, with its anonymous volumes, when it has ended. `changes` are all fields
    in which it differs from the one that it replaces.
    """

    service: Service
    number: int
    container_name: str
    config_hash: str
    replaces: str | None = None
    inherit_volumes: bool = True
    oneoff: bool = False
    called: bool = False
    auto_remove: bool = False
    changes: tuple[FieldChange, ...] = ()


class StartContainer(Operation):
    """Start a container, found by name. `hooks` is how many ``post_start`` hooks the plan runs after that."""

    container_name: str
    service: str
    number: int
    hooks: int = 0


class StopContainer(Operation):
    """Stop a container: its stop signal, then SIGKILL after `timeout` seconds (None: the service's grace period).

    `hold` marks it as stopped by the user, so that no restart policy brings it back.
    """

    container_id: str
    service: str
    timeout: float | None = None
    hold: bool = True


class RestartContainer(Operation):
    """Stop (if it runs) and start the same container again. `hooks` as in :class:`StartContainer`."""

    container_id: str
    container_name: str
    service: str
    timeout: float | None = None
    hooks: int = 0


class KillContainer(Operation):
    """Send `signal` to a container's main process."""

    container_id: str
    service: str
    signal: str = "SIGKILL"


class RemoveContainer(Operation):
    """Remove a container, its writable layer, and with `volumes` its anonymous volumes."""

    container_id: str
    service: str
    volumes: bool = False


class RunInit(Operation):
    """Run a ``pre_start`` container of a service to its end; it is removed when it succeeded.

    It sees the anonymous volumes of the container called `beside`, which has not started yet.
    """

    service: Service
    index: int
    container_name: str
    beside: str


class RunHooks(Operation):
    """Run a container's lifecycle hooks one after another; the first that fails ends it.

    The container is found by `container_id`, or by name if it does not exist yet. `when` is the attribute that the
    hooks stand under, `first` the place of the first of them there. After a failed ``post_start`` hook the container is
    stopped, as the specification has it. With `required` False what comes after goes on when one has failed; the plan
    has failed all the same.
    """

    container_name: str
    service: str
    when: Literal["post_start", "pre_stop"]
    hooks: tuple[Hook, ...]
    container_id: str = ""
    required: bool = True
    first: int = 0


class RenameContainer(Operation):
    """Give a container another name, and the number that goes with it."""

    container_id: str
    new_name: str
    number: int


class WaitFor(Operation):
    """Wait until `condition` holds for every replica of `service` (``depends_on``, ``--wait``).

    With `required` False a failure is a warning and counts as success; so does a prerequisite that failed or was
    cancelled, and then nothing is waited for.
    """

    service: str
    condition: Condition
    required: bool = True
    timeout: float | None = None
    watched: tuple[str, ...] = ()
    """The names of the containers that are looked at, as a screen shows them."""


class Settle(WaitFor):
    """Wait until replaced containers (by name) run, or are healthy; see that they go on for `monitor` seconds; then
    let `delay` seconds pass before the next ones are replaced (``deploy.update_config``).

    `tolerated` is how many of the service's containers may fail in the whole update. With `required` False a failure
    is only told.
    """

    containers: tuple[str, ...]
    monitor: float = 0.0
    delay: float = 0.0
    tolerated: int = 0


class Plan(Record):
    """Operations in an order in which they could run one by one, and what the user should be told first."""

    operations: tuple[Operation, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    running: tuple[tuple[str, str], ...] = ()
    """(service, container name) of what shall run, does, and is left alone."""
    resting: tuple[tuple[str, str], ...] = ()
    """(service, container name) of what shall be stopped, and has stopped already."""
    completed: tuple[tuple[str, str], ...] = ()
    """(service, container name) of what shall run, has done its work, and is left alone."""

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    def __bool__(self) -> bool:
        return bool(self.operations)

    def render(self) -> str:
        """Render one line per operation: its id, its cause, the ids it waits for. Stable, for golden files."""
        lines = []
        for one in self.operations:
            needs = f"  <- {', '.join(one.needs)}" if one.needs else ""
            lines.append(f"{one.id}  # {one.cause}{needs}")
        return "\n".join(lines) + ("\n" if lines else "")
