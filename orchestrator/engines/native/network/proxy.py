"""Hold the published ports of the host, and carry what the kernel's translation cannot.

The firewall leads published ports to containers without any socket. A socket is still needed: other programs must be
told that the port is taken, ::1 cannot be translated, and IPv6 clients reach a container that has only IPv4 through
it. It runs on an asyncio loop's ``add_reader``.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from orchestrator.engines.native.network.host_ports import open_host_socket
from orchestrator.record import Record

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

_CHUNK = 1 << 18
_ACCEPTS_PER_TURN = 64
_PACKETS_PER_TURN = 64
_CONNECT_SECONDS = 10.0
_UDP_SESSIONS = 1024
_UDP_IDLE_SECONDS = 90.0
_HELD = ("tcp", "udp")


class ProxyPort(Record):
    """A host port and the container address (without prefix) and port that it leads to.

    `host_ip` is as in :class:`orchestrator.engines.native.network.firewall.PublishedPort`.
    """

    host_port: int
    container_port: int
    target: str
    protocol: str = "tcp"
    host_ip: str = ""

    @property
    def key(self) -> tuple[str, int, str]:
        """What two ports cannot have in common."""
        return (self.host_ip, self.host_port, self.protocol)


class Forwarder:
    """Holds and serves a project's published ports. Not thread-safe: all calls come from the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: dict[tuple[str, int, str], _TcpPort | _UdpPort] = {}

    def hold(self, ports: Iterable[ProxyPort]) -> None:
        """Open ports in addition to those held; one that is held already gets the new target.

        All or nothing: when one is taken, Conflict names its holder and none of the new ones stays open.
        """
        opened: list[tuple[str, int, str]] = []
        for port in ports:
            if port.protocol not in _HELD:
                continue
            held = self._open.get(port.key)
            if held is not None:
                held.target = (port.target, port.container_port)
                continue
            try:
                listener = open_host_socket(*port.key)
            except BaseException:
                self.release(opened)
                raise
            kind = _TcpPort if port.protocol == "tcp" else _UdpPort
            self._open[port.key] = kind(self._loop, listener, (port.target, port.container_port))
            opened.append(port.key)

    def release(self, keys: Iterable[tuple[str, int, str]]) -> None:
        """Give ports back, ending the connections that run through them. Idempotent."""
        for key in tuple(keys):
            held = self._open.pop(key, None)
            if held is not None:
                held.close()

    def replace(self, ports: Iterable[ProxyPort]) -> None:
        """Hold exactly these ports: release the others first, keep what stays. Raises Conflict as :meth:`hold` does."""
        wanted = list(ports)
        self.release(self._open.keys() - {port.key for port in wanted})
        self.hold(wanted)

    def held(self) -> frozenset[tuple[str, int, str]]:
        """The (host_ip, port, protocol) of what is held."""
        return frozenset(self._open)

    def close(self) -> None:
        """Give everything back."""
        self.release(self._open)


def _connect(target: tuple[str, int], kind: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    opened = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if opened.connect_ex(target) not in (0, errno.EINPROGRESS):
            raise ConnectionRefusedError
    except OSError:
        opened.close()
        raise
    return opened


class _TcpPort:
    """A listening port; each connection is a pair of pipes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: socket.socket, target: tuple[str, int]) -> None:
        self.target = target
        self._loop, self._listener = loop, listener
        self._pairs: set[_Pair] = set()
        loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for pair in tuple(self._pairs):
            pair.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                client, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:
                # Out of descriptors: without a pause the loop would spin on a listener that stays readable.
                self._loop.remove_reader(self._listener.fileno())
                self._loop.call_later(0.1, self._resume)
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                server = _connect(self.target, socket.SOCK_STREAM)
            except OSError:
                client.close()
                continue
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.add(_Pair(self._loop, client, server, self._pairs))

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener.fileno(), self._accept)


class _Pair:
    """Two connected sockets; what one receives the other sends, each direction until its end."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, client: socket.socket, server: socket.socket, siblings: set[_Pair]
    ) -> None:
        self._loop, self._client, self._server, self._siblings = loop, client, server, siblings
        self._open_directions = 2
        self._waiting: dict[socket.socket, bytes] = {}
        self._closed = False
        self._timer = loop.call_later(_CONNECT_SECONDS, self.close)
        loop.add_writer(server.fileno(), self._connected)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        for one in (self._client, self._server):
            self._loop.remove_reader(one.fileno())
            self._loop.remove_writer(one.fileno())
            one.close()
        self._siblings.discard(self)

    def _connected(self) -> None:
        self._timer.cancel()
        self._loop.remove_writer(self._server.fileno())
        if self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._reset()
            return
        self._loop.add_reader(self._client.fileno(), self._carry, self._client, self._server)
        self._loop.add_reader(self._server.fileno(), self._carry, self._server, self._client)

    def _reset(self) -> None:
        # Refused by the container is refused by us: a reset, not an end of file that looks like an empty answer.
        try:
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        finally:
            self.close()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            data = source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._reset()
            return
        if not data:
            self._end(source, sink)
            return
        self._send(source, sink, data)

    def _send(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        try:
            sent = sink.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._reset()
            return
        if sent < len(data):
            # Nothing more is read from the source until the sink has taken this.
            self._waiting[sink] = data[sent:]
            self._loop.remove_reader(source.fileno())
            self._loop.add_writer(sink.fileno(), self._flush, source, sink)

    def _flush(self, source: socket.socket, sink: socket.socket) -> None:
        self._loop.remove_writer(sink.fileno())
        self._send(source, sink, self._waiting.pop(sink))
        if not self._closed and sink not in self._waiting:
            self._loop.add_reader(source.fileno(), self._carry, source, sink)

    def _end(self, source: socket.socket, sink: socket.socket) -> None:
        self._loop.remove_reader(source.fileno())
        self._open_directions -= 1
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._open_directions = 0
        if not self._open_directions:
            self.close()


class _UdpPort:
    """A bound port; each client address has a socket of its own towards the container, until it is idle."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: socket.socket, target: tuple[str, int]) -> None:
        self.target = target
        self._loop, self._listener = loop, listener
        self._sessions: dict[tuple[object, ...], _Session] = {}
        # Answers must come from the address that the client asked, which on a wildcard socket only the packet tells.
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        loop.add_reader(listener.fileno(), self._read)

    def close(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for session in tuple(self._sessions.values()):
            session.close()

    def _read(self) -> None:
        for _ in range(_PACKETS_PER_TURN):
            try:
                data, notes, _flags, client = self._listener.recvmsg(65535, 128)
            except OSError:
                return
            session = self._sessions.get(client)
            if session is None or session.target != self.target:
                session = self._begin(client, [(level, kind, bytes(value)) for level, kind, value in notes])
            if session is not None:
                session.send(data)

    def _begin(self, client: tuple[object, ...], notes: list[tuple[int, int, bytes]]) -> _Session | None:
        old = self._sessions.get(client)
        if old is not None:
            old.close()
        if len(self._sessions) >= _UDP_SESSIONS:
            next(iter(self._sessions.values())).close()
        try:
            server = _connect(self.target, socket.SOCK_DGRAM)
        except OSError:
            return None
        session = _Session(self._loop, self._listener, server, client, notes, self._sessions, self.target)
        self._sessions[client] = session
        return session


# Not in Python's socket module before 3.14.
_IP_PKTINFO = 8


class _Session:
    """One client of a UDP port."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        server: socket.socket,
        client: tuple[object, ...],
        notes: list[tuple[int, int, bytes]],
        siblings: dict[tuple[object, ...], _Session],
        target: tuple[str, int],
    ) -> None:
        self.target = target
        self._loop, self._listener, self._server, self._client = loop, listener, server, client
        self._notes, self._siblings = notes, siblings
        self._closed = False
        self._last = loop.time()
        self._timer = loop.call_later(_UDP_IDLE_SECONDS, self._check_idle)
        loop.add_reader(server.fileno(), self._read)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        self._loop.remove_reader(self._server.fileno())
        self._server.close()
        if self._siblings.get(self._client) is self:
            del self._siblings[self._client]

    def send(self, data: bytes) -> None:
        self._last = self._loop.time()
        try:
            self._server.send(data)
        except OSError:
            return

    def _read(self) -> None:
        for _ in range(_PACKETS_PER_TURN):
            try:
                data = self._server.recv(65535)
            except OSError:
                return
            self._last = self._loop.time()
            try:
                self._listener.sendmsg([data], self._notes, 0, self._client)
            except OSError:
                continue

    def _check_idle(self) -> None:
        idle = self._loop.time() - self._last
        if idle >= _UDP_IDLE_SECONDS:
            self.close()
        else:
            self._timer = self._loop.call_later(_UDP_IDLE_SECONDS - idle, self._check_idle)
