"""What a supervisor hosts for its project while containers run: the resolver and the sockets of published ports.

Both live on the supervisor's event loop; the engine's worker threads hand their changes over to it. Without a loop (a
command that is no supervisor) nothing is hosted, and the calls here do nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from orchestrator.errors import Conflict

if TYPE_CHECKING:
    import asyncio

    from orchestrator.engines.native.dns import DnsSockets, Resolver
    from orchestrator.engines.native.dns_zone import View
    from orchestrator.engines.native.firewall import PublishedPort
    from orchestrator.engines.native.proxy import Forwarder

_PATIENCE = 30.0


class Hosting:
    """The resolver and the port holder of one process."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int = 0
        self._resolver: Resolver | None = None
        self._forwarder: Forwarder | None = None

    @property
    def active(self) -> bool:
        """True while an event loop hosts."""
        return self._loop is not None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Host on `loop`; called from the loop's thread. Idempotent."""
        if self._loop is loop:
            return
        from orchestrator.engines.native.dns import Resolver
        from orchestrator.engines.native.proxy import Forwarder

        self._loop, self._thread = loop, threading.get_ident()
        self._resolver, self._forwarder = Resolver(loop), Forwarder(loop)

    def end(self) -> None:
        """Close every socket; called from the loop's thread."""
        if self._resolver is not None:
            self._resolver.close()
        if self._forwarder is not None:
            self._forwarder.close()
        self._loop = self._resolver = self._forwarder = None

    def hold_ports(self, ports: Iterable[PublishedPort]) -> None:
        """Hold exactly these host ports. Conflict when another program has one."""
        if self._loop is None:
            return
        from orchestrator.engines.native.proxy import ProxyPort

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
        forwarder = self._forwarder
        assert forwarder is not None
        self.on_loop(lambda: forwarder.replace(wanted))

    def holds(self, key: tuple[str, int, str]) -> bool:
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
        removed: str | None = None,
    ) -> None:
        """In one turn of the loop: take containers on or off, and give others their new views."""
        resolver = self._resolver
        if resolver is None:
            return

        def change() -> None:
            if removed is not None:
                resolver.remove_container(removed)
            for one in added:
                resolver.add_container(*one)
            for key, view in views:
                resolver.replace_view(key, view)

        self.on_loop(change)

    def on_loop(self, call: Callable[[], Any]) -> None:
        """Run `call` in the loop's thread and wait for it; errors are raised here."""
        loop = self._loop
        if loop is None:
            return
        if threading.get_ident() == self._thread:
            call()
            return
        done = threading.Event()
        failed: list[BaseException] = []

        def run() -> None:
            try:
                call()
            except BaseException as error:
                failed.append(error)
            finally:
                done.set()

        loop.call_soon_threadsafe(run)
        if not done.wait(_PATIENCE):
            raise Conflict("the supervisor did not answer", operation="host names and ports")
        if failed:
            raise failed[0]
