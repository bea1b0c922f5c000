"""Ask other name servers, on behalf of a container, from the namespace of this process."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from orchestrator.engines.native.network import dns_message as message

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    Reply = Callable[[bytes], None]

_PORT = 53
_UNDER_WAY = 1024
# Seconds until the next server is asked too, and until the client is told that nobody answered: before it gives up (5).
_NEXT_SERVER = 1.5
_GIVE_UP = 4.0
# After a query that no server answered, the next ones wait less: an offline machine must not make every lookup slow.
_GIVE_UP_WHEN_SILENT = 1.0
_SILENT_FOR = 30.0


class Upstreams:
    """Queries under way to other servers. All calls come from the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._questions: set[_Question] = set()
        self._silent_until: dict[tuple[str, ...], float] = {}

    def ask(self, data: bytes, query: message.Query, servers: tuple[str, ...], reply: Reply, *, tcp: bool) -> None:
        """Forward the query `data` and pass the first usable answer to `reply`; failing that, an error at once."""
        if not servers or len(self._questions) >= _UNDER_WAY:
            reply(self.fail(data, query))
            return
        question = _Question(self, data, query, servers, reply, tcp=tcp)
        self._questions.add(question)
        silent = self._silent_until.get(servers, 0.0) > self._loop.time()
        question.start(_GIVE_UP_WHEN_SILENT if silent else _GIVE_UP)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that everything runs on."""
        return self._loop

    def finish(self, question: _Question, *, silent: bool | None) -> None:
        """Forget a question; `silent` True: no server answered, False: one did, None: it could not be asked."""
        self._questions.discard(question)
        if silent:
            self._silent_until[question.servers] = self._loop.time() + _SILENT_FOR
        elif silent is False:
            self._silent_until.pop(question.servers, None)

    def close(self) -> None:
        """Drop everything under way, unanswered."""
        for question in tuple(self._questions):
            question.drop()

    @staticmethod
    def fail(data: bytes, query: message.Query) -> bytes:
        """The answer when no server has one."""
        # A name without a dot means a service: that nobody knows it is the better answer than "try again later".
        code = message.SERVFAIL if b"." in query.name else message.NXDOMAIN
        return message.encode_answer(data, query, (), code=code)


class _Question:
    """One query, sent to one server after the other until one answers."""

    def __init__(
        self,
        owner: Upstreams,
        data: bytes,
        query: message.Query,
        servers: tuple[str, ...],
        reply: Reply,
        *,
        tcp: bool,
    ) -> None:
        self.servers = servers
        self._owner, self._data, self._query, self._reply, self._tcp = owner, data, query, reply, tcp
        # Our own id: the container's must not be something that a stranger can see and answer.
        self._sent = os.urandom(2) + data[2:]
        self._open: dict[socket.socket, _Exchange] = {}
        self._next = 0
        self._timers: list[asyncio.TimerHandle] = []

    def start(self, patience: float) -> None:
        self._timers.append(self._owner.loop.call_later(patience, self._give_up, True))
        self._try_next()

    def _try_next(self) -> None:
        while self._next < len(self.servers):
            server = self.servers[self._next]
            self._next += 1
            exchange = _Exchange.begin(self, server)
            if exchange is not None:
                self._open[exchange.socket] = exchange
                if self._next < len(self.servers):
                    self._timers.append(self._owner.loop.call_later(_NEXT_SERVER, self._try_next))
                return
        if not self._open:
            self._give_up(False)

    def _give_up(self, silent: bool) -> None:
        self.drop()
        self._owner.finish(self, silent=True if silent else None)
        self._reply(self._owner.fail(self._data, self._query))

    def drop(self) -> None:
        """Close everything without an answer."""
        for timer in self._timers:
            timer.cancel()
        for exchange in tuple(self._open.values()):
            exchange.close()
        self._open.clear()
        self._owner.finish(self, silent=None)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._owner.loop

    @property
    def packet(self) -> bytes:
        return self._sent

    @property
    def by_tcp(self) -> bool:
        return self._tcp

    def failed(self, exchange: _Exchange) -> None:
        """A server cannot be reached: go on at once."""
        exchange.close()
        self._open.pop(exchange.socket, None)
        if not self._open:
            self._try_next()

    def answered(self, exchange: _Exchange, answer: bytes) -> bool:
        """Take an answer; False if it is not to this question (somebody may be guessing)."""
        if not message.is_answer_to(answer, self._sent, self._query.end):
            return False
        if message.read_code(answer) in (message.SERVFAIL, message.REFUSED) and self._next < len(self.servers):
            self.failed(exchange)
            return True
        self.drop()
        self._owner.finish(self, silent=False)
        if not self._tcp and len(answer) > self._query.limit:
            self._reply(message.encode_answer(self._data, self._query, (), limit=0))
        else:
            self._reply(self._data[:2] + answer[2:])
        return True


class _Exchange:
    """One connected socket to one server."""

    def __init__(self, question: _Question, opened: socket.socket) -> None:
        self.socket = opened
        self._question = question
        self._received = bytearray()
        self._closed = False

    @classmethod
    def begin(cls, question: _Question, server: str) -> _Exchange | None:
        """Send the question to `server` (an address, with a zone for link-local ones); None if that fails at once."""
        kind = socket.SOCK_STREAM if question.by_tcp else socket.SOCK_DGRAM
        opened = None
        try:
            address = socket.getaddrinfo(server, _PORT, type=kind, flags=socket.AI_NUMERICHOST)[0]
            opened = socket.socket(address[0], kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            exchange = cls(question, opened)
            if question.by_tcp:
                if opened.connect_ex(address[4]) not in (0, errno.EINPROGRESS):
                    opened.close()
                    return None
                question.loop.add_writer(opened.fileno(), exchange._connected)
            else:
                opened.connect(address[4])
                opened.send(question.packet)
                question.loop.add_reader(opened.fileno(), exchange._read_datagram)
        except OSError:
            if opened is not None:
                opened.close()
            return None
        return exchange

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._question.loop.remove_reader(self.socket.fileno())
        self._question.loop.remove_writer(self.socket.fileno())
        self.socket.close()

    def _read_datagram(self) -> None:
        try:
            answer = self.socket.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            self._question.failed(self)
            return
        self._question.answered(self, answer)

    def _connected(self) -> None:
        self._question.loop.remove_writer(self.socket.fileno())
        try:
            # A fresh connection's buffer takes a whole query.
            self.socket.sendall(len(self._question.packet).to_bytes(2, "big") + self._question.packet)
        except OSError:
            self._question.failed(self)
            return
        self._question.loop.add_reader(self.socket.fileno(), self._read_stream)

    def _read_stream(self) -> None:
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        size = int.from_bytes(self._received[:2], "big")
        if len(self._received) >= 2 + size and len(self._received) >= 2:
            if not self._question.answered(self, bytes(self._received[2 : 2 + size])):
                self._question.failed(self)
        elif not data:
            self._question.failed(self)
