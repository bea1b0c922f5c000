"""Bridges, and the links between them and the containers' network namespaces.

Functions block and are meant for worker threads. Everything can be done twice; what a crash left behind is found by its
name.
"""

from __future__ import annotations

import errno
import os
import socket
from _thread import start_new_thread
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from orchestrator.engines.native.network import netlink
from orchestrator.engines.native.network.namespaces import (
    create_namespace,
    delete_namespace,
    entered,
    is_namespace,
    write_sysctl,
)
from orchestrator.engines.native.network.netlink import Conversation, Link, NetlinkError, Request
from orchestrator.errors import Conflict, EngineError, NotFound, Unsupported
from orchestrator.record import Record

if TYPE_CHECKING:
    from pathlib import Path

_NAME_LENGTH = 15
_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}


class BridgeSpec(Record):
    """A bridge network's link. Gateways are the host's addresses on it, with prefix (``172.18.0.1/16``).

    An `internal` network needs no forwarding by the host. `mtu` 0 takes the kernel's 1500.
    """

    name: str
    gateway4: str | None = None
    gateway6: str | None = None
    internal: bool = False
    mtu: int = 0


class EndpointSpec(Record):
    """A container's place on one network.

    `kind` bridge: `host_ifname` is the veth's end on the host, a port of `bridge`. `kind` macvlan or ipvlan: a child of
    the link `parent` in `mode`, without an end on the host. `ifname` is the name inside. `ipv4`, `ipv6` and
    `extra_addresses` carry a prefix. With `is_default_route`, the default routes go through the gateways that are set.
    `routes` are (destination CIDR, gateway). `isolated` ports of one bridge cannot reach each other.
    """

    ifname: str
    kind: str = "bridge"
    host_ifname: str = ""
    bridge: str = ""
    parent: str = ""
    mode: str = ""
    ipv4: str | None = None
    ipv6: str | None = None
    extra_addresses: tuple[str, ...] = ()
    mac: str | None = None
    mtu: int = 0
    gateway4: str | None = None
    gateway6: str | None = None
    is_default_route: bool = True
    routes: tuple[tuple[str, str], ...] = ()
    isolated: bool = False


def name_prefix(tag: str) -> str:
    """The prefix of every link of the engine with this layout tag; no other engine's prefix begins with it."""
    return f"st{tag}-"


def name_link(tag: str, kind: str, identity: str) -> str:
    """A link name of at most 15 characters: `kind` is one letter (b bridge, v veth), `identity` a long hex id."""
    return (name_prefix(tag) + kind + identity)[:_NAME_LENGTH]


def enable_forwarding(*, ipv6: bool) -> None:
    """Let the host route between its links, without losing routes that it learns from router advertisements."""
    write_sysctl("ipv4/ip_forward", "1")
    if not ipv6:
        return
    with open("/proc/sys/net/ipv6/conf/all/forwarding") as file:
        if file.read().strip() == "1":
            return
    for name in os.listdir("/proc/sys/net/ipv6/conf"):
        with open(f"/proc/sys/net/ipv6/conf/{name}/accept_ra") as file:
            accepts = file.read().strip() == "1"
        # A link that forwards ignores advertisements at 1, and the host's own default route would expire.
        if accepts and name not in ("all", "lo"):
            write_sysctl(f"ipv6/conf/{name}/accept_ra", "2")
    write_sysctl("ipv6/conf/all/forwarding", "1")


def link_exists(name: str) -> bool:
    """True if the calling thread's namespace has a link of that name."""
    return find_link(name) != 0


def find_link(name: str) -> int:
    """The index of the link of that name in the calling thread's namespace; 0 when there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _index_of(name: str, what: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise NotFound(f"the {what} {name} does not exist", resource=name, operation="connect") from None


def _derive_mac(name: str) -> str:
    from zlib import crc32

    # Without an address of its own a bridge takes its lowest port's, and changes it when that port goes.
    return "02:53:" + crc32(name.encode()).to_bytes(4, "big").hex(":")


def create_bridge(spec: BridgeSpec) -> None:
    """Create a bridge with its gateway addresses, ready to forward; one of that name is brought to `spec`."""
    name = spec.name
    with Conversation() as host:
        failed = host.attempt([netlink.encode_create_bridge(name, mac=_derive_mac(name), mtu=spec.mtu)])
        if failed:
            if failed[0].errno != errno.EEXIST:
                raise failed[0]
            _check_bridge(host, name)
        # Published ports are reached from 127.0.0.1, which the kernel otherwise refuses to route.
        write_sysctl(f"ipv4/conf/{name}/route_localnet", "1")
        write_sysctl(f"ipv6/conf/{name}/disable_ipv6", "0" if spec.gateway6 else "1")
        if spec.gateway6 and not write_sysctl(f"ipv6/conf/{name}/accept_dad", "0"):
            raise Unsupported(
                f"the network {name} wants IPv6, which this host does not have", resource=name, operation="create"
            )
        index = _index_of(name, "bridge")
        requests = [netlink.encode_add_address(index, one) for one in (spec.gateway4, spec.gateway6) if one]
        host.perform(*requests, netlink.encode_set_link(name, up=True, mtu=spec.mtu))
    if not spec.internal:
        enable_forwarding(ipv6=spec.gateway6 is not None)


def _check_bridge(host: Conversation, name: str) -> None:
    for link in host.list_links():
        if link.name == name and link.kind != "bridge":
            raise Conflict(
                f"a link named {name} exists and is no bridge but {link.kind or 'a device'}",
                resource=name,
                operation="create a bridge",
                hint="give the network another name in driver_opts: com.docker.network.bridge.name",
            )


def delete_bridge(name: str) -> None:
    """Delete a bridge; return when no link has its name any more. One that is not there is fine.

    The kernel takes a bridge out of its tables within a millisecond, and lets whoever asked wait some 40 more until the
    last reader has left. Nothing depends on that: a thread waits for it.
    """
    from select import POLLIN, poll

    failures: list[BaseException] = []
    read, write = os.pipe2(os.O_CLOEXEC)

    def delete() -> None:
        try:
            with Conversation() as host:
                host.perform(netlink.encode_delete_link(name))
        except BaseException as error:
            failures.append(error)
        finally:
            os.close(write)

    try:
        start_new_thread(delete, ())
        answer = poll()
        answer.register(read, POLLIN)
        # The kernel tells of the end only after its wait.
        while not answer.poll(1) and find_link(name):
            continue
    finally:
        os.close(read)
    if failures:
        raise failures[0]


def create_parent(name: str) -> None:
    """Make sure that a macvlan or ipvlan network's parent link exists.

    ``eth0.50`` is created as VLAN 50 of eth0; a name made by :func:`name_link` is created as a link that leads nowhere
    (a network without a parent). Any other name must exist.
    """
    if link_exists(name):
        return
    base, dot, vlan = name.rpartition(".")
    with Conversation() as host:
        if dot and vlan.isdigit() and link_exists(base):
            _create_vlan(host, name, base, int(vlan))
        elif _is_own_name(name):
            head, _, tail = name.partition("-")
            peer = f"{head}-p{tail[1:]}"
            ends = (netlink.encode_set_link(name, up=True), netlink.encode_set_link(peer, up=True))
            host.perform(netlink.encode_create_loose_end(name, peer=peer), *ends)
        else:
            raise NotFound(
                f"the parent link {name} does not exist",
                resource=name,
                operation="create a network",
                hint="`ip link` lists the links of this host",
            )


def _is_own_name(name: str) -> bool:
    head, dash, tail = name.partition("-")
    tag, identity = head[2:], tail[1:]
    hexadecimal = all(one in "0123456789abcdef" for one in tag + identity)
    return head.startswith("st") and len(tag) in (0, 4) and dash == "-" and identity != "" and hexadecimal


def _create_vlan(host: Conversation, name: str, base: str, vlan: int) -> None:
    if not 0 < vlan < 4095:
        raise EngineError(f"{name}: there is no VLAN {vlan}", resource=name, operation="create a network")
    try:
        host.perform(netlink.encode_create_vlan(name, parent=_index_of(base, "link"), vlan=vlan))
    except NetlinkError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        raise Unsupported(
            f"this kernel has no VLAN links ({name})",
            resource=name,
            operation="create a network",
            hint="modprobe 8021q",
        ) from error


def connect_endpoints(netns: Path, endpoints: Sequence[EndpointSpec]) -> None:
    """Connect the namespace `netns` to its networks, in order, in one conversation on each side; lo is up.

    What exists already as wanted is kept, anything else under the same name is replaced.
    """
    if not endpoints:
        return
    target = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Conversation() as host:
            batches = [_encode_host_end(one, target) for one in endpoints]
            failed = host.attempt([request for batch in batches for request in batch])
            if failed:
                for endpoint, batch in zip(endpoints, batches, strict=True):
                    _settle(host, netns, endpoint, batch)
    finally:
        os.close(target)
    with entered(netns), Conversation() as inside:
        loopback = netlink.encode_set_link("lo", up=True)
        inside.perform(loopback, *(request for one in endpoints for request in _encode_inside(one)))


def _encode_host_end(endpoint: EndpointSpec, target: int) -> list[Request]:
    if endpoint.kind == "bridge":
        name = endpoint.host_ifname
        return [
            netlink.encode_create_veth(
                name,
                peer=endpoint.ifname,
                peer_netns=target,
                master=_index_of(endpoint.bridge, "bridge"),
                mtu=endpoint.mtu,
                peer_mac=endpoint.mac or "",
            ),
            netlink.encode_set_port(name, hairpin=True, isolated=endpoint.isolated),
            netlink.encode_set_link(name, up=True),
        ]
    modes = _MACVLAN_MODES if endpoint.kind == "macvlan" else _IPVLAN_MODES
    mode = endpoint.mode or ("bridge" if endpoint.kind == "macvlan" else "l2")
    if mode not in modes:
        known = ", ".join(modes)
        raise Unsupported(f"{endpoint.kind} has no mode {mode}", operation="connect", hint=f"one of: {known}")
    child = netlink.encode_create_child(
        endpoint.ifname,
        kind=endpoint.kind,
        parent=_index_of(endpoint.parent, "link"),
        mode=modes[mode],
        netns=target,
        mac=endpoint.mac or "" if endpoint.kind == "macvlan" else "",
        mtu=endpoint.mtu,
    )
    return [child]


def _settle(host: Conversation, netns: Path, endpoint: EndpointSpec, batch: list[Request]) -> None:
    """Do an endpoint's host side again, next to what is there: keep our own pair, replace anything else."""
    failed = host.attempt(batch[:1])
    if failed and failed[0].errno == errno.EEXIST:
        if not _is_connected(host, netns, endpoint):
            _disconnect(host, netns, endpoint)
            host.perform(batch[0])
    elif failed and failed[0].errno == errno.EOPNOTSUPP:
        message = f"this kernel has no {endpoint.kind} links"
        raise Unsupported(message, resource=endpoint.ifname, operation="connect") from failed[0]
    elif failed:
        raise failed[0]
    host.perform(*batch[1:])


def _links_inside(netns: Path) -> dict[str, Link]:
    with entered(netns), Conversation() as inside:
        return {link.name: link for link in inside.list_links()}


def _is_connected(host: Conversation, netns: Path, endpoint: EndpointSpec) -> bool:
    inner = _links_inside(netns).get(endpoint.ifname)
    if inner is None:
        return False
    if endpoint.kind != "bridge":
        return inner.kind == endpoint.kind and inner.peer_number == _index_of(endpoint.parent, "link")
    outer = {link.name: link for link in host.list_links()}.get(endpoint.host_ifname)
    return (
        outer is not None
        and (outer.kind, outer.peer_number, inner.peer_number) == ("veth", inner.number, outer.number)
        and outer.master == _index_of(endpoint.bridge, "bridge")
        and (endpoint.mac is None or inner.mac == endpoint.mac.lower())
    )


def _disconnect(host: Conversation, netns: Path, endpoint: EndpointSpec) -> None:
    if endpoint.host_ifname:
        host.perform(netlink.encode_delete_link(endpoint.host_ifname))
    with entered(netns), Conversation() as inside:
        inside.perform(netlink.encode_delete_link(endpoint.ifname))


def _encode_inside(endpoint: EndpointSpec) -> list[Request]:
    name = endpoint.ifname
    index = _index_of(name, "link")
    # A container that takes over an address tells the bridge and its neighbours at once.
    requests = [netlink.encode_set_link(name, announced=True)]
    if endpoint.ipv6:
        write_sysctl(f"ipv6/conf/{name}/ndisc_notify", "1")
        write_sysctl(f"ipv6/conf/{name}/accept_dad", "0")
    write_sysctl(f"ipv6/conf/{name}/disable_ipv6", "0" if endpoint.ipv6 else "1")
    addresses = (endpoint.ipv4, endpoint.ipv6, *endpoint.extra_addresses)
    requests += [netlink.encode_add_address(index, one) for one in addresses if one]
    # Up comes after the addresses, so that the announcement of the new neighbour carries them.
    requests.append(netlink.encode_set_link(name, up=True))
    requests += [netlink.encode_add_route(to, via=via) for to, via in endpoint.routes]
    if endpoint.is_default_route:
        gateways = [one for one in (endpoint.gateway4, endpoint.gateway6) if one]
        requests += [netlink.encode_add_route("default", via=one, index=index) for one in gateways]
    return requests


def disconnect_endpoint(netns: Path, endpoint: EndpointSpec) -> None:
    """Take the container off one network while it goes on running. Slow (16 ms): a stop drops the namespace instead."""
    with Conversation() as host:
        if is_namespace(netns):
            _disconnect(host, netns, endpoint)
        elif endpoint.host_ifname:
            host.perform(netlink.encode_delete_link(endpoint.host_ifname))


def list_links(prefix: str) -> list[str]:
    """Names of the links that begin with `prefix` (see :func:`name_prefix`), sorted."""
    with Conversation() as host:
        return sorted(link.name for link in host.list_links() if link.name.startswith(prefix))


def delete_links(names: Iterable[str]) -> None:
    """Delete links by name, in one conversation; those that are gone are fine."""
    with Conversation() as host:
        host.perform(*(netlink.encode_delete_link(name) for name in names))


def observe_host_subnets() -> list[str]:
    """CIDRs that the host has addresses in or routes to (default routes left out), sorted: new networks avoid them."""
    with Conversation() as host:
        found = {address for _index, address in host.list_addresses()}
        found.update(to for to, _via, _index in host.list_routes() if to != "default")
    return sorted(found)


__all__ = [
    "BridgeSpec",
    "EndpointSpec",
    "NetlinkError",
    "connect_endpoints",
    "create_bridge",
    "create_namespace",
    "create_parent",
    "delete_bridge",
    "delete_links",
    "delete_namespace",
    "disconnect_endpoint",
    "enable_forwarding",
    "entered",
    "find_link",
    "link_exists",
    "list_links",
    "name_link",
    "name_prefix",
    "observe_host_subnets",
]
