"""Forget connections that the kernel still translates to a container which is gone.

TCP ends by itself. A UDP client that always sends from the same port (a log shipper, a name server) would keep the
old translation alive forever and never reach the new container. Messages: ``linux/netfilter/nfnetlink_conntrack.h``.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection

from orchestrator.engines.native.network.netlink import pack_address, parse_attributes
from orchestrator.errors import EngineError

_NETLINK_NETFILTER = 12
_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_NESTED = 0x8000
_ORIGINAL, _REPLY, _PROTOCOL_INFO, _ADDRESSES, _ID, _ZONE = 1, 2, 2, 1, 12, 18
_HEADER = struct.Struct("=IHHII")
_UDP = 17


def _attribute(number: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), number) + value + b"\0" * (-len(value) % 4)


def _replies_from(entry: bytes) -> tuple[int, bytes]:
    """The protocol and the (packed) address that answers come from: behind a translation, the container's."""
    reply = parse_attributes(parse_attributes(entry, 4).get(_REPLY, b""))
    addresses = parse_attributes(reply.get(_ADDRESSES, b""))
    protocol = parse_attributes(reply.get(_PROTOCOL_INFO, b"")).get(1, b"\0")[0]
    return protocol, addresses.get(1) or addresses.get(3) or b""


def _read(talk: socket.socket) -> list[tuple[int, bytes]]:
    data = talk.recv(1 << 18)
    found, offset = [], 0
    while offset + 16 <= len(data):
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, offset)
        found.append((kind, data[offset + 16 : offset + length]))
        offset += max((length + 3) & ~3, 16)
    return found


def _send(talk: socket.socket, kind: int, flags: int, family: int, body: bytes = b"") -> None:
    head = _HEADER.pack(20 + len(body), kind, flags | _REQUEST, 1, 0) + struct.pack("=BBH", family, 0, 0)
    talk.sendto(head + body, (0, 0))


def _list_entries(talk: socket.socket, family: int) -> list[bytes]:
    _send(talk, _GET, _DUMP, family)
    found: list[bytes] = []
    while True:
        for kind, payload in _read(talk):
            if kind == 3:
                return found
            if kind == 2:
                number = -int(struct.unpack_from("=i", payload)[0])
                raise EngineError(f"cannot list connections: {os.strerror(number)}", operation="list connections")
            found.append(payload)


def forget_udp_flows(container_addresses: Collection[str]) -> int:
    """Drop every tracked UDP flow that is answered by one of these addresses (without prefix); return how many.

    To be called when a container with published UDP ports has gone. Blocking; walks through the host's whole table.
    """
    wanted = {pack_address(one) for one in container_addresses}
    count = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as talk:
        talk.bind((0, 0))
        for family in sorted({family for family, _packed in wanted}):
            addresses = {packed for kind, packed in wanted if kind == family}
            for entry in _list_entries(talk, family):
                protocol, answering = _replies_from(entry)
                if protocol == _UDP and answering in addresses:
                    count += _forget(talk, family, entry)
    return count


def _forget(talk: socket.socket, family: int, entry: bytes) -> int:
    values = parse_attributes(entry, 4)
    body = _attribute(_ORIGINAL | _NESTED, values[_ORIGINAL])
    for number in (_ID, _ZONE):
        if number in values:
            body += _attribute(number, values[number])
    _send(talk, _DELETE, _ACK, family, body)
    for kind, payload in _read(talk):
        if kind == 2:
            number = -int(struct.unpack_from("=i", payload)[0])
            if number not in (0, errno.ENOENT):
                raise EngineError(f"cannot forget a connection: {os.strerror(number)}", operation="forget connections")
            return int(number == 0)
    return 0
