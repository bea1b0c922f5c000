"""Published ports of a project: leases, the project's nftables table, and the sockets that hold the host's ports."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.container import DEFAULT_BRIDGE, ContainerSpec
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.network.docker_coexistence import ensure_accepted, remove_accepted
from orchestrator.engines.native.network.firewall import (
    FirewallNetwork,
    FirewallSpec,
    PublishedPort,
    apply_ruleset,
    name_table,
)
from orchestrator.engines.native.network.host_ports import allocate_free_port, check_port_free, require_port_free
from orchestrator.engines.native.network.links import name_prefix
from orchestrator.engines.native.network.networks import CHILD_DRIVERS, load_network
from orchestrator.engines.native.store import Store
from orchestrator.errors import Conflict, EngineError
from orchestrator.model import Port

if TYPE_CHECKING:
    from orchestrator.engines.native.network.hosting import Hosting, Wait

_PORTS = """
SELECT p.*, e.ipv4, e.ipv6, n.internal, n.driver, c.project FROM ports p
JOIN containers c ON c.id = p.container_id
JOIN endpoints e ON e.container_id = p.container_id
JOIN networks n ON n.name = e.network
WHERE c.project = ? ORDER BY n.internal, e.position
"""


# The project's own networks, and those of others that its containers are on.
_NETWORKS = """
SELECT * FROM networks WHERE project = ? OR name IN (
  SELECT e.network FROM endpoints e JOIN containers c ON c.id = e.container_id WHERE c.project = ?)
ORDER BY name
"""


_ANY = (None, "", "0")
"""``published`` of a port that the engine picks."""

_ATTEMPTS = 50
"""How often to choose again when other processes are quicker."""


class Publisher:
    """Keeps the firewall of one engine as the store says. Thread-safe; concurrent changes share one transaction."""

    def __init__(self, layout: Layout, store: Store, hosting: Hosting) -> None:
        self._layout = layout
        self._store = store
        self._hosting = hosting
        self._flushing = threading.Lock()
        self._counting = threading.Lock()
        self._choosing = threading.Lock()
        self._asked: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._leaving: set[str] = set()
        self._covered: dict[str, str | None] = {}
        """The pools of the default bridge as each project's table has them."""

    def publish(self, container_id: str, spec: ContainerSpec) -> None:
        """Lease and open the host ports of a container that is about to start. Conflict names who holds one."""
        if not spec.service.ports or not spec.networks:
            if DEFAULT_BRIDGE in spec.networks.values():
                self._cover_default_bridge(spec.project)
            return
        self._store.release_ports(container_id)
        bindings = self._lease(container_id, spec.service.ports)
        self.sync(spec.project)
        for one in bindings:
            refusal = self._hosting.refusal((one["host_ip"], one["host_port"], one["protocol"]))
            if refusal is not None:
                raise refusal

    def adopt(self, project: str) -> Sequence[EngineError]:
        """Open the way to containers that run already. Returns why a port could not be held: somebody took it since."""
        self.sync(project)
        ports = observe_ports(self._store, project)
        refusals = [self._hosting.refusal((one.host_ip, one.host_port, one.protocol)) for one in ports]
        return [one for one in refusals if one is not None]

    def unpublish(self, container_id: str, project: str) -> None:
        """Give a container's ports back and close the way to it."""
        held = self._store.rows("SELECT protocol FROM ports WHERE container_id = ?", container_id)
        if not held or not self._store.release_ports(container_id):
            return
        self.sync(project)
        if any(row["protocol"] == "udp" for row in held):
            from orchestrator.engines.native.network.conntrack import forget_udp_flows

            rows = self._store.rows("SELECT ipv4, ipv6 FROM endpoints WHERE container_id = ?", container_id)
            # A client that goes on sending from its port would keep the way to the dead address alive.
            forget_udp_flows([address for row in rows for address in (row["ipv4"], row["ipv6"]) if address])

    def _cover_default_bridge(self, project: str) -> None:
        # It came with the container, not with a project: nobody else has the table masquerade it.
        row = self._store.row("SELECT pools FROM networks WHERE name = ?", DEFAULT_BRIDGE)
        if row is not None and self._covered.get(project) != row["pools"]:
            self.sync(project)

    @contextmanager
    def leaving(self, project: str, network: str) -> Iterator[None]:
        """Take a network out of the project's table, and have it back there if it is not removed after all."""
        self._leaving.add(network)
        try:
            self.sync(project)
            yield
        except BaseException:
            self._leaving.discard(network)
            self.sync(project)
            raise
        self._leaving.discard(network)

    def sync(self, project: str) -> None:
        """Make the project's table say what the store says. Callers that come while one is written share the next."""
        with self._counting:
            asked = self._asked[project] = self._asked.get(project, 0) + 1
        with self._flushing:
            if self._done.get(project, 0) >= asked:
                return
            covered = self._asked[project]
            wait = self._apply(project)
            self._done[project] = covered
        wait()

    def _apply(self, project: str) -> Wait:
        rows = self._store.rows(_NETWORKS, project, project)
        loaded = [load_network(self._layout, row) for row in rows if row["name"] not in self._leaving]
        networks = tuple(
            FirewallNetwork(
                bridge=one.link,
                subnets=tuple(pool.subnet for pool in one.pools),
                internal=one.internal,
                masquerade=one.bridge_options.masquerade,
                routed=one.bridge_options.routed,
            )
            for one in loaded
            if one.driver not in CHILD_DRIVERS
        )
        ports = observe_ports(self._store, project)
        apply_ruleset(FirewallSpec(table=name_table(self._layout.tag, project), networks=networks, ports=ports))
        self._covered[project] = next((row["pools"] for row in rows if row["name"] == DEFAULT_BRIDGE), None)
        if networks:
            prefix = name_prefix(self._layout.tag)
            ensure_accepted(prefix, [one.bridge for one in networks if not one.bridge.startswith(prefix)])
        elif all(row["name"] in self._leaving for row in self._store.rows("SELECT name FROM networks")):
            remove_accepted(name_prefix(self._layout.tag))
        return self._hosting.hold_ports(ports)

    def _lease(self, container_id: str, ports: Sequence[Port]) -> Sequence[Mapping[str, Any]]:
        """Choose host ports and lease them; choose again where somebody else was quicker."""
        for attempt in range(_ATTEMPTS):
            with self._choosing:
                taken: set[tuple[str, int]] = set()
                bindings = [self._bind(port, container_id, taken) for port in ports]
                try:
                    self._store.lease_ports(container_id, bindings)
                    break
                except Conflict:
                    if attempt == _ATTEMPTS - 1 or all(_is_fixed(port) for port in ports):
                        raise
        return bindings

    def _bind(self, port: Port, container_id: str, taken: set[tuple[str, int]]) -> Mapping[str, Any]:
        host_ip = port.host_ip or ""
        for number in self._candidates(port, host_ip, taken):
            taken.add((port.protocol, number))
            return {
                "host_ip": host_ip,
                "host_port": number,
                "protocol": port.protocol,
                "container_port": port.target,
            }
        raise Conflict(
            f"no host port of {port.published} is free",
            resource=f"{port.published}/{port.protocol}",
            operation="publish port",
            hint="widen the range, or publish without a host port to have a free one picked",
        )

    def _candidates(self, port: Port, host_ip: str, taken: set[tuple[str, int]]) -> Iterable[int]:
        """Host ports to try: the one that is asked for, each of a range that is free, or one that the engine picks."""
        if port.published in _ANY:
            leased = {number for protocol, number in taken if protocol == port.protocol}
            held = self._store.rows("SELECT host_port FROM ports WHERE protocol = ?", port.protocol)
            leased.update(row["host_port"] for row in held)
            yield allocate_free_port(host_ip, port.protocol, taken=leased)
            return
        first, dash, last = port.published.partition("-")
        if not dash:
            number = int(first)
            self._check_free(host_ip, number, port.protocol)
            yield number
            return
        for number in range(int(first), int(last) + 1):
            if (port.protocol, number) in taken or self._is_leased(number, port.protocol):
                continue
            if check_port_free(host_ip, number, port.protocol) is None:
                yield number

    def _is_leased(self, number: int, protocol: str) -> bool:
        query = "SELECT 1 FROM ports WHERE host_port = ? AND protocol = ?"
        return self._store.row(query, number, protocol) is not None

    def _check_free(self, host_ip: str, number: int, protocol: str) -> None:
        # A port that another container has leased is told by the lease, which knows the project's name.
        if protocol == "sctp" or self._hosting.holds((host_ip, number, protocol)) or self._is_leased(number, protocol):
            return
        require_port_free(host_ip, number, protocol)


def _is_fixed(port: Port) -> bool:
    return port.published not in _ANY and "-" not in (port.published or "")


def observe_ports(store: Store, project: str) -> tuple[PublishedPort, ...]:
    """The leased ports of a project with the container addresses that they lead to: of its first open network."""
    found: dict[tuple[str, int, str], PublishedPort] = {}
    for row in store.rows(_PORTS, project):
        key = (row["host_ip"], row["host_port"], row["protocol"])
        if key not in found and row["driver"] not in CHILD_DRIVERS:
            found[key] = PublishedPort(
                host_port=row["host_port"],
                container_port=row["container_port"],
                protocol=row["protocol"],
                host_ip=row["host_ip"],
                ipv4=row["ipv4"],
                ipv6=row["ipv6"],
            )
    return tuple(found.values())
