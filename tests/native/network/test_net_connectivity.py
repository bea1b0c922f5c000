"""Bridges, namespaces and endpoints on a real kernel."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from orchestrator.engines.native.network import links as network
from orchestrator.engines.native.network.links import BridgeSpec, EndpointSpec, entered
from orchestrator.errors import Conflict, NotFound, Unsupported

NET = {"gateway4": "172.30.0.1/16", "gateway6": "fd30::1/64"}


def place(bridge: str, number: int, **fields: object) -> dict[str, object]:
    return {
        "bridge": bridge,
        "ipv4": f"172.30.0.{number}/16",
        "ipv6": f"fd30::{number}/64",
        "mac": f"02:42:ac:1e:00:{number:02x}",
        "gateway4": "172.30.0.1",
        "gateway6": "fd30::1",
        **fields,
    }


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def test_two_containers_reach_each_other_and_the_gateway(world):
    bridge = world.bridge("a", **NET)
    one = world.container("one", place(bridge, 2))
    two = world.container("two", place(bridge, 3))
    world.serve(two, "two", 80)
    world.serve(None, "host", 81)
    assert world.ask(one, "172.30.0.3", 80) == "two 172.30.0.2"
    assert world.ask(one, "fd30::3", 80) == "two fd30::2"
    assert world.ask(one, "172.30.0.1", 81) == "host 172.30.0.2"
    assert world.ask(one, "fd30::1", 81) == "host fd30::2"
    assert world.ask(None, "172.30.0.3", 80) == "two 172.30.0.1"


def test_creating_again_converges(world):
    bridge = world.bridge("a", **NET)
    world.bridge("a", **NET)
    one = world.container("one", place(bridge, 2))
    with entered(one):
        before = ip("-o", "addr"), ip("route"), ip("-6", "route")
        index = Path("/proc/sys/net/ipv4/conf/eth0").exists()
    world.container("one", place(bridge, 2))
    with entered(one):
        assert (ip("-o", "addr"), ip("route"), ip("-6", "route")) == before
    assert index


def test_a_half_made_bridge_is_completed(world):
    link = network.name_link(world.tag, "b", "a")
    ip("link", "add", link, "type", "bridge")
    world.bridge("a", **NET)
    shown = ip("addr", "show", link)
    assert "172.30.0.1/16" in shown
    assert "fd30::1/64" in shown
    assert "state DOWN" not in shown


def test_left_over_links_of_the_same_name_are_replaced(world):
    bridge = world.bridge("a", **NET)
    port = network.name_link(world.tag, "v", "one0")
    ip("link", "add", port, "type", "veth", "peer", "name", "stale0")
    one = world.namespace("one")
    with entered(one):
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "stale1")
    world.container("one", place(bridge, 2))
    two = world.container("two", place(bridge, 3))
    world.serve(two, "two", 80)
    assert world.ask(one, "172.30.0.3", 80) == "two 172.30.0.2"
    assert not network.link_exists("stale0")


def test_a_namespace_that_is_dropped_takes_its_links_along(world):
    bridge = world.bridge("a", **NET)
    one = world.container("one", place(bridge, 2))
    port = network.name_link(world.tag, "v", "one0")
    assert port in network.list_links(network.name_prefix(world.tag))
    network.delete_namespace(one)
    network.delete_namespace(one)
    assert not one.exists()
    # The kernel removes the pair some time later; a new container may want the name before that.
    world.container("one", place(bridge, 2))
    two = world.container("two", place(bridge, 3))
    world.serve(two, "two", 80)
    assert world.ask(one, "172.30.0.3", 80) == "two 172.30.0.2"


def test_several_networks_and_the_default_route(world):
    first = world.bridge("a", gateway4="172.30.0.1/16")
    second = world.bridge("b", gateway4="172.31.0.1/16")
    box = world.container(
        "box",
        {"bridge": first, "ipv4": "172.30.0.2/16", "gateway4": "172.30.0.1", "is_default_route": False},
        {
            "bridge": second,
            "ipv4": "172.31.0.2/16",
            "gateway4": "172.31.0.1",
            "mtu": 1400,
            "routes": (("203.0.113.0/24", "172.31.0.9"),),
        },
    )
    with entered(box):
        assert "default via 172.31.0.1 dev eth1" in ip("route")
        assert "203.0.113.0/24 via 172.31.0.9 dev eth1" in ip("route")
        assert "mtu 1400" in ip("link", "show", "eth1")
        assert "inet6" not in ip("addr", "show", "eth0"), "a network without IPv6 has no link-local address either"


def test_a_network_is_disconnected_from_a_running_container(world):
    bridge = world.bridge("a", **NET)
    one = world.container("one", place(bridge, 2))
    port = network.name_link(world.tag, "v", "one0")
    network.disconnect_endpoint(one, EndpointSpec(ifname="eth0", host_ifname=port, bridge=bridge))
    network.disconnect_endpoint(one, EndpointSpec(ifname="eth0", host_ifname=port, bridge=bridge))
    assert not network.link_exists(port)
    with entered(one):
        assert "eth0" not in ip("link")


def test_isolated_ports_reach_the_gateway_only(world):
    bridge = world.bridge("a", **NET)
    one = world.container("one", place(bridge, 2, isolated=True))
    two = world.container("two", place(bridge, 3, isolated=True))
    world.serve(two, "two", 80)
    world.serve(None, "host", 81)
    assert world.ask(one, "172.30.0.3", 80, patience=0.4) in ("silent", "unreachable")
    assert world.ask(one, "172.30.0.1", 81) == "host 172.30.0.2"


def test_macvlan_children_of_a_parent_without_a_way_out(world):
    parent = network.name_link(world.tag, "m", "0123")
    network.create_parent(parent)
    network.create_parent(parent)
    boxes = [world.container(f"m{n}", {"kind": "macvlan", "parent": parent, "ipv4": f"10.9.0.{n}/24"}) for n in (2, 3)]
    world.container("m2", {"kind": "macvlan", "parent": parent, "ipv4": "10.9.0.2/24"})
    world.serve(boxes[1], "m3", 80)
    assert world.ask(boxes[0], "10.9.0.3", 80) == "m3 10.9.0.2"
    network.delete_links([parent])


def test_a_vlan_parent_is_created(world):
    world.outside()
    try:
        network.create_parent("up0.50")
        assert "vlan" in ip("-d", "link", "show", "up0.50")
    except Unsupported as error:
        assert "no VLAN links" in error.message
    for name in ("nope0.50", "storage-net", "st-x"):
        with pytest.raises(NotFound, match=name):
            network.create_parent(name)


def test_what_is_not_there_is_named(world):
    one = world.namespace("one")
    with pytest.raises(NotFound, match="bridge nobr0"):
        network.connect_endpoints(one, [EndpointSpec(ifname="eth0", host_ifname="x", bridge="nobr0")])
    with pytest.raises(NotFound, match="gone"), entered(world.root / "gone"):
        pass
    plain = world.root / "plain"
    plain.write_text("")
    with pytest.raises(NotFound, match="not a network namespace"), entered(plain):
        pass
    plain.unlink()
    with pytest.raises(Unsupported, match="no mode sideways"):
        network.connect_endpoints(one, [EndpointSpec(ifname="eth0", kind="macvlan", parent="lo", mode="sideways")])
    ip("link", "add", "stdum", "type", "veth", "peer", "name", "stdum2")
    with pytest.raises(Conflict, match="no bridge but veth"):
        network.create_bridge(BridgeSpec(name="stdum"))


def test_a_file_left_by_a_crash_becomes_a_namespace(world):
    path = world.root / "crashed"
    path.write_text("")
    assert world.namespace("crashed") == path
    with entered(path):
        assert "LOOPBACK,UP" in ip("link", "show", "lo")


def test_the_calling_thread_comes_back_even_after_an_error(world):
    home = os.stat("/proc/thread-self/ns/net").st_ino
    one = world.namespace("one")
    with pytest.raises(ZeroDivisionError), entered(one):
        assert os.stat("/proc/thread-self/ns/net").st_ino != home
        raise ZeroDivisionError
    with pytest.raises(OSError, match="No such file"):
        network.create_namespace(Path("/proc/nonexistent"))
    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def test_threads_connect_containers_at_the_same_time(world):
    bridge = world.bridge("a", **NET)
    failures: list[BaseException] = []

    def work(numbers: range) -> None:
        try:
            for number in numbers:
                world.container(f"box{number}", place(bridge, number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(range(start, 40, 3),)) for start in (2, 3, 4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []
    world.serve(world.root / "box39", "last", 80)
    assert world.ask(world.root / "box2", "172.30.0.39", 80) == "last 172.30.0.2"


def test_forwarding_keeps_the_routes_that_the_host_learns(world):
    world.outside()
    assert Path("/proc/sys/net/ipv6/conf/up0/accept_ra").read_text() == "1\n"
    world.bridge("a", **NET)
    assert Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text() == "1\n"
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
    assert Path("/proc/sys/net/ipv6/conf/up0/accept_ra").read_text() == "2\n"


def test_host_subnets_are_observed(world):
    world.outside()
    ip("route", "add", "10.1.2.0/24", "via", "198.51.100.2")
    found = network.observe_host_subnets()
    assert {"10.1.2.0/24", "198.51.100.0/24", "198.51.100.1/24", "2001:db8:1::/64"} <= set(found)


def test_names_of_links_fit_and_do_not_overlap():
    assert network.name_link("", "b", "0123456789abcdef") == "st-b0123456789a"
    assert network.name_link("ab12", "v", "0123456789abcdef") == "stab12-v0123456"
    assert not network.name_prefix("ab12").startswith(network.name_prefix(""))
