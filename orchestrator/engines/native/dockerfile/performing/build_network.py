"""The network of a build's RUN steps: a bridge of the build's own behind the host's address, and nobody else on it.

Made when the first step asks for it. Each step that runs has a network namespace to itself; steps that run one after
the other share one, steps at the same time cannot reach each other. The bridge's number is held by a file lock, so
that what a killed build left is found, and taken over or removed, by its number.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orchestrator.engines.native.images.content import Cancel, check_cancel, try_lock
from orchestrator.engines.native.network.addresses import Subnet, parse_subnet, plan_pools, render_address
from orchestrator.engines.native.network.docker_coexistence import ensure_accepted, remove_accepted
from orchestrator.engines.native.network.firewall import (
    FirewallNetwork,
    FirewallSpec,
    apply_ruleset,
    delete_table,
    name_table,
)
from orchestrator.engines.native.network.links import (
    BridgeSpec,
    EndpointSpec,
    connect_endpoints,
    create_bridge,
    create_namespace,
    delete_bridge,
    delete_namespace,
    link_exists,
    name_link,
    name_prefix,
    observe_host_subnets,
)

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout

_PREFIX: Final = 26
_PLACES: Final = 61
"""Steps at the same time; the block has room for them and the gateway."""
_WAIT: Final = 0.2  # seconds between two looks at whether the build was cancelled
_NUMBERS: Final = 256
_PUBLIC_SERVERS: Final = ("8.8.8.8", "8.8.4.4")
"""What containers ask where the host's own name server cannot be reached from them, as under Docker."""
_HOST_RESOLV: Final = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


class NetworkPlace(NamedTuple):
    """A connected namespace: its file, the address in it, and its number within the build."""

    netns: Path
    address: str
    number: int


class BuildNetwork:
    """The default network of one build. Thread-safe; `close` takes everything away."""

    def __init__(self, layout: Layout, build_id: str) -> None:
        self._layout = layout
        self._build_id = build_id
        self._lock = threading.Condition()
        self._number = -1
        self._held = -1
        self._subnet: Subnet | None = None
        self._accepted = False
        self._free: list[NetworkPlace] = []
        self._unused = list(range(_PLACES, 0, -1))

    @property
    def gateway(self) -> str:
        """The host's address on the bridge; ``host-gateway`` of extra hosts."""
        assert self._subnet is not None
        return render_address(self._subnet.family, self._subnet.first + 1)

    def prepare(self) -> None:
        """Have a place ready for the step that comes first."""
        with self._lock:
            if not self._free:
                self._free.append(self._make_place())

    def take(self, cancel: Cancel) -> NetworkPlace:
        """A connected network namespace for one step. Give it back with `give`. Raises TransferCancelled.

        With as many steps under way as there is room for, it waits for one of them.
        """
        with self._lock:
            while not self._free and not self._unused:
                self._lock.wait(_WAIT)
                check_cancel(cancel)
            return self._free.pop() if self._free else self._make_place()

    def _make_place(self) -> NetworkPlace:
        if self._subnet is None:
            self._open()
        assert self._subnet is not None
        number = self._unused.pop()
        address = render_address(self._subnet.family, self._subnet.first + 1 + number)
        place = NetworkPlace(self._netns(number), address, number)
        create_namespace(place.netns)
        endpoint = EndpointSpec(
            ifname="eth0",
            host_ifname=name_link(self._layout.tag, "m", f"{self._number:02x}{number:02x}"),
            bridge=self._bridge,
            ipv4=f"{address}/{_PREFIX}",
            gateway4=self.gateway,
            isolated=True,
        )
        connect_endpoints(place.netns, [endpoint])
        return place

    def give(self, place: NetworkPlace, *, changed: bool = False) -> None:
        """Give a place back: all of its processes have ended. One that a privileged step may have `changed` goes."""
        if changed:
            delete_namespace(place.netns)
        with self._lock:
            if changed:
                self._unused.append(place.number)
            else:
                self._free.append(place)
            self._lock.notify()

    def _netns(self, number: int) -> Path:
        return self._layout.netns / f"build-{self._build_id}-{number}"

    @property
    def _bridge(self) -> str:
        return name_link(self._layout.tag, "n", f"{self._number:02x}")

    def _open(self) -> None:
        self._hold_number()
        subnet = self._choose_subnet()
        if link_exists(self._bridge):  # a killed build's; its addresses are not ours
            delete_bridge(self._bridge)
        gateway = render_address(subnet.family, subnet.first + 1)
        create_bridge(BridgeSpec(name=self._bridge, gateway4=f"{gateway}/{_PREFIX}"))
        network = FirewallNetwork(bridge=self._bridge, subnets=(str(subnet),))
        apply_ruleset(FirewallSpec(table=_table(self._layout, self._number), networks=(network,)))
        self._accepted = ensure_accepted(name_prefix(self._layout.tag))
        self._subnet = subnet

    def _hold_number(self) -> None:
        folder = numbers_folder(self._layout)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(_NUMBERS):
            descriptor = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if try_lock(descriptor):
                self._held, self._number = descriptor, number
                os.pwrite(descriptor, b"made\n", 0)  # before anything is: see leftovers.py
                return
            os.close(descriptor)
        from orchestrator.errors import Conflict

        raise Conflict("too many builds run at the same time", operation="build", hint="wait until one has ended")

    def _choose_subnet(self) -> Subnet:
        """A small block at the far end of a free one: the engine's networks count from the near end."""
        (pool,) = plan_pools(
            (), seed="", networks=_list_networks(self._layout), host=[*observe_host_subnets(), "172.17.0.0/16"]
        )
        whole = parse_subnet(pool.subnet)
        size = 1 << (32 - _PREFIX)
        count = (whole.last + 1 - whole.first) // size
        from zlib import crc32

        # Two engines that choose at the same moment do not see each other's choice.
        offset = (crc32(str(self._layout.run).encode()) + self._number) % max(1, count - 1)
        return Subnet(whole.family, whole.last + 1 - (offset + 1) * size, _PREFIX)

    def close(self) -> None:
        """Take the network away. Idempotent."""
        with self._lock:
            if self._held < 0:
                return
            # The bridge first: behind the kernel's own end of the namespaces it would have to wait for that.
            remove_network(self._layout, self._number)
            for number in range(1, _PLACES + 1):
                delete_namespace(self._netns(number))
            if self._accepted and not _list_networks(self._layout):
                remove_accepted(name_prefix(self._layout.tag))
            os.ftruncate(self._held, 0)
            os.close(self._held)
            self._held, self._free, self._subnet = -1, [], None


def numbers_folder(layout: Layout) -> Path:
    """Where the numbers of build networks are held by locks."""
    return layout.run / "build-networks"


def remove_network(layout: Layout, number: int) -> None:
    """Take bridge and firewall table of a number away. Idempotent; the caller holds the number."""
    delete_bridge(name_link(layout.tag, "n", f"{number:02x}"))
    delete_table(_table(layout, number))


def _table(layout: Layout, number: int) -> str:
    # Names of projects have no capitals, so this is nobody else's.
    return name_table(layout.tag, f"BUILD-{number}")


def _list_networks(layout: Layout) -> list[str]:
    if not layout.database.exists():
        return []
    import json

    from orchestrator.engines.native.store import Store

    store = Store(layout.database)
    try:
        rows = store.rows("SELECT pools FROM networks")
        return [pool["subnet"] for row in rows for pool in json.loads(row["pools"])]
    finally:
        store.close()


def render_build_resolv_conf(read: Any = None) -> str:
    """The ``resolv.conf`` of a step: the host's, without name servers that only the host itself can reach."""
    lines: list[str] = []
    servers: list[str] = []
    for path in _HOST_RESOLV:
        text = (read or _read)(path)
        found = [line for line in text.splitlines() if line.split() and line.split()[0] != "nameserver"]
        lines = lines or [one for one in found if one.split()[0] in ("search", "domain", "options")]
        servers = [line.split()[1] for line in text.splitlines() if _names_server(line)]
        servers = [one for one in servers if ":" not in one and not one.startswith("127.")]  # steps have IPv4 only
        if servers:
            break
    shown = [f"nameserver {one}" for one in servers or _PUBLIC_SERVERS]
    return "\n".join([*shown, *lines]) + "\n"


def _names_server(line: str) -> bool:
    words: Sequence[str] = line.split()
    return len(words) >= 2 and words[0] == "nameserver"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
