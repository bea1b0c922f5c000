"""Every test gets a host of its own: a network namespace, so that the machine's links and rules are not touched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from orchestrator.engines.native.network import firewall, nftables
from orchestrator.engines.native.network import links as network
from orchestrator.engines.native.network.links import BridgeSpec, Conversation, EndpointSpec, entered, netlink
from orchestrator.engines.native.network.network_syscalls import set_namespace, unshare_network

_T = TypeVar("_T")

TAG = "7e57"
OUTSIDE4, OUTSIDE6 = "198.51.100.2", "2001:db8:1::2"
HOST4, HOST6 = "198.51.100.1", "2001:db8:1::1"


class World:
    """A host with bridges, containers (namespaces with small servers inside) and somebody outside."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tag = TAG
        self._servers: list[socket.socket] = []
        self._namespaces: list[Path] = []
        self._bridges: list[str] = []

    def within(self, where: Path | None, action: Callable[[], _T]) -> _T:
        """Run `action` in the namespace `where`; None is the host."""
        if where is None:
            return action()
        with entered(where):
            return action()

    def bridge(self, name: str, **fields: Any) -> str:
        link = network.name_link(self.tag, "b", name)
        network.create_bridge(BridgeSpec(name=link, **fields))
        self._bridges.append(link)
        return link

    def namespace(self, name: str) -> Path:
        path = self.root / name
        network.create_namespace(path)
        self._namespaces.append(path)
        return path

    def container(self, name: str, *endpoints: dict[str, Any]) -> Path:
        """A namespace on networks; each endpoint's names of links are filled in."""
        path = self.namespace(name)
        specs = []
        for number, fields in enumerate(endpoints):
            port = network.name_link(self.tag, "v", f"{name}{number}")
            specs.append(EndpointSpec(ifname=f"eth{number}", host_ifname=port, **fields))
        network.connect_endpoints(path, specs)
        return path

    def outside(self) -> Path:
        """A neighbour of the host on its uplink, through which the host's default routes lead."""
        path = self.namespace("outside")
        target = os.open(path, os.O_RDONLY)
        with Conversation() as host:
            host.perform(netlink.encode_create_veth("up0", peer="eth0", peer_netns=target, master=0))
            host.perform(
                *(
                    netlink.encode_add_address(socket.if_nametoindex("up0"), one)
                    for one in (f"{HOST4}/24", f"{HOST6}/64")
                ),
                netlink.encode_set_link("up0", up=True),
            )
        os.close(target)
        with entered(path), Conversation() as there:
            index = socket.if_nametoindex("eth0")
            there.perform(
                *(netlink.encode_add_address(index, one) for one in (f"{OUTSIDE4}/24", f"{OUTSIDE6}/64")),
                netlink.encode_set_link("eth0", up=True),
            )
        with Conversation() as host:
            host.perform(
                netlink.encode_add_route("default", via=OUTSIDE4), netlink.encode_add_route("default", via=OUTSIDE6)
            )
        return path

    def serve(self, where: Path | None, name: str, port: int, *, kind: str = "tcp", address: str = "::") -> None:
        """Answer every connection or packet at `port` with ``name of-the-client-as-seen``."""

        def listen() -> socket.socket:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            opened = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address == "::":
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            opened.bind((address, port))
            if kind == "tcp":
                opened.listen(16)
            return opened

        server = self.within(where, listen)
        self._servers.append(server)

        def work() -> None:
            while True:
                try:
                    if kind == "tcp":
                        client, peer = server.accept()
                        client.sendall(f"{name} {peer[0].removeprefix('::ffff:')}".encode())
                        client.close()
                    else:
                        data, peer = server.recvfrom(2048)
                        if not data:
                            return
                        server.sendto(f"{name} {peer[0].removeprefix('::ffff:')}".encode(), peer)
                except OSError:
                    return

        threading.Thread(target=work, daemon=True).start()

    def ask(self, where: Path | None, address: str, port: int, *, kind: str = "tcp", patience: float = 2.0) -> str:
        """Connect from `where` and return what the server says, or ``refused``, ``silent``, ``unreachable``."""

        def talk() -> str:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as client:
                client.settimeout(patience)
                try:
                    client.connect((address, port))
                    if kind == "udp":
                        client.send(b"?")
                    return client.recv(2048).decode()
                except TimeoutError:
                    return "silent"
                except ConnectionError:
                    return "refused"
                except OSError:
                    return "unreachable"

        return self.within(where, talk)

    def close(self) -> None:
        for server in self._servers:
            # A thread that waits in accept holds the socket: wake it.
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        for path in self._namespaces:
            network.delete_namespace(path)
        for name in self._bridges:
            network.delete_bridge(name)


@pytest.fixture
def own_host() -> Iterator[None]:
    """Run the test, and what it starts, in a network namespace of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    unshare_network()
    try:
        with Conversation() as host:
            host.perform(netlink.encode_set_link("lo", up=True))
        yield
    finally:
        nftables.close_contexts()
        set_namespace(home)
        os.close(home)


@pytest.fixture
def world(own_host: None) -> Iterator[World]:
    """A :class:`World`; fails the test if it leaves links, tables, mounts or descriptors behind."""
    root = Path(tempfile.mkdtemp(prefix="stack-net-"))
    made = World(root)
    try:
        yield made
    finally:
        made.close()
        for table in firewall.list_tables(firewall.table_prefix(TAG)):
            firewall.delete_table(table)
    left = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(root) in line]
    files = sorted(root.iterdir())
    bridges = [name for name in network.list_links(network.name_prefix(TAG)) if "-b" in name]
    shutil.rmtree(root)
    assert (left, files, bridges) == ([], [], [])


class LoopThread:
    """An asyncio loop in a thread of its own, inside the test's host namespace."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def call(self, action: Callable[..., _T], *args: Any, **named: Any) -> _T:
        """Run `action` on the loop's thread and return what it returns."""

        async def run() -> _T:
            return action(*args, **named)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(60)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def looping(own_host: None) -> Iterator[LoopThread]:
    made = LoopThread()
    yield made
    made.close()
