"""DNS messages and what a container sees, without sockets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engines.native.network import dns_message as message
from orchestrator.engines.native.network.dns_zone import (
    DnsEndpoint,
    build_view,
    parse_nameservers,
    parse_reverse_name,
    render_hosts,
    render_resolv_conf,
    render_reverse_name,
)

QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03wEb\x00\x00\x01\x00\x01"


def test_a_query_is_read_and_its_letter_case_given_back():
    query = message.parse_query(QUERY)
    assert query == message.Query(b"web", 1, 1, len(QUERY), 512, False)
    answer = message.encode_answer(QUERY, query, [(message.A, b"\x0a\0\0\1")], ttl=5)
    assert answer == (b"\x12\x34\x81\x80\0\1\0\1\0\0\0\0" + QUERY[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\0\1")
    assert message.is_answer_to(answer, QUERY, query.end)
    assert not message.is_answer_to(answer, b"\x12\x35" + QUERY[2:], query.end)
    assert not message.is_answer_to(QUERY, QUERY, query.end)
    assert not message.is_answer_to(answer.replace(b"wEb", b"wob"), QUERY, query.end)


def test_what_cannot_be_answered_is_refused_by_its_code():
    assert message.parse_query(b"") is None
    assert message.parse_query(QUERY[:2] + b"\x81" + QUERY[3:]) is None
    assert message.parse_query(QUERY[:2] + b"\x29" + QUERY[3:]) == message.NOTIMP
    assert message.parse_query(QUERY[:5] + b"\2" + QUERY[6:]) == message.FORMERR
    assert message.parse_query(QUERY[:12] + b"\xc0\x0c\0\1\0\1") == message.FORMERR
    assert message.parse_query(QUERY[:12] + b"\x3f" + b"a" * 63 + b"\x3f" + b"b" * 63) == message.FORMERR
    assert message.encode_refusal(QUERY, message.FORMERR) == b"\x12\x34\x81\x81" + b"\0" * 8


@given(st.binary(max_size=600))
def test_no_packet_raises(data):
    for packet in (data, QUERY[:12] + data, QUERY + data):
        query = message.parse_query(packet)
        if isinstance(query, message.Query):
            answer = message.encode_answer(packet, query, [(1, b"abcd")] * 40, limit=query.limit)
            assert len(answer) <= query.limit or answer[2] & 2
            message.is_answer_to(packet, packet, query.end)
            parse_reverse_name(query.name)
        elif query is not None:
            message.encode_refusal(packet, query)


@given(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)))
def test_reverse_names_round_trip(packed):
    assert parse_reverse_name(render_reverse_name(packed)) == packed


@given(st.binary(max_size=80))
def test_no_reverse_name_raises(text):
    parse_reverse_name(text + b".in-addr.arpa")
    parse_reverse_name(text + b".ip6.arpa")


def test_a_view_shows_only_shared_networks():
    both = (
        DnsEndpoint(network="back", names=("db",), ipv4="10.0.1.2"),
        DnsEndpoint(network="front", names=("db",), ipv4="10.0.2.2"),
    )
    assert build_view(["front"], both).names[b"db"] == ((b"\x0a\0\2\2",), ())
    assert len(build_view(["front", "back"], both).names[b"db"][0]) == 2
    assert b"db.back" not in build_view(["front"], both).names
    assert build_view([], [], known=["Web"]).names == {b"web": ((), ())}
    view = build_view([], [], subnets=["10.0.0.0/8", "fd00::/8"])
    assert view.owns_reverse(b"1.2.3.10.in-addr.arpa")
    assert not view.owns_reverse(b"1.2.3.11.in-addr.arpa")
    assert not view.owns_reverse(b"3.10.in-addr.arpa")
    assert view.owns_reverse(b"0." * 30 + b"d.f.ip6.arpa")


HOST = "# comment\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch corp.test lan\noptions edns0 timeout:3\n"


def test_resolv_conf():
    assert parse_nameservers(HOST) == ("192.0.2.53", "fe80::1%eth0")
    assert render_resolv_conf((), (), (), HOST) == (
        "nameserver 127.0.0.11\nsearch corp.test lan\noptions edns0 timeout:3 ndots:0\n"
    )
    assert render_resolv_conf(("9.9.9.9",), (".",), ("ndots:2",), HOST) == ("nameserver 127.0.0.11\noptions ndots:2\n")
    assert render_resolv_conf(("9.9.9.9",), ("a.test",), (), HOST, embedded=False) == (
        "nameserver 9.9.9.9\nsearch a.test\noptions edns0 timeout:3\n"
    )
    assert render_resolv_conf((), (), (), HOST, embedded=False).startswith(
        "nameserver 192.0.2.53\nnameserver fe80::1%eth0\n"
    )


def test_hosts():
    shown = render_hosts(
        "box",
        ["172.18.0.2/16", "fd00::2"],
        [("db", "10.0.0.5"), ("up", "host-gateway"), ("six", "[::1]")],
        gateways=["172.18.0.1", "fd00::1"],
        domainname="corp.test",
    )
    assert shown.startswith("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost")
    assert shown.endswith(
        "10.0.0.5\tdb\n172.18.0.1\tup\nfd00::1\tup\n::1\tsix\n"
        "172.18.0.2\tbox.corp.test box\nfd00::2\tbox.corp.test box\n"
    )
