"""What a supervisor hosts for its project while containers run: the resolver and the sockets of published ports.

Both live on the supervisor's event loop; the engine's worker threads hand their changes over to it. Without a loop (a
command that is no supervisor) nothing is hosted, and the calls here do nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from orchestrator.errors import EngineError, Unavailable

if TYPE_CHECKING:
    import asyncio

    from orchestrator.engines.native.network.dns import DnsSockets, Resolver
    from orchestrator.engines.native.network.dns_zone import View
    from orchestrator.engines.native.network.firewall import PublishedPort
    from orchestrator.engines.native.network.proxy import Forwarder

_PATIENCE = 30.0

Wait = Callable[[], None]
"""Waits until a change has been made, and raises what went wrong."""

PortKey = tuple[str, int, str]
"""Host address, port, protocol."""


def _nothing() -> None:
    return


class Hosting:
    """The resolver and the port holder of one process."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resolver: Resolver | None = None
        self._forwarder: Forwarder | None = None
        self._publishes = False
        self._handed: deque[_Handed] = deque()
        self._refused: dict[PortKey, EngineError] = {}

    @property
    def active(self) -> bool:
        """True while an event loop hosts."""
        return self._loop is not None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Host on `loop`. Idempotent."""
        if self._loop is loop:
            return
        from orchestrator.engines.native.network.dns import Resolver

        self._resolver = Resolver(loop)
        self._loop = loop

    def end(self) -> None:
        """Close every socket; called from the loop's thread."""
        if self._resolver is not None:
            self._resolver.close()
        if self._forwarder is not None:
            self._forwarder.close()
        while self._handed:
            self._handed.popleft().drop()
        self._loop = self._resolver = self._forwarder = None

    def hold_ports(self, ports: Collection[PublishedPort]) -> Wait:
        """Hold exactly these host ports. What cannot be held is left out, and :meth:`refusal` tells of it."""
        loop = self._loop
        self._publishes = self._publishes or bool(ports)
        if loop is None or not self._publishes:
            return _nothing
        from orchestrator.engines.native.network.proxy import Forwarder, ProxyPort

        wanted = [
            ProxyPort(
                host_port=one.host_port,
                container_port=one.container_port,
                target=one.ipv4 or one.ipv6 or "",
                protocol=one.protocol,
                host_ip=one.host_ip,
            )
            for one in ports
            if one.ipv4 or one.ipv6
        ]

        def change() -> None:
            forwarder = self._forwarder = self._forwarder or Forwarder(loop)
            forwarder.release(forwarder.held() - {one.key for one in wanted})
            refused = {}
            for one in wanted:
                try:
                    forwarder.hold([one])
                except EngineError as error:
                    refused[one.key] = error
            self._refused = refused

        return self.hand_over(change)

    def refusal(self, key: PortKey) -> EngineError | None:
        """Why the host port is not held: another program has it. None when it is, or nothing is hosted here."""
        return self._refused.get(key)

    def holds(self, key: PortKey) -> bool:
        """True when this process itself holds the host port (host address, port, protocol)."""
        return self._forwarder is not None and key in self._forwarder.held()

    def serves(self, container_id: str) -> bool:
        """True while the container's queries are answered."""
        return self._resolver is not None and self._resolver.has_container(container_id)

    def serve_names(
        self,
        views: Iterable[tuple[str, View]],
        *,
        added: Iterable[tuple[str, DnsSockets, View, tuple[str, ...]]] = (),
        removed: Iterable[str] = (),
    ) -> Wait:
        """In one turn of the loop: take containers on or off, and give others their new views."""
        resolver = self._resolver
        if resolver is None:
            return _nothing

        def change() -> None:
            for key in removed:
                resolver.remove_container(key)
            for one in added:
                resolver.add_container(*one)
            for key, view in views:
                resolver.replace_view(key, view)

        return self.hand_over(change)

    def hand_over(self, call: Callable[[], Any]) -> Wait:
        """Have `call` run in the loop's thread, after all that was handed over before.

        Returns what waits for its end and raises its error. Hand over under the lock that orders the changes; wait
        without it, since the loop's thread may be about to take that lock.
        """
        loop = self._loop
        if loop is None:
            return _nothing
        handed = _Handed(call)
        self._handed.append(handed)
        if _is_running_elsewhere(loop):
            loop.call_soon_threadsafe(self._run_handed)
        else:
            self._run_handed()
        return handed.wait

    def _run_handed(self) -> None:
        while self._handed:
            self._handed.popleft().run()


def _is_running_elsewhere(loop: asyncio.AbstractEventLoop) -> bool:
    from asyncio import get_running_loop

    try:
        return get_running_loop() is not loop
    except RuntimeError:
        return loop.is_running()


class _Handed:
    """One change on its way to the loop's thread."""

    __slots__ = ("_call", "_done", "_failed")

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._done = threading.Event()
        self._failed: BaseException | None = None

    def run(self) -> None:
        """Perform it."""
        try:
            self._call()
        except BaseException as error:
            self._failed = error
        finally:
            self._done.set()

    def drop(self) -> None:
        """Leave it undone: nothing is hosted any longer."""
        self._done.set()

    def wait(self) -> None:
        """Wait for its end. Raises its error; Unavailable when the loop does not come round."""
        if not self._done.wait(_PATIENCE):
            raise Unavailable("the supervisor did not answer", operation="host names and ports")
        if self._failed is not None:
            raise self._failed
