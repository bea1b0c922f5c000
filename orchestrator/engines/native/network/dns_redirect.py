"""Lead 127.0.0.11:53 inside a container's namespace to the port that our resolver listens on.

The resolver must not hold port 53 itself: a container that is a DNS server binds 0.0.0.0:53 and would be refused. The
translation needs no connection tracking (ports are written into each packet), so it costs the container's other traffic
nothing. The ruleset is a constant, sent as ready-made nfnetlink messages (``linux/netfilter/nf_tables.h``).
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from orchestrator.errors import EngineError

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10 << 8
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 1, 2, 3, 6
_REQUEST, _ACK, _EXCL, _CREATE, _APPEND = 0x1, 0x4, 0x200, 0x400, 0x800
_NESTED = 0x8000
_HOOK_OUTPUT, _PRIORITY_RAW = 3, -300
_NETWORK, _TRANSPORT = 1, 2
_RESOLVER = socket.inet_aton("127.0.0.11")
# Protocol number (udp, tcp) -> offset of the checksum in its header.
_CHECKSUMS = {17: 6, 6: 16}


def _attribute(number: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), number) + value + b"\0" * (-len(value) % 4)


def _number(number: int, value: int) -> bytes:
    return _attribute(number, struct.pack("!I", value))


def _text(number: int, value: str) -> bytes:
    return _attribute(number, value.encode() + b"\0")


def _nested(number: int, *values: bytes) -> bytes:
    return _attribute(number | _NESTED, b"".join(values))


def _expression(name: str, *values: bytes) -> bytes:
    return _nested(1, _text(1, name), _nested(2, *values))


def _match(base: int, offset: int, value: bytes) -> bytes:
    load = _expression("payload", _number(1, 1), _number(2, base), _number(3, offset), _number(4, len(value)))
    return load + _expression("cmp", _number(1, 1), _number(2, 0), _nested(3, _attribute(1, value)))


def _rule(protocol: int, address_offset: int, port_offset: int, port: int, to: int) -> bytes:
    """Match packets of `protocol` with our address and `port` at these offsets, and write the port `to`."""
    write = _expression(
        "payload",
        _number(5, 1),
        _number(2, _TRANSPORT),
        _number(3, port_offset),
        _number(4, 2),
        _number(6, 1),
        _number(7, _CHECKSUMS[protocol]),
    )
    return (
        _match(_NETWORK, address_offset, _RESOLVER)
        + _match(_NETWORK, 9, bytes((protocol,)))
        + _match(_TRANSPORT, port_offset, port.to_bytes(2, "big"))
        + _expression("immediate", _number(1, 1), _nested(2, _attribute(1, to.to_bytes(2, "big"))))
        + write
    )


def _message(kind: int, flags: int, sequence: int, body: bytes, family: int = socket.AF_INET) -> bytes:
    head = struct.pack("=IHHIIBBH", 20 + len(body), kind, flags | _REQUEST, sequence, 0, family, 0, 0)
    return head + body


def _batch(messages: list[tuple[int, int, bytes]]) -> bytes:
    edge = struct.pack("!BBH", 0, 0, 10)
    begin = struct.pack("=IHHII", 20, _BATCH_BEGIN, _REQUEST, 0, 0) + edge
    end = struct.pack("=IHHII", 20, _BATCH_END, _REQUEST, len(messages) + 1, 0) + edge
    last = len(messages)
    middle = [
        _message(_SUBSYSTEM | kind, flags | (_ACK if number == last else 0), number, body)
        for number, (kind, flags, body) in enumerate(messages, 1)
    ]
    return begin + b"".join(middle) + end


def _send(data: bytes, last: int) -> int:
    """Send a batch in the calling thread's namespace; return 0 or the error code of its first failure."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as talk:
        talk.bind((0, 0))
        talk.sendto(data, (0, 0))
        while True:
            answer = talk.recv(1 << 16)
            offset = 0
            while offset + 20 <= len(answer):
                length, kind, _flags, sequence, _port, code = struct.unpack_from("=IHHIIi", answer, offset)
                if kind == 2 and (code or sequence == last):
                    return int(-code)
                offset += max((length + 3) & ~3, 16)


def _is_redirected(port: int) -> bool:
    return _send(_message(_SUBSYSTEM | _GET_TABLE, _ACK, 1, _text(1, _name(port))), 1) == 0


def _name(port: int) -> str:
    return f"stack_names_{port}"


def _encode(port: int) -> tuple[bytes, int]:
    table, chain = _text(1, _name(port)), "output"
    hook = _nested(4, _number(1, _HOOK_OUTPUT), _attribute(2, struct.pack("!i", _PRIORITY_RAW)))
    messages = [
        (_NEW_TABLE, _CREATE | _EXCL, table),
        (_NEW_CHAIN, _CREATE, table + _text(3, chain) + hook + _text(7, "filter")),
    ]
    for protocol in _CHECKSUMS:
        for address_offset, port_offset, old, new in ((16, 2, 53, port), (12, 0, port, 53)):
            body = table + _text(2, chain) + _nested(4, _rule(protocol, address_offset, port_offset, old, new))
            messages.append((_NEW_RULE, _CREATE | _APPEND, body))
    return _batch(messages), len(messages)


def redirect_queries(port: int) -> None:
    """Lead 127.0.0.11:53 (udp, tcp) of the calling thread's network namespace to 127.0.0.11:`port`. Idempotent."""
    # A batch that fails costs 10 ms (the kernel waits before it forgets what it had begun); looking costs nothing.
    if _is_redirected(port):
        return
    if port not in _encoded:
        _encoded[port] = _encode(port)
    code = _send(*_encoded[port])
    if code not in (0, errno.EEXIST):
        message = f"cannot redirect name queries: {os.strerror(code)}"
        raise EngineError(message, operation="redirect name queries", hint="the kernel needs nf_tables")


def forget_redirect(port: int) -> None:
    """Take a redirection away again; one that is not there is fine."""
    if not _is_redirected(port):
        return
    code = _send(_batch([(_DELETE_TABLE, 0, _text(1, _name(port)))]), 1)
    if code not in (0, errno.ENOENT):
        message = f"cannot take back a redirection: {os.strerror(code)}"
        raise EngineError(message, operation="redirect name queries")


_encoded: dict[int, tuple[bytes, int]] = {}
