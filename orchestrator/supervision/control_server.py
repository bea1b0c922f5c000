"""The supervisor's end of the control socket: reads commands, sends events, never waits for a slow client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from orchestrator.errors import StackError
from orchestrator.supervision.control import LineBuffer, encode

if TYPE_CHECKING:
    from orchestrator.supervision.supervisor import Supervisor

BACKLOG_LIMIT = 8 << 20
"""Bytes that a client may leave unread before it is let go."""


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._buffer = LineBuffer()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self.listens = False
        """Whether it is told of events: while it waits for a goal, or because it asked for them."""
        self.subscribed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        self._transport = cast("asyncio.Transport", transport)
        self._supervisor.joined(self)
        self.send({"hello": self._supervisor.hello()})

    def data_received(self, data: bytes) -> None:
        """Carry out every command that is complete."""
        try:
            for message in self._buffer.feed(data):
                self._handle(message)
        except StackError as error:
            self.send({"refused": {"code": error.code, "message": error.message, "hint": error.hint}})
        except (ValueError, KeyError, TypeError) as error:
            self.send({"refused": {"code": "protocol", "message": f"not understood: {error!r}", "hint": ""}})
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the client."""
        self._transport = None
        self._supervisor.left(self)

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self.send_line(encode(message))

    def send_line(self, line: bytes) -> None:
        """Send one message that is encoded already, together with the others of this moment: each write wakes a client
        up, and lets a thread in."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(line)

    def _flush(self) -> None:
        lines, self._unsent = self._unsent, []
        transport = self._transport
        if not lines or transport is None or transport.is_closing():
            return
        transport.write(b"".join(lines))
        if transport.get_write_buffer_size() > BACKLOG_LIMIT:
            transport.abort()

    def close(self) -> None:
        """Send what is left and close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _handle(self, message: dict[str, Any]) -> None:
        supervisor = self._supervisor
        match message["do"]:
            case "apply":
                self.listens = True
                again = bool(message.get("again"))
                supervisor.apply(
                    self, int(message["request"]), message["goal"], str(message.get("token", "")), again=again
                )
            case "confirm":
                supervisor.confirmation.answer(self, str(message["token"]), float(message["at"]))
            case "subscribe":
                self.listens = self.subscribed = True
            case "status":
                self.send({"status": supervisor.status()})
            case "provided":
                self.send({"provided": supervisor.loop.answers.by_service})
            case "ping":
                self.send({"pong": True})
            case "shutdown":
                supervisor.step_down()
            case "leave":
                self.listens = False
                supervisor.left(self)
                if not supervisor.leaving:
                    self.send({"staying": True})
                self.close()
            case other:
                raise ValueError(f"unknown command {other!r}")
