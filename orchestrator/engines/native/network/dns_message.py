"""DNS messages, as far as a resolver in front of others needs them (RFC 1035, RFC 6891).

Pure; never raises on bad input.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
IN, ANY_CLASS = 1, 255

_HEADER = struct.Struct("!HHHHHH")
_TAIL = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_RESPONSE, _TRUNCATED, _DESIRED, _AVAILABLE = 0x8000, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
# The root name, type OPT, 4096 bytes, no extended code, version 0, no options.
_OPT_RECORD = b"\0" + _RECORD.pack(OPT, 4096, 0, 0)
_LONGEST_NAME = 255
_SMALLEST_LIMIT, _LARGEST_LIMIT = 512, 4096


class Query(NamedTuple):
    """A question that can be answered. `name` is lower case, dotted, without the final dot; `end` is where the question
    section ends; `limit` is the longest answer (bytes) that fits a datagram; `extended` says that EDNS is spoken."""

    name: bytes
    type: int
    klass: int
    end: int
    limit: int
    extended: bool


def _read_name(data: bytes, offset: int) -> tuple[bytes, int] | None:
    labels: list[bytes] = []
    start = offset
    while True:
        if offset >= len(data) or offset - start > _LONGEST_NAME:
            return None
        length = data[offset]
        offset += 1
        if length == 0:
            return b".".join(labels).lower(), offset
        # Compression has nothing to point to in a question; the other label types were never used.
        if length > 63 or offset + length > len(data):
            return None
        labels.append(data[offset : offset + length])
        offset += length


def _read_limit(data: bytes, end: int, records: int) -> tuple[int, bool]:
    """The client's datagram size, from an OPT record right behind the question (where every client puts it)."""
    if records and len(data) >= end + 11 and data[end] == 0:
        kind, size = _TAIL.unpack_from(data, end + 1)
        if kind == OPT:
            return min(max(size, _SMALLEST_LIMIT), _LARGEST_LIMIT), True
    return _SMALLEST_LIMIT, False


def parse_query(data: bytes) -> Query | int | None:
    """Read one query. An int is the response code to refuse it with; None means: not a query, do not answer."""
    if len(data) < _HEADER.size:
        return None
    _identifier, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        return None
    if flags & _OPCODE:
        return NOTIMP
    if questions != 1:
        return FORMERR
    named = _read_name(data, _HEADER.size)
    if named is None or named[1] + 4 > len(data):
        return FORMERR
    name, end = named
    kind, klass = _TAIL.unpack_from(data, end)
    end += 4
    limit, extended = _read_limit(data, end, 0 if answers or authorities else additional)
    return Query(name, kind, klass, end, limit, extended)


def encode_name(name: bytes) -> bytes:
    """Encode a dotted name; labels over 63 bytes are cut."""
    labels = [one[:63] for one in name.split(b".") if one]
    return b"".join(bytes((len(one),)) + one for one in labels) + b"\0"


def encode_answer(
    data: bytes,
    query: Query,
    answers: Sequence[tuple[int, bytes]],
    *,
    code: int = NOERROR,
    ttl: int = 0,
    limit: int = 65535,
) -> bytes:
    """Answer the query `data` with (type, record data) pairs, all for the name that was asked.

    `ttl` is in seconds. An answer longer than `limit` bytes is emptied and marked as truncated: the client asks by TCP.
    """
    flags = _RESPONSE | _AVAILABLE | (data[2] << 8 & _DESIRED) | code
    extra = _OPT_RECORD if query.extended else b""
    body = b"".join(b"\xc0\x0c" + _RECORD.pack(kind, IN, ttl, len(value)) + value for kind, value in answers)
    count = len(answers)
    if query.end + len(body) + len(extra) > limit:
        body, count, flags = b"", 0, flags | _TRUNCATED
    head = data[:2] + _HEADER.pack(0, flags, 1, count, 0, 1 if extra else 0)[2:]
    return head + data[_HEADER.size : query.end] + body + extra


def encode_refusal(data: bytes, code: int) -> bytes:
    """Answer a query that could not be read: its header alone, with a response code."""
    flags = _RESPONSE | _AVAILABLE | (data[2] << 8 & (_DESIRED | _OPCODE)) | code
    return data[:2] + _HEADER.pack(0, flags, 0, 0, 0, 0)[2:]


def is_answer_to(data: bytes, query: bytes, query_end: int) -> bool:
    """True if `data` is a response with the same id and the same question as `query`, letter case ignored."""
    if len(data) < _HEADER.size or not data[2] & 0x80 or data[:2] != query[:2]:
        return False
    if data[4:6] == b"\0\0":
        return True
    return data[_HEADER.size : query_end].lower() == query[_HEADER.size : query_end].lower()


def is_truncated(data: bytes) -> bool:
    """True if an answer says that it was cut to fit a datagram."""
    return bool(data[2] & 0x02)


def read_code(data: bytes) -> int:
    """The response code of an answer."""
    return data[3] & 0x0F
