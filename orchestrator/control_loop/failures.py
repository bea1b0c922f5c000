"""What a failed operation tells the user: which service, its exit code, and the last lines of its log."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from orchestrator.errors import EngineError, StackError
from orchestrator.events import Event
from orchestrator.plan import StartContainer
from orchestrator.record import Record
from orchestrator.source import Path, parse_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.control_loop.conditions import Board
    from orchestrator.engines.base import Engine
    from orchestrator.model import Service, Stack
    from orchestrator.plan import Operation
    from orchestrator.state import Container
    from orchestrator.workers import Workers

LOG_LINES = 10
"""How much of a failed container's log is shown."""

BUILD_LINES = 20
"""How much of a failed build step's output is shown."""


class Failure(Record):
    """One failure, as the command shows it. `log` is the end of the container's output if it is a container's fault."""

    code: str
    message: str
    hint: str = ""
    subject: str = ""
    service: str = ""
    operation: str = ""
    container: str = ""
    exit_code: int | None = None
    log: tuple[str, ...] = ()
    rendered: str = ""
    """The diagnostics with their places, where the error carries any; otherwise empty."""
    excerpt: tuple[str, ...] = ()
    """The lines of a Dockerfile around the one that a build failed at, numbered, with a mark before that one."""

    def to_json(self) -> dict[str, Any]:
        """Plain data; unset fields are left out."""
        data = {key: value for key, value in self.__dict__.items() if value not in ("", None, ())}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Failure:
        """The reverse of :meth:`to_json`."""
        fields = {name: value for name, value in data.items() if name in cls._names}
        return cls(**{**fields, "log": tuple(data.get("log", ())), "excerpt": tuple(data.get("excerpt", ()))})

    def to_event(self, now: float) -> Event:
        """The failure as an event of kind error."""
        details = {key: value for key, value in self.to_json().items() if key not in ("message", "subject", "service")}
        return Event(
            time=now,
            kind="error",
            subject=self.subject,
            action=self.operation,
            message=self.message,
            service=self.service,
            details=details,
        )


def resolve_attribute(failure: Failure, stack: Stack) -> Path:
    """The attribute of the stack file that a failure is about, as closely as it can be told; () for none. Pure."""
    head, colon, _rest = failure.message.partition(": ")
    if colon and head.startswith("services."):
        return parse_path(head)
    service = stack.services.get(failure.service)
    if service is None:
        return ()
    base: Path = ("services", service.name)
    if failure.operation.startswith(("pull ", "build ")) or failure.code.startswith(("image-", "registry-")):
        return (*base, "image" if service.image else "build")
    if failure.code == "start-failed" and failure.exit_code in (126, 127):
        return (*base, "command" if service.entrypoint is None else "entrypoint")
    for index, port in enumerate(service.ports):
        if port.published and f"port {port.published}/" in failure.message:
            return (*base, "ports", index)
    return base


def describe_error(error: StackError, operation: Operation) -> Failure:
    """What an error alone tells of a failure of `operation`: nothing has run."""
    service: Service | str = getattr(operation, "service", "")
    return Failure(
        code=error.code,
        message=error.message,
        hint=error.hint,
        subject=operation.subject,
        service=service if isinstance(service, str) else service.name,
        operation=operation.id,
        rendered=error.render() if error.diagnostics else "",
    )


def explain_unexpected(error: Exception, resource: str) -> EngineError:
    """What the user is told of an error that nobody has foreseen; unless the machine is to blame, it is logged."""
    if isinstance(error, OSError):
        from orchestrator.engines.native.unusable import explain_refusal

        refused = explain_refusal(error)
        if refused is not None:
            return refused
    sys.excepthook(type(error), error, error.__traceback__)
    return EngineError(f"internal error: {error!r}", resource=resource)


async def describe_failure(
    error: StackError, operation: Operation | None, engine: Engine, board: Board, workers: Workers
) -> Failure:
    """Put together what is known about `error`; reads the culprit's log."""
    # The client imports this module for Failure alone, and has no use for the executor's asyncio.
    from orchestrator.control_loop.executor import resolve_service_name

    container: Container | None = getattr(error, "container", None)
    if container is None and isinstance(operation, StartContainer):
        container = board.find(operation.container_name)
    exit_code = getattr(error, "exit_code", None)
    lines: tuple[str, ...] = ()
    if container is not None:
        ended = container.status in ("exited", "dead")
        if exit_code is None and ended:
            exit_code = container.exit_code
        lines = await _read_tail(engine, container, workers)
    elif output := str(getattr(error, "output", "")):
        lines = tuple(output.splitlines()[-BUILD_LINES:])
    service = container.service if container else resolve_service_name(operation) if operation else ""
    return Failure(
        code=error.code,
        message=error.message,
        hint=error.hint,
        subject=container.name if container else operation.subject if operation else "",
        service=service or str(getattr(error, "service", "")),
        operation=operation.id if operation else "",
        container=container.name if container else "",
        exit_code=exit_code,
        log=lines,
        rendered=error.render() if error.diagnostics else "",
        excerpt=tuple(getattr(error, "excerpt", ())),
    )


async def _read_tail(engine: Engine, container: Container, workers: Workers) -> tuple[str, ...]:
    def read() -> tuple[str, ...]:
        return tuple(line.text for line in engine.read_logs((container,), tail=LOG_LINES))

    try:
        return await workers.run("work", read)
    except EngineError:
        return ()
