"""The rtnetlink messages that the road of a cold ``up`` needs, encoded by hand.

A general netlink library costs more to import than a whole stack takes to start. Layouts: ``linux/rtnetlink.h``,
``linux/if_link.h``, RFC 3549. Every request is acknowledged on its own, so that a batch reports which one failed.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from orchestrator.errors import EngineError

_ORDER = sys.byteorder
_NETLINK_ROUTE = 0
_SOL_NETLINK, _EXT_ACK, _CAP_ACK = 270, 11, 10
_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _GETADDR = 20, 22
_NEWROUTE, _GETROUTE = 24, 26
_REQUEST, _ACK, _REPLACE, _EXCL, _CREATE, _DUMP = 0x1, 0x4, 0x100, 0x200, 0x400, 0x300
_ERROR, _DONE = 2, 3
_F_ACK_TLVS, _F_DUMP_INTERRUPTED = 0x200, 0x10
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF

_IFF_UP = 1
_ARP_NOTIFY = 22
_IFA_F_NODAD = 0x02
_RT_TABLE_MAIN, _RTPROT_STATIC, _RTN_UNICAST = 254, 4, 1
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253

# How many requests go into one sendmsg: their acknowledgements must fit into the default receive buffer.
_BATCH = 64
_DUMPS = 20

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")


class NetlinkError(EngineError):
    """The kernel refused one request. `errno` is its code; the message names what was being done."""

    code = "network-refused"

    def __init__(self, what: str, number: int, detail: str = "") -> None:
        reason = os.strerror(number) + (f" ({detail})" if detail else "")
        hint = "run as root" if number == errno.EPERM else ""
        super().__init__(f"cannot {what}: {reason}", operation=what, hint=hint)
        self.errno = number


class Request(NamedTuple):
    """One message: `what` completes "cannot ..." in an error; error codes in `tolerate` count as success."""

    type: int
    flags: int
    payload: bytes
    what: str
    tolerate: frozenset[int] = frozenset()


class Link(NamedTuple):
    """A network interface as the kernel reports it. `number` is its index; `peer_number` is IFLA_LINK (a veth's
    other end, a macvlan's parent), 0 if none."""

    number: int
    name: str
    kind: str
    up: bool
    mtu: int
    mac: str
    master: int
    peer_number: int


def _attribute(number: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, number) + value + b"\0" * (-length % 4)


def _text(number: int, value: str) -> bytes:
    return _attribute(number, value.encode() + b"\0")


def _u8(number: int, value: int) -> bytes:
    return _attribute(number, bytes((value,)))


def _u16(number: int, value: int) -> bytes:
    return _attribute(number, struct.pack("=H", value))


def _u32(number: int, value: int) -> bytes:
    return _attribute(number, struct.pack("=I", value))


def _nested(number: int, *values: bytes) -> bytes:
    return _attribute(number | _NESTED, b"".join(values))


def pack_mac(mac: str) -> bytes:
    """Turn ``02:42:ac:12:00:02`` into its six octets."""
    return bytes.fromhex(mac.replace(":", "").replace("-", ""))


def pack_address(address: str) -> tuple[int, bytes]:
    """Return the address family (AF_INET, AF_INET6) and the packed form of an address in text."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return int(family), socket.inet_pton(family, address)


def _link_attributes(name: str, mac: str, mtu: int, master: int) -> bytes:
    parts = [_text(3, name)] if name else []
    if mac:
        parts.append(_attribute(1, pack_mac(mac)))
    if mtu:
        parts.append(_u32(4, mtu))
    if master:
        parts.append(_u32(10, master))
    return b"".join(parts)


def encode_create_bridge(name: str, *, mac: str = "", mtu: int = 0) -> Request:
    """Create a bridge that forwards at once: no spanning tree, no forward delay, no multicast snooping. It is down."""
    data = _nested(2, _u32(1, 0), _u32(5, 0), _u8(23, 0))
    info = _nested(18, _attribute(1, b"bridge"), data)
    payload = _LINK.pack(0, 0, 0, 0, 0) + _link_attributes(name, mac, mtu, 0) + info
    return Request(_NEWLINK, _CREATE | _EXCL, payload, f"create the bridge {name}")


def encode_create_veth(
    name: str, *, peer: str, peer_netns: int, master: int, mac: str = "", mtu: int = 0, peer_mac: str = ""
) -> Request:
    """Create a pair of links: `name` here, `peer` in the namespace `peer_netns` (fd).

    `name` becomes a port of the link `master` (index). Both ends are down: what must be true before the first packet
    is set first.
    """
    there = _LINK.pack(0, 0, 0, 0, 0) + _link_attributes(peer, peer_mac, mtu, 0) + _u32(28, peer_netns)
    info = _nested(18, _attribute(1, b"veth"), _nested(2, _attribute(1, there)))
    payload = _LINK.pack(0, 0, 0, 0, 0) + _link_attributes(name, mac, mtu, master) + info
    return Request(_NEWLINK, _CREATE | _EXCL, payload, f"create the link {name}")


def encode_create_child(
    name: str, *, kind: str, parent: int, mode: int, netns: int, mac: str = "", mtu: int = 0
) -> Request:
    """Create a macvlan or ipvlan link (`kind`) of the link `parent` (index) in the namespace `netns` (fd)."""
    data = _u32(1, mode) if kind == "macvlan" else _u16(1, mode)
    info = _nested(18, _attribute(1, kind.encode()), _nested(2, data))
    payload = _LINK.pack(0, 0, 0, 0, 0) + _link_attributes(name, mac, mtu, 0)
    payload += _u32(5, parent) + _u32(28, netns) + info
    return Request(_NEWLINK, _CREATE | _EXCL, payload, f"create the {kind} link {name}")


def encode_create_vlan(name: str, *, parent: int, vlan: int) -> Request:
    """Create the VLAN sub-interface `name` of the link `parent` (index), up."""
    info = _nested(18, _attribute(1, b"vlan"), _nested(2, _u16(1, vlan)))
    payload = _LINK.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _text(3, name) + _u32(5, parent) + info
    return Request(_NEWLINK, _CREATE | _EXCL, payload, f"create the VLAN link {name}", frozenset({errno.EEXIST}))


def encode_create_loose_end(name: str, *, peer: str) -> Request:
    """Create a link that leads nowhere but to its own other end `peer`; both are down."""
    there = _LINK.pack(0, 0, 0, 0, 0) + _text(3, peer)
    info = _nested(18, _attribute(1, b"veth"), _nested(2, _attribute(1, there)))
    payload = _LINK.pack(0, 0, 0, 0, 0) + _text(3, name) + info
    return Request(_NEWLINK, _CREATE | _EXCL, payload, f"create the link {name}", frozenset({errno.EEXIST}))


def encode_set_port(name: str, *, hairpin: bool, isolated: bool) -> Request:
    """Set how a bridge treats its port `name`: hairpin sends frames back where they came from; isolated ports cannot
    reach each other. The kernel gives the port no IPv6 link-local address."""
    slave = _nested(5, _u8(4, hairpin), _u8(33, isolated))
    payload = _LINK.pack(0, 0, 0, 0, 0) + _text(3, name) + _nested(18, _attribute(4, b"bridge"), slave)
    payload += _nested(26, _nested(socket.AF_INET6, _u8(8, 1)))
    return Request(_NEWLINK, 0, payload, f"configure the bridge port {name}")


def encode_set_link(
    name: str, *, up: bool | None = None, mac: str = "", mtu: int = 0, master: int = 0, announced: bool = False
) -> Request:
    """Change a link; `announced` has it tell its neighbours of each new IPv4 address, as the sysctl arp_notify does.

    The kernel works through `up` first: what is to hold from the first packet on takes a request of its own before.
    """
    flags = _IFF_UP if up else 0
    payload = _LINK.pack(0, 0, 0, flags, _IFF_UP if up is not None else 0)
    payload += _link_attributes(name, mac, mtu, master)
    if announced:
        payload += _nested(26, _nested(socket.AF_INET, _nested(1, _u32(_ARP_NOTIFY, 1))))
    return Request(_SETLINK, 0, payload, f"configure the link {name}")


def encode_delete_link(name: str) -> Request:
    """Delete a link; one that is not there is fine."""
    payload = _LINK.pack(0, 0, 0, 0, 0) + _text(3, name)
    return Request(_DELLINK, 0, payload, f"delete the link {name}", frozenset({errno.ENODEV}))


def encode_add_address(index: int, address: str) -> Request:
    """Give the link `index` an address with prefix (``172.18.0.2/16``); IPv6 skips duplicate address detection."""
    text, _, prefix = address.partition("/")
    family, packed = pack_address(text)
    flags = _IFA_F_NODAD if family == socket.AF_INET6 else 0
    payload = _ADDRESS.pack(family, int(prefix), flags, _RT_SCOPE_UNIVERSE, index)
    payload += _attribute(2, packed) + _attribute(1, packed)
    if family == socket.AF_INET and int(prefix) < 31:
        number = int.from_bytes(packed, "big") | (1 << (32 - int(prefix))) - 1
        payload += _attribute(4, number.to_bytes(4, "big"))
    return Request(_NEWADDR, _CREATE | _REPLACE, payload, f"add the address {address}")


def encode_add_route(destination: str, *, via: str = "", index: int = 0) -> Request:
    """Route `destination` (CIDR, or ``default``) through the gateway `via` or out of the link `index`.

    A route to the same destination is replaced.
    """
    if destination == "default":
        family, packed, length = pack_address(via)[0], b"", 0
    else:
        text, _, prefix = destination.partition("/")
        family, packed = pack_address(text)
        length = int(prefix)
    scope = _RT_SCOPE_UNIVERSE if via or family == socket.AF_INET6 else _RT_SCOPE_LINK
    payload = _ROUTE.pack(family, length, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, scope, _RTN_UNICAST, 0)
    if packed:
        payload += _attribute(1, packed)
    if via:
        payload += _attribute(5, pack_address(via)[1])
    if index:
        payload += _u32(4, index)
    what = f"add the route to {destination}" + (f" via {via}" if via else "")
    return Request(_NEWROUTE, _CREATE | _REPLACE, payload, what)


def parse_attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Split a run of netlink attributes into number -> value; stops at the first malformed one."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        length, number = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            break
        found[number & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _parse_link(payload: bytes) -> Link:
    _family, _type, index, flags, _change = _LINK.unpack_from(payload)
    found = parse_attributes(payload, _LINK.size)
    kind = parse_attributes(found.get(18, b"")).get(1, b"").rstrip(b"\0").decode()
    number = {key: int.from_bytes(found[key][:4], _ORDER) if key in found else 0 for key in (4, 5, 10)}
    name = found.get(3, b"").rstrip(b"\0").decode("utf-8", "replace")
    mac = found.get(1, b"").hex(":")
    return Link(index, name, kind, bool(flags & _IFF_UP), number[4], mac, number[10], number[5])


class Conversation:
    """A netlink socket of the network namespace in which it was opened. A context manager; not shared by threads."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._sequence = 1

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def perform(self, *requests: Request) -> None:
        """Send requests in order and wait for every acknowledgement.

        The kernel works through all of them even when one fails. Raises NetlinkError for the first that failed with a
        code that it does not tolerate.
        """
        failed = self.attempt(requests)
        if failed:
            raise failed[min(failed)]

    def attempt(self, requests: Iterable[Request]) -> Mapping[int, NetlinkError]:
        """Like :meth:`perform`, but return the failures by the position of their request."""
        waiting = list(requests)
        failed: dict[int, NetlinkError] = {}
        for start in range(0, len(waiting), _BATCH):
            failed.update(self._exchange(start, waiting[start : start + _BATCH]))
        return failed

    def _exchange(self, start: int, batch: list[Request]) -> Iterator[tuple[int, NetlinkError]]:
        first = self._sequence
        self._sequence += len(batch)
        data = bytearray()
        for offset, one in enumerate(batch):
            size = _HEADER.size + len(one.payload)
            data += _HEADER.pack(size, one.type, one.flags | _REQUEST | _ACK, first + offset, 0)
            data += one.payload + b"\0" * (-size % 4)
        self._socket.sendto(data, (0, 0))
        missing = len(batch)
        while missing:
            for kind, flags, sequence, payload in self._receive():
                offset = sequence - first
                if kind != _ERROR or not 0 <= offset < len(batch):
                    continue
                missing -= 1
                number = -int.from_bytes(payload[:4], _ORDER, signed=True)
                if number and number not in batch[offset].tolerate:
                    detail = ""
                    if flags & _F_ACK_TLVS:
                        told = parse_attributes(payload, 4 + _HEADER.size).get(1, b"")
                        detail = told.rstrip(b"\0").decode("utf-8", "replace")
                    yield start + offset, NetlinkError(batch[offset].what, number, detail)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self._socket.recv(1 << 18)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
            if length < _HEADER.size:
                break
            yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3

    def _dump(self, kind: int, payload: bytes, what: str) -> list[bytes]:
        for _ in range(_DUMPS):
            found = self._dump_once(kind, payload, what)
            if found is not None:
                return found
        raise NetlinkError(what, errno.EINTR, "it changes all the time")

    def _dump_once(self, kind: int, payload: bytes, what: str) -> list[bytes] | None:
        """Every message of a dump; None if the kernel says that it changed under way."""
        sequence, self._sequence = self._sequence, self._sequence + 1
        size = _HEADER.size + len(payload)
        self._socket.sendto(_HEADER.pack(size, kind, _REQUEST | _DUMP, sequence, 0) + payload, (0, 0))
        found: list[bytes] = []
        whole = True
        while True:
            for answer, flags, number, content in self._receive():
                if number != sequence:
                    continue
                whole &= not flags & _F_DUMP_INTERRUPTED
                if answer == _DONE:
                    return found if whole else None
                if answer == _ERROR:
                    raise NetlinkError(what, -int.from_bytes(content[:4], _ORDER, signed=True))
                found.append(content)

    def list_links(self) -> list[Link]:
        """Return every link of the namespace."""
        return [_parse_link(one) for one in self._dump(_GETLINK, _LINK.pack(0, 0, 0, 0, 0), "list the links")]

    def list_addresses(self) -> list[tuple[int, str]]:
        """Return (link index, address with prefix) of every address of the namespace."""
        found = []
        for one in self._dump(_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0), "list the addresses"):
            family, prefix, _flags, _scope, index = _ADDRESS.unpack_from(one)
            values = parse_attributes(one, _ADDRESS.size)
            packed = values.get(2) or values.get(1)
            if packed and family in (socket.AF_INET, socket.AF_INET6):
                found.append((index, f"{socket.inet_ntop(family, packed)}/{prefix}"))
        return found

    def list_routes(self) -> list[tuple[str, str, int]]:
        """Return (destination CIDR or ``default``, gateway or "", link index) of the main table's unicast routes."""
        found = []
        for one in self._dump(_GETROUTE, _ROUTE.pack(*[0] * 9), "list the routes"):
            family, length, _src, _tos, table, _proto, _scope, kind, _flags = _ROUTE.unpack_from(one)
            if table != _RT_TABLE_MAIN or kind != _RTN_UNICAST or family not in (socket.AF_INET, socket.AF_INET6):
                continue
            values = parse_attributes(one, _ROUTE.size)
            destination = f"{socket.inet_ntop(family, values[1])}/{length}" if 1 in values else "default"
            gateway = socket.inet_ntop(family, values[5]) if 5 in values else ""
            found.append((destination, gateway, int.from_bytes(values.get(4, b"")[:4], _ORDER)))
        return found
