"""The engine's networks: rows of the store with a bridge (or a macvlan/ipvlan parent) behind them."""

from __future__ import annotations

import _sqlite3 as sqlite3
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.digest import hash_text
from orchestrator.engines.native.container import DEFAULT_BRIDGE, is_alive, read_boot_id
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.network.addresses import Pool, plan_pools
from orchestrator.engines.native.network.bridge_options import BridgeOptions, parse_bridge_options
from orchestrator.engines.native.network.links import (
    BridgeSpec,
    create_bridge,
    create_parent,
    delete_bridge,
    name_link,
    name_prefix,
    observe_host_subnets,
)
from orchestrator.engines.native.store import Store, dump_json, now
from orchestrator.errors import Conflict, NotFound, Unsupported
from orchestrator.model import Network
from orchestrator.record import Record

CHILD_DRIVERS = ("macvlan", "ipvlan")


class NetworkRow(Record):
    """One network as the store has it. `link` is the bridge, or the parent link of macvlan and ipvlan children."""

    name: str
    project: str
    driver: str
    link: str
    mode: str
    pools: tuple[Pool, ...]
    internal: bool
    bridge_options: BridgeOptions

    def pool(self, *, ipv6: bool) -> Pool | None:
        """The pool of one address family, if the network has it."""
        return next((one for one in self.pools if one.is_ipv6 == ipv6), None)


def load_network(layout: Layout, row: sqlite3.Row) -> NetworkRow:
    """Read one row of the ``networks`` table."""
    options: Mapping[str, str] = json.loads(row["config"]).get("driver_opts") or {}
    bridge = parse_bridge_options(options) if row["driver"] == "bridge" else BridgeOptions()
    return NetworkRow(
        name=row["name"],
        project=row["project"],
        driver=row["driver"],
        link=bridge.name or row["bridge"] if row["driver"] == "bridge" else _parent(layout, row["bridge"], options),
        mode=str(options.get(f"{row['driver']}_mode", "")),
        pools=tuple(_load_pool(one) for one in json.loads(row["pools"])),
        internal=bool(row["internal"]),
        bridge_options=bridge,
    )


def find_network(layout: Layout, store: Store, name: str) -> NetworkRow:
    """The network of that engine name. NotFound."""
    row = store.row("SELECT * FROM networks WHERE name = ?", name)
    if row is None:
        raise NotFound(
            f"no network {name}",
            resource=name,
            operation="use network",
            hint="an external network must exist before: bring up the project that makes it",
        )
    return load_network(layout, row)


def write_network(layout: Layout, store: Store, project: str, network: Network) -> NetworkRow:
    """Write a network to the store, with its subnets. One that exists must have the same configuration: Conflict."""
    driver = network.driver if network.driver not in (None, "", "default") else "bridge"
    if driver not in ("bridge", *CHILD_DRIVERS):
        raise Unsupported(
            f"network {network.key}: the native engine has no driver {driver}",
            resource=network.name,
            operation="create network",
            hint="bridge, macvlan or ipvlan",
        )
    options = {key: str(value) for key, value in network.driver_opts.items()}
    if driver == "bridge":
        parse_bridge_options(options)
    host = observe_host_subnets()
    with store.writing() as connection:
        old = connection.execute("SELECT * FROM networks WHERE name = ?", (network.name,)).fetchone()
        if old is not None:
            _check_same(old, project, network)
            row = old
        else:
            row = _insert(layout, connection, project, network, driver, host)
    return load_network(layout, row)


def write_default_bridge(layout: Layout, connection: sqlite3.Connection, host: Sequence[str]) -> None:
    """Write the default bridge in the transaction of the container that needs it, unless it is there.

    `host` are the host's subnets. The row never stands without a user, whenever its writer is killed.
    """
    if connection.execute("SELECT 1 FROM networks WHERE name = ?", (DEFAULT_BRIDGE,)).fetchone() is None:
        _insert(layout, connection, "", Network(key=DEFAULT_BRIDGE, name=DEFAULT_BRIDGE), "bridge", host)


def _check_same(row: sqlite3.Row, project: str, network: Network) -> None:
    if row["project"] != project:
        raise Conflict(
            f"the network {network.name} belongs to project {row['project']}",
            resource=network.name,
            operation="create network",
            hint="mark it as external: true to share it, or give this one another name",
        )
    if row["config"] != dump_config(network.config):
        raise Conflict(
            f"the network {network.name} exists with another configuration",
            resource=network.name,
            operation="create network",
            hint="bring the project down first: its network is made anew",
        )


def _insert(
    layout: Layout,
    connection: sqlite3.Connection,
    project: str,
    network: Network,
    driver: str,
    host: Sequence[str],
) -> sqlite3.Row:
    rows = connection.execute("SELECT pools FROM networks").fetchall()
    others = [pool["subnet"] for row in rows for pool in json.loads(row["pools"])]
    pools = plan_pools(
        network.ipam,
        seed=network.name,
        ipv4=network.enable_ipv4,
        ipv6=network.enable_ipv6 or any(":" in (one.subnet or "") for one in network.ipam),
        networks=others,
        # A configured subnet may be the host's own (macvlan); only picked ones avoid it.
        host=host,
    )
    connection.execute(
        "INSERT INTO networks (name, key, project, driver, bridge, pools, internal, config, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            network.name,
            network.key,
            project,
            driver,
            name_link(layout.tag, "b", hash_text(network.name)),
            dump_json([_dump_pool(one) for one in pools]),
            int(network.internal),
            dump_config(network.config),
            now(),
        ),
    )
    found: sqlite3.Row = connection.execute("SELECT * FROM networks WHERE name = ?", (network.name,)).fetchone()
    return found


def ensure_link(network: NetworkRow) -> None:
    """Make the network's link, or finish what a crash left of it; after a reboot only the store remembers it."""
    if network.driver in CHILD_DRIVERS:
        create_parent(network.link)
    else:
        create_bridge(_bridge_spec(network))


def _bridge_spec(network: NetworkRow) -> BridgeSpec:
    gateways = {ipv6: network.pool(ipv6=ipv6) for ipv6 in (False, True)}
    four, six = (pool.with_prefix(pool.gateway) if pool else None for pool in gateways.values())
    return BridgeSpec(
        name=network.link,
        gateway4=four,
        gateway6=six,
        internal=network.internal,
        mtu=network.bridge_options.mtu,
    )


def remove_network(layout: Layout, store: Store, project: str, name: str) -> None:
    """Remove a network and its link. Conflict while a container runs on it; one that is gone is success.

    Containers that have ended lose their places; they take new ones when they are started again.
    """
    row = store.row("SELECT * FROM networks WHERE name = ?", name)
    if row is None:
        return
    with store.writing() as connection:
        found = connection.execute(
            "SELECT c.* FROM endpoints e JOIN containers c ON c.id = e.container_id "
            "WHERE e.network = ? AND c.state = 'running'",
            (name,),
        ).fetchall()
        boot_id = read_boot_id() if found else ""
        users = sorted(one["name"] for one in found if is_alive(one, boot_id))
        if users:
            shown = ", ".join(users[:5])
            raise Conflict(
                f"the network {name} is used by {shown}",
                resource=name,
                operation="remove network",
                hint="stop those containers first",
            )
        _delete(layout, connection, row)


def _delete(layout: Layout, connection: sqlite3.Connection, row: sqlite3.Row) -> None:
    network = load_network(layout, row)
    # Within the transaction: a crash in between leaves the row, and the next attempt finds the link by it.
    if network.driver == "bridge" or network.link.startswith(name_prefix(layout.tag)):
        delete_bridge(network.link)
    connection.execute("DELETE FROM endpoints WHERE network = ?", (network.name,))
    connection.execute("DELETE FROM networks WHERE name = ?", (network.name,))


def leave_networks(layout: Layout, connection: sqlite3.Connection, project: str, names: Iterable[str]) -> bool:
    """Forget networks that belong to no project, once nobody is on them; True if `project` was on any but its own.

    In the transaction that forgets the container: after a crash both are there, or neither.
    """
    own = "SELECT 1 FROM networks WHERE name = ? AND project = ?"
    foreign = [name for name in names if connection.execute(own, (name, project)).fetchone() is None]
    users = "SELECT 1 FROM endpoints WHERE network = ? LIMIT 1"
    if DEFAULT_BRIDGE in foreign and connection.execute(users, (DEFAULT_BRIDGE,)).fetchone() is None:
        row = connection.execute("SELECT * FROM networks WHERE name = ?", (DEFAULT_BRIDGE,)).fetchone()
        if row is not None:
            _delete(layout, connection, row)
    return bool(foreign)


def dump_config(config: Mapping[str, Any]) -> str:
    """A canonical subtree of the stack file as JSON."""
    return json.dumps(config, separators=(",", ":"), sort_keys=True, default=dict)


def _parent(layout: Layout, fallback: str, options: Mapping[str, str]) -> str:
    # Without a parent the children are on a link that leads nowhere, as Docker does.
    return str(options.get("parent") or fallback)


def _dump_pool(pool: Pool) -> dict[str, Any]:
    return {
        "subnet": pool.subnet,
        "gateway": pool.gateway,
        "ip_range": pool.ip_range,
        "aux_addresses": dict(pool.aux_addresses),
    }


def _load_pool(data: Mapping[str, Any]) -> Pool:
    return Pool(**data)
