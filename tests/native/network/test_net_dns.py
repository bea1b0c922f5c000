"""The resolver inside real namespaces, asked by a client made by hand and by busybox."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from orchestrator.engines.native.network import dns
from orchestrator.engines.native.network.dns_zone import DnsEndpoint, build_view
from orchestrator.errors import NotFound

A, PTR, MX, AAAA = 1, 12, 15, 28
UPSTREAM = "127.0.0.53"

ENDPOINTS = [
    DnsEndpoint(network="shop_default", names=("shop-web-1", "web", "0a1b2c3d4e5f", "Front"), ipv4="172.30.0.2"),
    DnsEndpoint(network="shop_default", names=("shop-web-2", "web", "1a1b2c3d4e5f"), ipv4="172.30.0.3"),
    DnsEndpoint(network="shop_default", names=("shop-web-3", "web", "2a1b2c3d4e5f"), ipv4="172.30.0.4", ipv6="fd30::4"),
    DnsEndpoint(network="shop_back", names=("shop-db-1", "db"), ipv4="172.31.0.2"),
]


def encode(name: str, kind: int, identifier: int = 7, extra: bytes = b"") -> bytes:
    labels = b"".join(bytes((len(one),)) + one.encode() for one in name.split(".") if one) + b"\0"
    return (
        struct.pack("!6H", identifier, 0x0100, 1, 0, 0, 1 if extra else 0)
        + labels
        + struct.pack("!2H", kind, 1)
        + extra
    )


def decode(data: bytes) -> tuple[int, list[str], bool]:
    """Response code, answers as text, truncated."""
    _id, flags, questions, answers, _ns, _more = struct.unpack_from("!6H", data)
    offset = 12

    def name(at: int) -> tuple[str, int]:
        labels = []
        while data[at]:
            if data[at] >= 192:
                return ".".join([*labels, name(struct.unpack_from("!H", data, at)[0] & 0x3FFF)[0]]), at + 2
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        return ".".join(labels), at + 1

    for _ in range(questions):
        offset = name(offset)[1] + 4
    found = []
    for _ in range(answers):
        _owner, offset = name(offset)
        kind, _class, _ttl, length = struct.unpack_from("!2HIH", data, offset)
        offset += 10
        if kind in (A, AAAA):
            found.append(
                socket.inet_ntop(socket.AF_INET if kind == A else socket.AF_INET6, data[offset : offset + length])
            )
        else:
            found.append(name(offset)[0])
        offset += length
    return flags & 15, found, bool(flags & 0x0200)


def lookup(name, kind=A, *, tcp=False, identifier=7, extra=b"", patience=6.0):
    """Ask 127.0.0.11 in the namespace that the caller has entered."""
    query = encode(name, kind, identifier, extra)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as client:
        client.settimeout(patience)
        client.connect(("127.0.0.11", 53))
        if tcp:
            client.sendall(len(query).to_bytes(2, "big") + query)
            with client.makefile("rb") as stream:
                answer = stream.read(int.from_bytes(stream.read(2), "big"))
        else:
            client.send(query)
            answer = client.recv(65535)
    assert answer[:2] == query[:2]
    return decode(answer)


class Served:
    """A container ``box`` that a resolver serves."""

    def __init__(self, world, looping) -> None:
        self.world, self.looping = world, looping
        self.box = world.namespace("box")
        self.resolver = dns.Resolver(looping.loop)

    def add(self, *, networks=("shop_default",), endpoints=ENDPOINTS, upstreams=(), **more) -> None:
        view = build_view(networks, endpoints, subnets=("172.30.0.0/16", "fd30::/64"), **more)
        self.looping.call(self.resolver.add_container, "box", dns.open_sockets(self.box), view, upstreams)

    def ask(self, *args, **named):
        return self.world.within(self.box, lambda: lookup(*args, **named))


@pytest.fixture
def served(world, looping):
    made = Served(world, looping)
    yield made
    looping.call(made.resolver.close)


class FakeUpstream:
    """Answers every A question with 192.0.2.<count>; names that begin with a code word are treated specially."""

    def __init__(self, address: str = UPSTREAM) -> None:
        self.asked: list[bytes] = []
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((address, 53))
        self._tcp = socket.create_server((address, 53))
        for work in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=work, daemon=True).start()

    def _answer(self, query: bytes, *, tcp: bool) -> bytes:
        self.asked.append(query)
        end = query.index(b"\0", 12) + 5
        if b"nosuch" in query:
            return query[:2] + b"\x81\x83" + query[4:6] + b"\0" * 6 + query[12:end]
        if b"large" in query and not tcp:
            return query[:2] + b"\x83\x80" + query[4:6] + b"\0" * 6 + query[12:end]
        count = 100 if b"large" in query else 1
        records = b"".join(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02" + bytes((n + 1,)) for n in range(count))
        return query[:2] + b"\x81\x80\0\x01" + count.to_bytes(2, "big") + b"\0" * 4 + query[12:end] + records

    def _serve_udp(self) -> None:
        while True:
            try:
                query, client = self._udp.recvfrom(4096)
            except OSError:
                return
            if not query:
                return
            if b"forged" in query:
                self._udp.sendto(bytes((query[0] ^ 1,)) + self._answer(query, tcp=False)[1:-1] + b"\x66", client)
            self._udp.sendto(self._answer(query, tcp=False), client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                client, _peer = self._tcp.accept()
            except OSError:
                return
            with client, client.makefile("rb") as stream:
                query = stream.read(int.from_bytes(stream.read(2), "big"))
                answer = self._answer(query, tcp=True)
                client.sendall(len(answer).to_bytes(2, "big") + answer)

    def close(self) -> None:
        for one in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def upstream(own_host):
    made = FakeUpstream()
    yield made
    made.close()


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_names_of_shared_networks(served, tcp):
    served.add()
    assert served.ask("shop-web-1", tcp=tcp) == (0, ["172.30.0.2"], False)
    assert served.ask("FRONT", tcp=tcp) == (0, ["172.30.0.2"], False)
    assert served.ask("0a1b2c3d4e5f", tcp=tcp) == (0, ["172.30.0.2"], False)
    assert served.ask("shop-web-1.shop_default", tcp=tcp) == (0, ["172.30.0.2"], False)
    assert served.ask("shop-web-3", AAAA, tcp=tcp) == (0, ["fd30::4"], False)
    assert served.ask("shop-web-1", AAAA, tcp=tcp) == (0, [], False), "an IPv4-only name answers at once"
    assert served.ask("shop-web-1", MX, tcp=tcp) == (0, [], False)
    assert served.ask("db", tcp=tcp)[0] == 3, "a name of a network that the container is not on"


def test_replicas_in_turn(served):
    served.add()
    firsts = [served.ask("web")[1] for _ in range(6)]
    assert sorted(firsts[0]) == ["172.30.0.2", "172.30.0.3", "172.30.0.4"]
    assert [one[0] for one in firsts] == ["172.30.0.2", "172.30.0.3", "172.30.0.4"] * 2


def test_reverse_names(served):
    served.add()
    assert served.ask("2.0.30.172.in-addr.arpa", PTR) == (0, ["shop-web-1.shop_default"], False)
    six = ".".join(reversed(socket.inet_pton(socket.AF_INET6, "fd30::4").hex())) + ".ip6.arpa"
    assert served.ask(six.upper(), PTR) == (0, ["shop-web-3.shop_default"], False)
    assert served.ask("99.0.30.172.in-addr.arpa", PTR)[0] == 3, "our subnets are nobody else's business"


def test_links_and_known_names(served, upstream):
    served.add(links={"database": ["172.31.0.2"]}, known=["worker", "web"], upstreams=(UPSTREAM,))
    assert served.ask("database") == (0, ["172.31.0.2"], False)
    assert served.ask("worker") == (3, [], False), "a service that does not run now"
    assert len(served.ask("web")[1]) == 3
    assert upstream.asked == []


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_the_rest_is_forwarded(served, upstream, tcp):
    served.add(upstreams=(UPSTREAM,))
    assert served.ask("example.test", tcp=tcp, identifier=0xBEEF) == (0, ["192.0.2.1"], False)
    assert served.ask("nosuch.test", tcp=tcp)[0] == 3
    assert served.ask("forged.test", tcp=tcp) == (0, ["192.0.2.1"], False)
    assert all(query[:2] != b"\xbe\xef" for query in upstream.asked[:1])


def test_long_answers_come_by_tcp(served, upstream):
    many = [DnsEndpoint(network="shop_default", names=("many",), ipv4=f"172.30.1.{n}") for n in range(1, 201)]
    served.add(endpoints=many, upstreams=(UPSTREAM,))
    assert served.ask("many") == (0, [], True)
    edns = b"\0" + struct.pack("!HHIH", 41, 4096, 0, 0)
    assert len(served.ask("many", extra=edns)[1]) == 200
    assert len(served.ask("many", tcp=True)[1]) == 200
    assert served.ask("large.test")[2] is True
    assert len(served.ask("large.test", tcp=True)[1]) == 100


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
def test_unreachable_servers_fail_at_once(served, tcp):
    served.add(upstreams=("127.0.0.99", "10.255.255.1"))
    start = time.monotonic()
    assert served.ask("example.test", tcp=tcp)[0] == 2
    assert served.ask("example", tcp=tcp)[0] == 3
    assert time.monotonic() - start < 4
    served.add()
    assert served.ask("example.test", tcp=tcp)[0] == 2
    assert served.ask("example", tcp=tcp)[0] == 3


def test_a_silent_server_is_passed_over(served, upstream):
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.54", 53))
    served.add(upstreams=("127.0.0.54", "not-an-address", UPSTREAM))
    assert served.ask("example.test") == (0, ["192.0.2.1"], False)
    served.add(upstreams=("127.0.0.54",))
    assert served.ask("one.test", patience=4.9)[0] == 2
    start = time.monotonic()
    assert served.ask("two.test")[0] == 2
    assert time.monotonic() - start < 4, "once nobody answered, the next query waits less"
    silent.close()


def test_the_container_may_hold_port_53_itself(served):
    served.add()

    def own() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server(("0.0.0.0", 53)):
            udp.bind(("0.0.0.0", 53))
            assert lookup("shop-web-1") == (0, ["172.30.0.2"], False)
            assert lookup("shop-web-1", tcp=True) == (0, ["172.30.0.2"], False)

    served.world.within(served.box, own)


def test_the_container_may_hold_the_resolvers_usual_port(served):
    def occupy() -> socket.socket:
        return socket.create_server(("0.0.0.0", 29053))

    holder = served.world.within(served.box, occupy)
    served.add()
    assert served.ask("shop-web-1") == (0, ["172.30.0.2"], False)
    holder.close()
    served.add()
    assert served.ask("shop-web-1", tcp=True) == (0, ["172.30.0.2"], False)


def test_a_new_resolver_takes_over_a_namespace(served):
    served.add()
    served.looping.call(served.resolver.close)
    assert "refused" in served.world.ask(served.box, "127.0.0.11", 53)
    served.resolver = dns.Resolver(served.looping.loop)
    served.add()
    assert served.ask("shop-web-1", tcp=True) == (0, ["172.30.0.2"], False)
    served.looping.call(served.resolver.remove_container, "box")
    assert not served.looping.call(served.resolver.has_container, "box")
    with pytest.raises(NotFound, match="gone"):
        dns.open_sockets(served.world.root / "gone")


def test_no_query_is_lost_while_views_are_replaced(served):
    served.add()
    views = [build_view(["n"], [DnsEndpoint(network="n", names=("x",), ipv4=f"10.0.0.{n}")]) for n in (1, 2)]
    served.looping.call(served.resolver.replace_view, "box", views[0])
    stop = threading.Event()

    def churn() -> None:
        turn = 0
        while not stop.wait(0.0005):
            turn += 1
            served.looping.call(served.resolver.replace_view, "box", views[turn % 2])

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        found = {tuple(served.ask("x", patience=2)[1]) for _ in range(500)}
    finally:
        stop.set()
        thread.join()
    assert found == {("10.0.0.1",), ("10.0.0.2",)}


def test_garbage_does_not_disturb(served):
    served.add()

    def throw() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(2)
            client.connect(("127.0.0.11", 53))
            for junk in (b"", b"\0", b"\xff" * 11, encode("web", A)[:-3], b"\0\1\x81\0" + b"\0" * 8):
                client.send(junk)
            client.send(b"\0\7\x28\0" + b"\0" * 8)
            codes = {client.recv(512)[3] & 15 for _ in range(2)}
            assert codes == {1, 4}
        with socket.create_connection(("127.0.0.11", 53), timeout=2) as client:
            client.sendall(b"\0\3abc\0\0" + len(encode("web", A)).to_bytes(2, "big") + encode("web", A)[:5])
            client.sendall(encode("web", A)[5:])
            assert len(client.recv(512)) > 40

    served.world.within(served.box, throw)
    assert served.ask("shop-web-1") == (0, ["172.30.0.2"], False)


def test_busybox_understands_it(served, upstream):
    served.add(upstreams=(UPSTREAM,))

    def run(*words: str) -> str:
        done = subprocess.run(["busybox", "nslookup", *words, "127.0.0.11"], capture_output=True, text=True, timeout=20)
        return done.stdout

    forward = served.world.within(served.box, lambda: run("web"))
    assert {"172.30.0.2", "172.30.0.3", "172.30.0.4"} <= set(forward.replace(":", " ").split())
    assert "shop-web-1.shop_default" in served.world.within(served.box, lambda: run("172.30.0.2"))
    assert "192.0.2.1" in served.world.within(served.box, lambda: run("example.test"))


def test_descriptors_are_given_back(served, upstream):
    served.add(upstreams=(UPSTREAM,))
    served.ask("warm.test")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(40):
        served.ask(f"n{number}.test", tcp=number % 2 == 0)
    time.sleep(0.05)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
