"""A container's places on networks: which addresses it holds, and how its links are made."""

from __future__ import annotations

import _sqlite3 as sqlite3
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.engines.native.container import ContainerSpec, load_spec
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.network.addresses import derive_mac, plan_address
from orchestrator.engines.native.network.links import EndpointSpec, name_link
from orchestrator.engines.native.network.networks import CHILD_DRIVERS, NetworkRow, load_network
from orchestrator.engines.native.store import Store
from orchestrator.errors import EngineError, NotFound
from orchestrator.model import NetworkAttachment, Stack


def order_attachments(spec: ContainerSpec) -> list[NetworkAttachment]:
    """The service's networks in the order in which their interfaces are numbered: priority, then key."""
    return sorted(spec.attachments.values(), key=lambda one: (-one.priority, one.network))


def reserved_addresses(stack: Stack) -> Mapping[str, frozenset[str]]:
    """Static addresses of the whole stack by engine network name: no other container may be given one by chance."""
    found: dict[str, set[str]] = {}
    for service in stack.services.values():
        for key, attachment in service.networks.items():
            for address in (attachment.ipv4_address, attachment.ipv6_address):
                if address and key in stack.networks:
                    found.setdefault(stack.networks[key].name, set()).add(address)
    return {name: frozenset(addresses) for name, addresses in found.items()}


def lease_endpoints(
    layout: Layout,
    connection: sqlite3.Connection,
    container_id: str,
    container_name: str,
    spec: ContainerSpec,
    *,
    reserved: Mapping[str, frozenset[str]],
    replaces: str | None = None,
    leased: Collection[str] = (),
) -> Iterator[dict[str, Any]]:
    """Choose the addresses of a container, in the caller's transaction; yield rows for the ``endpoints`` table.

    Networks in `leased` are left out: it has its addresses there.
    """
    for position, attachment in enumerate(order_attachments(spec)):
        name = spec.networks[attachment.network]
        if name in leased:
            continue
        row = connection.execute("SELECT * FROM networks WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise NotFound(f"no network {name}", resource=name, operation="create container")
        network = load_network(layout, row)
        if replaces is not None:
            _hand_over(connection, name, replaces, attachment)
        held = connection.execute("SELECT ipv4, ipv6 FROM endpoints WHERE network = ?", (name,)).fetchall()
        ipv4 = _choose(network, [one["ipv4"] for one in held], reserved, attachment.ipv4_address, ipv6=False)
        ipv6 = _choose(network, [one["ipv6"] for one in held], reserved, attachment.ipv6_address, ipv6=True)
        names = [container_name, container_id[:12], *attachment.aliases]
        if not spec.oneoff:
            names.insert(1, spec.service.name)
        yield {
            "network": name,
            "position": position,
            "ipv4": ipv4,
            "ipv6": ipv6,
            "mac": attachment.mac_address or spec.service.mac_address or derive_mac(ipv4 or ipv6 or "0.0.0.0"),
            "interface": attachment.interface_name or f"{network.bridge_options.container_prefix}{position}",
            "aliases": json.dumps(list(dict.fromkeys(names))),
        }


def renew_endpoints(layout: Layout, store: Store, row: sqlite3.Row, spec: ContainerSpec) -> None:
    """Take places on networks that were removed and made anew since the container was created. NotFound, Conflict."""
    with store.writing() as connection:
        held = connection.execute("SELECT network FROM endpoints WHERE container_id = ?", (row["id"],)).fetchall()
        others = connection.execute(
            "SELECT spec FROM containers WHERE project = ? AND id != ?", (spec.project, row["id"])
        ).fetchall()
        reserved: dict[str, frozenset[str]] = {}
        for other in map(load_spec, others):
            for key, attachment in other.attachments.items():
                fixed = {one for one in (attachment.ipv4_address, attachment.ipv6_address) if one}
                name = other.networks[key]
                reserved[name] = reserved.get(name, frozenset()) | fixed
        leases = lease_endpoints(
            layout, connection, row["id"], row["name"], spec, reserved=reserved, leased={one["network"] for one in held}
        )
        for lease in leases:
            store.insert_endpoint({**lease, "container_id": row["id"]}, connection=connection)


def _hand_over(connection: sqlite3.Connection, network: str, old: str, attachment: NetworkAttachment) -> None:
    # The old container is stopped before the new one starts; only its static addresses are in the way until then.
    for column, address in (("ipv4", attachment.ipv4_address), ("ipv6", attachment.ipv6_address)):
        if address is not None:
            connection.execute(
                f"UPDATE endpoints SET {column} = NULL WHERE network = ? AND container_id = ? AND {column} = ?",
                (network, old, address),
            )


def _choose(
    network: NetworkRow,
    held: Sequence[str | None],
    reserved: Mapping[str, frozenset[str]],
    wanted: str | None,
    *,
    ipv6: bool,
) -> str | None:
    pool = network.pool(ipv6=ipv6)
    if pool is None:
        if wanted is not None:
            family = "IPv6" if ipv6 else "IPv4"
            raise EngineError(
                f"{wanted} is asked for on network {network.name}, which has no {family}",
                resource=network.name,
                operation="assign an address",
                hint="give the network a subnet of that family under ipam.config" + ("; enable_ipv6" if ipv6 else ""),
            )
        return None
    used: set[str] = {one for one in held if one is not None}
    if wanted is None:
        used |= {one for one in reserved.get(network.name, ()) if (":" in one) == ipv6}
    return plan_address(pool, used, wanted=wanted)


def plan_links(
    layout: Layout, container_id: str, spec: ContainerSpec, rows: Sequence[sqlite3.Row], networks: Sequence[NetworkRow]
) -> tuple[EndpointSpec, ...]:
    """The links of a container, from its rows of the ``endpoints`` table and the networks they are on."""
    attachments = {spec.networks[key]: one for key, one in spec.attachments.items() if key in spec.networks}
    gateway = _choose_gateway(rows, networks, attachments)
    found = []
    for row, network in zip(rows, networks, strict=True):
        pools = {False: network.pool(ipv6=False), True: network.pool(ipv6=True)}
        attachment = attachments.get(network.name)
        four, six = pools[False], pools[True]
        child = network.driver in CHILD_DRIVERS
        found.append(
            EndpointSpec(
                ifname=row["interface"],
                kind=network.driver if child else "bridge",
                host_ifname="" if child else name_link(layout.tag, f"v{row['position']}", container_id),
                bridge="" if child else network.link,
                parent=network.link if child else "",
                mode=network.mode if child else "",
                ipv4=four.with_prefix(row["ipv4"]) if four and row["ipv4"] else None,
                ipv6=six.with_prefix(row["ipv6"]) if six and row["ipv6"] else None,
                extra_addresses=tuple(f"{one}/16" for one in (attachment.link_local_ips if attachment else ())),
                mac=None if network.driver == "ipvlan" else row["mac"],
                mtu=network.bridge_options.mtu,
                gateway4=four.gateway if four and not network.internal else None,
                gateway6=six.gateway if six and not network.internal else None,
                is_default_route=network.name == gateway,
                isolated=not network.bridge_options.icc,
            )
        )
    return tuple(found)


def _choose_gateway(
    rows: Sequence[sqlite3.Row], networks: Sequence[NetworkRow], attachments: Mapping[str, NetworkAttachment]
) -> str | None:
    """The network that the default route leads through: the highest ``gw_priority``, then the first interface."""
    open_ones = [
        (-(attachments[one.name].gw_priority if one.name in attachments else 0), row["position"], one.name)
        for row, one in zip(rows, networks, strict=True)
        if not one.internal
    ]
    return min(open_ones)[2] if open_ones else None
