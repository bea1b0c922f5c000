"""Holding host ports and carrying what translation cannot."""

from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from orchestrator.engines.native.network import firewall, host_ports
from orchestrator.engines.native.network.firewall import FirewallNetwork, FirewallSpec, PublishedPort
from orchestrator.engines.native.network.proxy import Forwarder, ProxyPort
from orchestrator.errors import Conflict, EngineError, Unsupported

HOST4, HOST6 = "198.51.100.1", "2001:db8:1::1"


@pytest.fixture
def forwarder(looping):
    made = looping.call(Forwarder, looping.loop)
    yield made
    looping.call(made.close)


@pytest.fixture
def web(world):
    """A container with IPv4 only, on a bridge."""
    bridge = world.bridge("a", gateway4="172.30.0.1/16")
    box = world.container("web", {"bridge": bridge, "ipv4": "172.30.0.2/16", "gateway4": "172.30.0.1"})
    world.serve(box, "web", 80)
    world.serve(box, "web", 80, kind="udp")
    return bridge


def test_published_ports_beside_the_firewall(world, looping, forwarder, web):
    outside = world.outside()
    ports = [(8080, "tcp"), (5353, "udp")]
    looping.call(
        forwarder.hold,
        [ProxyPort(host_port=n, protocol=kind, target="172.30.0.2", container_port=80) for n, kind in ports],
    )
    firewall.apply_ruleset(
        FirewallSpec(
            table=firewall.name_table(world.tag, "shop"),
            networks=(FirewallNetwork(bridge=web, subnets=("172.30.0.0/16",)),),
            ports=tuple(
                PublishedPort(host_port=n, protocol=kind, ipv4="172.30.0.2", container_port=80) for n, kind in ports
            ),
        )
    )
    assert world.ask(None, "::1", 8080) == "web 172.30.0.1"
    assert world.ask(None, "::1", 5353, kind="udp") == "web 172.30.0.1"
    assert world.ask(outside, HOST4, 8080) == "web 198.51.100.2", "IPv4 is translated, not carried"
    assert world.ask(outside, HOST4, 5353, kind="udp") == "web 198.51.100.2"
    assert world.ask(outside, HOST6, 8080) == "web 172.30.0.1", "IPv6 clients reach an IPv4 container"
    assert world.ask(outside, HOST6, 5353, kind="udp") == "web 172.30.0.1"
    # Without the firewall everything still gets through, by way of the sockets.
    firewall.delete_table(firewall.name_table(world.tag, "shop"))
    assert world.ask(outside, HOST4, 8080) == "web 172.30.0.1"
    assert world.ask(None, "127.0.0.1", 5353, kind="udp") == "web 172.30.0.1"


def test_a_held_port_is_taken_for_everybody_else(world, looping, forwarder):
    looping.call(forwarder.hold, [ProxyPort(host_port=8080, target="172.30.0.2", container_port=80)])
    looping.call(forwarder.hold, [ProxyPort(host_port=8081, target="172.30.0.2", container_port=80, protocol="udp")])
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")):
        for kind, port in ((socket.SOCK_STREAM, 8080), (socket.SOCK_DGRAM, 8081)):
            with socket.socket(family, kind) as other, pytest.raises(OSError, match="in use"):
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
                other.bind((address, port))
                other.listen()
    assert looping.call(forwarder.held) == {("", 8080, "tcp"), ("", 8081, "udp")}
    looping.call(forwarder.release, [("", 8080, "tcp")])
    assert host_ports.check_port_free("", 8080, "tcp") is None


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_the_holder_of_a_taken_port_is_named(world, looping, forwarder, kind):
    world.serve(None, "nginx", 8080, kind=kind, address="127.0.0.1")
    with open("/proc/self/comm") as file:
        me = f"{file.read().strip()} (pid {os.getpid()})"
    assert host_ports.check_port_free("", 8080, kind) == me
    assert host_ports.check_port_free("127.0.0.1", 8080, kind) == me
    assert host_ports.check_port_free("127.0.0.2", 8080, kind) is None
    assert host_ports.check_port_free("", 8081, kind) is None
    ports = [ProxyPort(host_port=n, target="172.30.0.2", container_port=80, protocol=kind) for n in (8079, 8080)]
    with pytest.raises(Conflict) as caught:
        looping.call(forwarder.hold, ports)
    assert caught.value.message == f"the port *:8080/{kind} is taken by {me}"
    assert looping.call(forwarder.held) == frozenset(), "all or nothing"


def test_addresses_that_are_not_ours_and_odd_protocols(own_host):
    with pytest.raises(EngineError, match=r"192\.0\.2\.9 is not an address of this host"):
        host_ports.open_host_socket("192.0.2.9", 80, "tcp")
    with pytest.raises(Unsupported, match="sctp"):
        host_ports.open_host_socket("", 80, "sctp")


def test_a_random_port_is_free_and_not_leased(own_host):
    with socket.create_server(("0.0.0.0", 40000)), socket.create_server(("127.0.0.1", 40001)):
        assert host_ports.allocate_free_port("", "tcp", taken={40002}, within=(40000, 40003)) == 40003
        with pytest.raises(Conflict, match="between 40000 and 40001"):
            host_ports.allocate_free_port("", "tcp", within=(40000, 40001))
    assert 32768 <= host_ports.allocate_free_port("", "udp") <= 60999


def test_a_port_lingering_in_time_wait_can_be_published(own_host):
    with socket.create_server(("127.0.0.1", 8080)) as listener:
        client = socket.create_connection(("127.0.0.1", 8080))
        server, _peer = listener.accept()
        server.close()
        client.close()
    assert host_ports.check_port_free("", 8080, "tcp") is None


def test_much_data_both_ways_and_half_close(world, looping, forwarder):
    listener = socket.create_server(("127.0.0.1", 7000))
    payload = os.urandom(8 << 20)

    def echo() -> None:
        client, _peer = listener.accept()
        with client:
            received = bytearray()
            while data := client.recv(1 << 16):
                received += data
                time.sleep(0.0002)
            client.sendall(bytes(received))

    threading.Thread(target=echo, daemon=True).start()
    looping.call(forwarder.hold, [ProxyPort(host_port=8080, target="127.0.0.1", container_port=7000, host_ip="::1")])
    with socket.create_connection(("::1", 8080), timeout=10) as client:
        client.sendall(payload)
        client.shutdown(socket.SHUT_WR)
        received = bytearray()
        while data := client.recv(1 << 16):
            received += data
    assert received == payload
    listener.close()


def test_refused_by_the_container_is_refused_by_us(world, looping, forwarder):
    looping.call(forwarder.hold, [ProxyPort(host_port=8080, target="127.0.0.1", container_port=7999, host_ip="::1")])
    assert world.ask(None, "::1", 8080) == "refused"


def test_targets_change_and_ports_stay(world, looping, forwarder):
    for number in (1, 2):
        world.serve(None, f"server{number}", 7000 + number)
        world.serve(None, f"server{number}", 7000 + number, kind="udp")
    client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    client.settimeout(2)
    client.connect(("::1", 8080))
    for number in (1, 2):
        ports = [
            ProxyPort(host_port=8080, protocol=kind, target="127.0.0.1", container_port=7000 + number)
            for kind in ("tcp", "udp")
        ]
        looping.call(forwarder.replace, ports)
        assert world.ask(None, "::1", 8080) == f"server{number} 127.0.0.1"
        client.send(b"?")
        assert client.recv(100) == f"server{number} 127.0.0.1".encode()
    client.close()
    looping.call(forwarder.replace, [])
    assert looping.call(forwarder.held) == frozenset()
    assert world.ask(None, "::1", 8080) == "refused"


def test_udp_answers_come_from_the_address_that_was_asked(world, looping, forwarder):
    world.serve(None, "server", 7001, kind="udp")
    looping.call(forwarder.hold, [ProxyPort(host_port=8080, protocol="udp", target="127.0.0.1", container_port=7001)])
    for address in ("127.0.0.9", "127.0.0.1", "::1"):
        assert world.ask(None, address, 8080, kind="udp") == "server 127.0.0.1"
