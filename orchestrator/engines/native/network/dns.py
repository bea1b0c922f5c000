"""The resolver that every container finds at 127.0.0.11:53, over UDP and TCP.

One process answers for all containers of a project from sockets that it opened inside their namespaces. What it
does not know it asks of upstream servers, from the host's namespace. It runs on an asyncio loop's ``add_reader``,
without streams or protocols: those cost two thirds of the throughput.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from orchestrator.engines.native.network import dns_message as message
from orchestrator.engines.native.network.dns_redirect import forget_redirect, redirect_queries
from orchestrator.engines.native.network.dns_upstream import Upstreams
from orchestrator.engines.native.network.dns_zone import RESOLVER_ADDRESS, View
from orchestrator.engines.native.network.links import entered
from orchestrator.errors import Conflict
from orchestrator.record import Record

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

# Below the kernel's range of ephemeral ports, so that no client in the container is given one of them.
_PORTS = (29053, 29153, 29253, 29353)
_TTL = 5
_PACKETS_PER_TURN = 64
_CLIENTS_PER_CONTAINER = 64
_CLIENT_SECONDS = 10.0
_EMPTY_VIEW = View(lambda: ({}, {}))


class DnsSockets(Record):
    """A container's listening sockets: a UDP socket and a TCP listener, non-blocking."""

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        """Close both."""
        self.udp.close()
        self.tcp.close()


def open_sockets(netns: Path) -> DnsSockets:
    """Open the resolver's sockets inside a namespace and lead 127.0.0.11:53 to them.

    Blocking, 0.3 ms. Works again in a namespace whose earlier resolver has died. Raises NotFound for a namespace
    that is gone, Conflict if the container itself holds all ports that could serve.
    """
    with entered(netns):
        for place, port in enumerate(_PORTS):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                udp.bind((RESOLVER_ADDRESS, port))
                tcp.bind((RESOLVER_ADDRESS, port))
                tcp.listen(128)
            except OSError:
                udp.close()
                tcp.close()
                continue
            try:
                for other in _PORTS[:place]:
                    forget_redirect(other)
                redirect_queries(port)
            except BaseException:
                udp.close()
                tcp.close()
                raise
            return DnsSockets(udp=udp, tcp=tcp)
    raise Conflict(
        f"no port is left for the resolver of {netns}: {', '.join(map(str, _PORTS))} are taken at {RESOLVER_ADDRESS}",
        resource=str(netns),
        operation="open the resolver",
    )


class _Container:
    """One container's sockets, view and upstream servers."""

    __slots__ = ("clients", "sockets", "turns", "upstreams", "view")

    def __init__(self, sockets: DnsSockets, view: View, upstreams: tuple[str, ...]) -> None:
        self.sockets = sockets
        self.view = view
        self.upstreams = upstreams
        self.turns: dict[bytes, int] = {}
        self.clients: set[_Client] = set()


class Resolver:
    """Answers the queries of all containers that were added. Not thread-safe: all calls come from the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._containers: dict[str, _Container] = {}
        self._upstreams = Upstreams(loop)

    def add_container(self, key: str, sockets: DnsSockets, view: View, upstreams: tuple[str, ...] = ()) -> None:
        """Serve a container. `upstreams` are the servers (addresses) for what `view` does not know; none: refuse it.

        The resolver owns the sockets from here on. A container of the same key is replaced.
        """
        self.remove_container(key)
        container = self._containers[key] = _Container(sockets, view, upstreams)
        self._loop.add_reader(sockets.udp.fileno(), self._read_datagrams, container)
        self._loop.add_reader(sockets.tcp.fileno(), self._accept, container)

    def has_container(self, key: str) -> bool:
        """True while the container of that key is served."""
        return key in self._containers

    def replace_view(self, key: str, view: View, upstreams: tuple[str, ...] | None = None) -> None:
        """Give a container a new view, between two answers; queries that are under way are not disturbed."""
        container = self._containers.get(key)
        if container is not None:
            container.view = view
            if upstreams is not None:
                container.upstreams = upstreams

    def remove_container(self, key: str) -> None:
        """Stop serving a container and close its sockets. Idempotent."""
        container = self._containers.pop(key, None)
        if container is None:
            return
        for one in (container.sockets.udp, container.sockets.tcp):
            self._loop.remove_reader(one.fileno())
            one.close()
        for client in tuple(container.clients):
            client.close()

    def close(self) -> None:
        """Stop serving everybody and drop the queries that are under way."""
        for key in tuple(self._containers):
            self.remove_container(key)
        self._upstreams.close()

    def _read_datagrams(self, container: _Container) -> None:
        udp = container.sockets.udp
        for _ in range(_PACKETS_PER_TURN):
            try:
                data, client = udp.recvfrom(4096)
            except OSError:
                return

            def reply(answer: bytes, client: tuple[str, int] = client) -> None:
                # An answer that does not fit the socket's buffer or comes after its end is lost, as datagrams are.
                try:
                    udp.sendto(answer, client)
                except OSError:
                    return

            self._answer(container, data, reply, tcp=False)

    def _answer(self, container: _Container, data: bytes, reply: Callable[[bytes], None], *, tcp: bool) -> None:
        query = message.parse_query(data)
        if query is None:
            return
        if isinstance(query, int):
            reply(message.encode_refusal(data, query))
            return
        limit = 65535 if tcp else query.limit
        known = _find_answers(container, query)
        if isinstance(known, int):
            reply(message.encode_answer(data, query, (), code=known, limit=limit))
        elif known is not None:
            reply(message.encode_answer(data, query, known, ttl=_TTL, limit=limit))
        else:
            self._upstreams.ask(data, query, container.upstreams, reply, tcp=tcp)

    def _accept(self, container: _Container) -> None:
        try:
            connection, _address = container.sockets.tcp.accept()
        except OSError:
            return
        if len(container.clients) >= _CLIENTS_PER_CONTAINER:
            connection.close()
            return
        connection.setblocking(False)
        _Client(self._loop, container, connection, self._answer)


def _find_answers(container: _Container, query: message.Query) -> list[tuple[int, bytes]] | int | None:
    """The records for a query, or the code that says there are none; None: others have to be asked."""
    view = container.view
    if query.klass not in (message.IN, message.ANY_CLASS):
        return message.REFUSED
    found = view.names.get(query.name)
    if found is not None:
        four, six = found
        if not four and not six:
            return message.NXDOMAIN
        answers: list[tuple[int, bytes]] = []
        if query.type in (message.A, message.ANY):
            answers += [(message.A, one) for one in _rotate(container, query.name, four)]
        if query.type in (message.AAAA, message.ANY):
            answers += [(message.AAAA, one) for one in _rotate(container, query.name, six)]
        return answers
    if query.name.endswith(b".arpa"):
        pointer = view.pointers.get(query.name)
        if pointer is not None:
            wanted = query.type in (message.PTR, message.ANY)
            return [(message.PTR, message.encode_name(pointer))] if wanted else []
        if view.owns_reverse(query.name):
            return message.NXDOMAIN
    return None


def _rotate(container: _Container, name: bytes, addresses: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Replicas in turn: each answer begins with the next one."""
    if len(addresses) < 2:
        return addresses
    turn = container.turns.get(name, 0) % len(addresses)
    container.turns[name] = turn + 1
    return addresses[turn:] + addresses[:turn]


class _Client:
    """One TCP connection of a container: queries and answers with two octets of length before each."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        container: _Container,
        connection: socket.socket,
        answer: Callable[..., None],
    ) -> None:
        self._loop, self._container, self._connection, self._answer = loop, container, connection, answer
        self._received, self._unsent = bytearray(), bytearray()
        self._open = True
        container.clients.add(self)
        loop.add_reader(connection.fileno(), self._read)
        self._timer = loop.call_later(_CLIENT_SECONDS, self.close)

    def close(self) -> None:
        """End the connection. Idempotent."""
        if not self._open:
            return
        self._open = False
        self._timer.cancel()
        self._container.clients.discard(self)
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        self._connection.close()

    def _read(self) -> None:
        try:
            data = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._timer.cancel()
        self._timer = self._loop.call_later(_CLIENT_SECONDS, self.close)
        self._received += data
        while self._open and len(self._received) >= 2:
            size = int.from_bytes(self._received[:2], "big")
            if len(self._received) < 2 + size:
                return
            query = bytes(self._received[2 : 2 + size])
            del self._received[: 2 + size]
            self._answer(self._container, query, self._reply, tcp=True)

    def _reply(self, answer: bytes) -> None:
        if self._open:
            self._unsent += len(answer).to_bytes(2, "big") + answer
            self._write()

    def _write(self) -> None:
        try:
            sent = self._connection.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._connection.fileno(), self._write)
        else:
            self._loop.remove_writer(self._connection.fileno())
