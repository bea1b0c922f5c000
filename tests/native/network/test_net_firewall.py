"""Published ports, isolation and masquerading, with real packets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.engines.native.network import conntrack, docker_coexistence, firewall
from orchestrator.engines.native.network import links as network
from orchestrator.engines.native.network.firewall import FirewallNetwork, FirewallSpec, PublishedPort

HOST4, HOST6 = "198.51.100.1", "2001:db8:1::1"
QUIET = 0.4
BLOCKED = ("silent", "unreachable")

A = {"gateway4": "172.30.0.1/16", "gateway6": "fd30::1/64"}
B = {"gateway4": "172.31.0.1/16", "gateway6": "fd31::1/64"}
SUBNETS = {"a": ("172.30.0.0/16", "fd30::/64"), "b": ("172.31.0.0/16", "fd31::/64")}


def place(bridge: str, net: int, number: int) -> dict[str, object]:
    return {
        "bridge": bridge,
        "ipv4": f"172.{net}.0.{number}/16",
        "ipv6": f"fd{net}::{number}/64",
        "gateway4": f"172.{net}.0.1",
        "gateway6": f"fd{net}::1",
    }


def port(host_port: int, **fields: object) -> PublishedPort:
    return PublishedPort(
        **{"host_port": host_port, "container_port": 80, "ipv4": "172.30.0.2", "ipv6": "fd30::2"} | fields
    )


def run(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=["1", "0"], ids=["br_netfilter", "plain"])
def bridge_filter(request, own_host):
    """With br_netfilter, frames within a bridge pass the IP chains too: both must work."""
    for name in ("iptables", "ip6tables"):
        path = Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}")
        if path.exists():
            path.write_text(request.param)
        elif request.param == "1":
            pytest.skip("no br_netfilter")


def two_networks(world, ports=(), internal=False):
    """web and peer on network a, other on network b; the outside."""
    a, b = world.bridge("a", **A), world.bridge("b", **B, internal=internal)
    web, peer = world.container("web", place(a, 30, 2)), world.container("peer", place(a, 30, 3))
    other = world.container("other", place(b, 31, 2))
    outside = world.outside()
    spec = FirewallSpec(
        table=firewall.name_table(world.tag, "shop"),
        networks=(
            FirewallNetwork(bridge=a, subnets=SUBNETS["a"]),
            FirewallNetwork(bridge=b, subnets=SUBNETS["b"], internal=internal),
        ),
        ports=tuple(ports),
    )
    firewall.apply_ruleset(spec)
    for name, box in (("web", web), ("peer", peer), ("other", other), ("outside", outside)):
        world.serve(box, name, 80)
        world.serve(box, name, 80, kind="udp")
    return web, peer, other, outside


def test_a_published_port_is_reached_from_everywhere(world, bridge_filter):
    web, peer, other, outside = two_networks(world, [port(8080), port(5353, protocol="udp")])
    assert world.ask(outside, HOST4, 8080) == "web 198.51.100.2"
    assert world.ask(outside, HOST6, 8080) == "web 2001:db8:1::2"
    assert world.ask(outside, HOST4, 5353, kind="udp") == "web 198.51.100.2"
    assert world.ask(None, "127.0.0.1", 8080) == "web 172.30.0.1"
    assert world.ask(None, "127.0.0.1", 5353, kind="udp") == "web 172.30.0.1"
    assert world.ask(None, HOST4, 8080).startswith("web ")
    assert world.ask(None, HOST6, 8080).startswith("web ")
    # Hairpins: a neighbour, the container itself, another network; by the host's address and by the gateway's.
    assert world.ask(peer, HOST4, 8080) == "web 172.30.0.1"
    assert world.ask(peer, "172.30.0.1", 8080) == "web 172.30.0.1"
    assert world.ask(web, HOST4, 8080) == "web 172.30.0.1"
    assert world.ask(web, HOST6, 8080).startswith("web ")
    assert world.ask(other, HOST4, 8080).startswith("web ")
    assert world.ask(other, HOST6, 8080).startswith("web ")
    assert world.ask(peer, HOST4, 5353, kind="udp") == "web 172.30.0.1"


def test_only_published_ports_are_reached(world, bridge_filter):
    web, _peer, other, outside = two_networks(world, [port(8080)])
    world.within(outside, lambda: run(f"ip route add 172.30.0.0/16 via {HOST4}; ip route add fd30::/64 via {HOST6}"))
    world.serve(web, "web", 81)
    # Straight to the container's address, by somebody who sets a route through the host.
    assert world.ask(outside, "172.30.0.2", 81, patience=QUIET) in BLOCKED
    assert world.ask(outside, "172.30.0.2", 80, patience=QUIET) in BLOCKED
    assert world.ask(outside, "fd30::2", 81, patience=QUIET) in BLOCKED
    assert world.ask(outside, HOST4, 8081, patience=QUIET) == "refused"
    assert world.ask(other, "172.30.0.2", 81, patience=QUIET) in BLOCKED
    assert world.ask(other, "fd30::2", 81, patience=QUIET) in BLOCKED
    assert world.ask(None, "172.30.0.2", 81) == "web 172.30.0.1"


def test_neighbours_reach_each_other_and_the_outside(world, bridge_filter):
    web, peer, other, _outside = two_networks(world)
    assert world.ask(peer, "172.30.0.2", 80) == "web 172.30.0.3"
    assert world.ask(peer, "fd30::2", 80) == "web fd30::3"
    assert world.ask(web, "198.51.100.2", 80) == f"outside {HOST4}"
    assert world.ask(other, "2001:db8:1::2", 80) == f"outside {HOST6}"
    assert world.ask(web, "198.51.100.2", 80, kind="udp") == f"outside {HOST4}"


def test_an_internal_network_has_no_way_out_or_in(world, bridge_filter):
    published = PublishedPort(host_port=8090, container_port=80, ipv4="172.31.0.2", ipv6="fd31::2")
    web, _peer, other, outside = two_networks(world, [published, port(8080)], internal=True)
    assert world.ask(other, "198.51.100.2", 80, patience=QUIET) in BLOCKED
    assert world.ask(other, "2001:db8:1::2", 80, patience=QUIET) in BLOCKED
    assert world.ask(other, HOST4, 8080, patience=QUIET) in BLOCKED
    assert world.ask(outside, HOST4, 8090, patience=QUIET) in BLOCKED
    assert world.ask(web, "172.31.0.2", 80, patience=QUIET) in BLOCKED
    assert world.ask(None, "172.31.0.2", 80) == "other 172.31.0.1"


def test_a_port_at_one_address_is_only_there(world):
    ports = [
        port(8081, host_ip="127.0.0.1"),
        port(8082, host_ip=HOST4),
        port(8083, host_ip=HOST6),
        port(8084, host_ip="0.0.0.0"),
        port(8085, host_ip="::"),
    ]
    _web, peer, _other, outside = two_networks(world, ports)
    assert world.ask(None, "127.0.0.1", 8081) == "web 172.30.0.1"
    assert world.ask(outside, HOST4, 8081, patience=QUIET) == "refused"
    assert world.ask(peer, "172.30.0.1", 8081, patience=QUIET) == "refused"
    assert world.ask(outside, HOST4, 8082) == "web 198.51.100.2"
    assert world.ask(None, "127.0.0.1", 8082) == "refused"
    assert world.ask(outside, HOST6, 8083) == "web 2001:db8:1::2"
    assert world.ask(outside, HOST4, 8083) == "refused"
    assert world.ask(outside, HOST4, 8084) == "web 198.51.100.2"
    assert world.ask(outside, HOST6, 8084) == "refused"
    assert world.ask(outside, HOST6, 8085) == "web 2001:db8:1::2"
    assert world.ask(outside, HOST4, 8085) == "refused"


def test_nothing_gets_at_the_hosts_loopback_through_a_bridge(world):
    """route_localnet opens 127/8 to the bridge; the guard closes it again."""
    web, *_ = two_networks(world)
    world.serve(None, "secret", 9000, address="127.0.0.1")
    world.within(
        web, lambda: run("ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via 172.30.0.1 src 172.30.0.2")
    )
    world.within(web, lambda: Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1"))
    assert world.ask(None, "127.0.0.1", 9000) == "secret 127.0.0.1"
    assert world.ask(web, "127.0.0.1", 9000, patience=QUIET) in BLOCKED
    firewall.delete_table(firewall.name_table(world.tag, "shop"))
    assert world.ask(web, "127.0.0.1", 9000, patience=QUIET) == "secret 172.30.0.2", "the attack itself works"


def test_two_projects_side_by_side(world):
    a, b = world.bridge("a", **A), world.bridge("b", **B)
    web, shop = world.container("web", place(a, 30, 2)), world.container("shop", place(b, 31, 2))
    outside = world.outside()
    world.serve(web, "web", 80)
    world.serve(shop, "shop", 80)
    for project, bridge, net, host_port in (("one", a, 30, 8080), ("two", b, 31, 8081)):
        published = PublishedPort(host_port=host_port, container_port=80, ipv4=f"172.{net}.0.2", ipv6=f"fd{net}::2")
        subnets = (f"172.{net}.0.0/16", f"fd{net}::/64")
        firewall.apply_ruleset(
            FirewallSpec(
                table=firewall.name_table(world.tag, project),
                networks=(FirewallNetwork(bridge=bridge, subnets=subnets),),
                ports=(published,),
            )
        )
    assert firewall.list_tables(firewall.table_prefix(world.tag)) == ["stack_7e57_one", "stack_7e57_two"]
    assert world.ask(outside, HOST4, 8080) == "web 198.51.100.2"
    assert world.ask(outside, HOST4, 8081) == "shop 198.51.100.2"
    assert world.ask(web, HOST4, 8081).startswith("shop ")
    assert world.ask(shop, HOST6, 8080).startswith("web ")
    assert world.ask(web, "172.31.0.2", 80, patience=QUIET) in BLOCKED
    firewall.delete_table("stack_7e57_one")
    firewall.delete_table("stack_7e57_one")
    assert world.ask(outside, HOST4, 8081) == "shop 198.51.100.2"
    assert world.ask(outside, HOST4, 8080) == "refused"


def test_replacing_a_table_keeps_connections(world):
    import socket

    web, *_, outside = two_networks(world, [port(8080)])
    listener = world.within(web, lambda: socket.create_server(("172.30.0.2", 81)))
    table = firewall.name_table(world.tag, "shop")
    spec = FirewallSpec(
        table=table,
        networks=(FirewallNetwork(bridge=network.name_link(world.tag, "b", "a"), subnets=SUBNETS["a"]),),
        ports=(port(8100, container_port=81),),
    )
    firewall.apply_ruleset(spec)
    client = world.within(outside, lambda: socket.create_connection((HOST4, 8100), timeout=2))
    server, _peer = listener.accept()
    firewall.apply_ruleset(spec.replace(ports=(port(8101),)))
    server.sendall(b"still here")
    assert client.recv(100) == b"still here"
    for one in (client, server, listener):
        one.close()
    firewall.apply_ruleset(FirewallSpec(table=table))
    assert firewall.list_tables(table) == []


def test_a_routed_network_has_no_translation(world):
    a = world.bridge("a", **A)
    web = world.container("web", place(a, 30, 2))
    outside = world.outside()
    world.serve(web, "web", 80)
    world.serve(outside, "outside", 80)
    world.within(outside, lambda: run(f"ip route add 172.30.0.0/16 via {HOST4}"))
    net = FirewallNetwork(bridge=a, subnets=SUBNETS["a"], masquerade=False, routed=True)
    firewall.apply_ruleset(FirewallSpec(table=firewall.name_table(world.tag, "r"), networks=(net,)))
    assert world.ask(outside, "172.30.0.2", 80) == "web 198.51.100.2"
    assert world.ask(web, "198.51.100.2", 80) == "outside 172.30.0.2"


DOCKER = """
iptables -N DOCKER-USER; {end4}
iptables -N DOCKER-FORWARD
iptables -A FORWARD -j DOCKER-USER; iptables -A FORWARD -j DOCKER-FORWARD; iptables -P FORWARD DROP
ip6tables -N DOCKER-USER; ip6tables -A FORWARD -j DOCKER-USER; ip6tables -P FORWARD DROP
"""


@pytest.mark.parametrize("end", ["iptables -A DOCKER-USER -j RETURN", ":"], ids=["docker-20", "docker-28"])
def test_beside_docker(world, bridge_filter, end):
    run(DOCKER.format(end4=end))
    run("iptables -I DOCKER-USER -s 198.51.100.77 -j DROP")
    _web, peer, other, outside = two_networks(world, [port(8080)])
    assert world.ask(outside, HOST4, 8080, patience=QUIET) in BLOCKED
    prefix = network.name_prefix(world.tag)
    assert docker_coexistence.ensure_accepted(prefix) is True
    assert docker_coexistence.ensure_accepted(prefix) is False
    assert world.ask(outside, HOST4, 8080) == "web 198.51.100.2"
    assert world.ask(outside, HOST6, 8080) == "web 2001:db8:1::2"
    assert world.ask(peer, "172.30.0.2", 80) == "web 172.30.0.3"
    assert world.ask(peer, "198.51.100.2", 80) == f"outside {HOST4}"
    assert world.ask(other, "172.30.0.2", 80, patience=QUIET) in BLOCKED, "our isolation holds"
    shown = run("iptables -S DOCKER-USER").splitlines()
    assert shown[1:4] == [
        "-A DOCKER-USER -s 198.51.100.77/32 -j DROP",
        "-A DOCKER-USER -i st7e57-+ -j ACCEPT",
        "-A DOCKER-USER -o st7e57-+ -j ACCEPT",
    ]
    assert run("ip6tables -S DOCKER-USER").count("ACCEPT") == 2
    docker_coexistence.remove_accepted(prefix)
    assert "ACCEPT" not in run("iptables -S DOCKER-USER") + run("ip6tables -S DOCKER-USER")


def test_beside_a_firewall_that_drops_forwarding(world):
    run("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP")
    two_networks(world, [port(8080)])
    outside = world.root / "outside"
    assert world.ask(outside, HOST4, 8080, patience=QUIET) in BLOCKED
    assert docker_coexistence.ensure_accepted(network.name_prefix(world.tag)) is True
    assert world.ask(outside, HOST4, 8080) == "web 198.51.100.2"
    assert world.ask(outside, HOST6, 8080) == "web 2001:db8:1::2"


def test_where_there_is_no_docker_nothing_is_added(world):
    assert docker_coexistence.ensure_accepted(network.name_prefix(world.tag)) is False
    assert run("nft list ruleset") == ""
    run("iptables -A INPUT -j ACCEPT")
    assert docker_coexistence.ensure_accepted(network.name_prefix(world.tag)) is False


def test_beside_docker_with_the_old_iptables(world):
    try:
        run(DOCKER.format(end4="iptables -A DOCKER-USER -j RETURN").replace("tables ", "tables-legacy "))
    except subprocess.CalledProcessError:
        pytest.skip("no iptables-legacy")
    run("iptables-legacy -I DOCKER-USER -s 198.51.100.77 -j DROP")
    *_, outside = two_networks(world, [port(8080)])
    assert world.ask(outside, HOST4, 8080, patience=QUIET) in BLOCKED
    prefix = network.name_prefix(world.tag)
    assert docker_coexistence.ensure_accepted(prefix, ["br-shop"]) is True
    assert docker_coexistence.ensure_accepted(prefix, ["br-shop"]) is False
    assert world.ask(outside, HOST4, 8080) == "web 198.51.100.2"
    assert world.ask(outside, HOST6, 8080) == "web 2001:db8:1::2"
    assert run("iptables-legacy -S DOCKER-USER").splitlines()[1:] == [
        "-A DOCKER-USER -s 198.51.100.77/32 -j DROP",
        "-A DOCKER-USER -i st7e57-+ -j ACCEPT",
        "-A DOCKER-USER -o st7e57-+ -j ACCEPT",
        "-A DOCKER-USER -i br-shop -j ACCEPT",
        "-A DOCKER-USER -o br-shop -j ACCEPT",
        "-A DOCKER-USER -j RETURN",
    ]
    docker_coexistence.remove_accepted(prefix, ["br-shop"])
    assert "ACCEPT" not in run("iptables-legacy -S DOCKER-USER") + run("ip6tables-legacy -S DOCKER-USER")


def test_udp_flows_to_a_container_that_is_gone_are_forgotten(world):
    import socket

    web, _peer, _other, outside = two_networks(world, [port(5353, protocol="udp")])
    talk = world.within(outside, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    talk.settimeout(QUIET)
    talk.connect((HOST4, 5353))
    talk.send(b"?")
    assert talk.recv(100) == b"web 198.51.100.2"
    world.ask(web, "172.30.0.3", 80, kind="udp")
    table = firewall.name_table(world.tag, "shop")
    bridge = network.name_link(world.tag, "b", "a")
    moved = port(5353, protocol="udp", ipv4="172.30.0.3", ipv6="fd30::3")
    nets = (FirewallNetwork(bridge=bridge, subnets=SUBNETS["a"]),)
    firewall.apply_ruleset(FirewallSpec(table=table, networks=nets, ports=(moved,)))
    talk.send(b"?")
    assert talk.recv(100) == b"web 198.51.100.2", "the flow goes on to where it went"
    assert conntrack.forget_udp_flows(["172.30.0.2", "fd30::2"]) == 1
    assert conntrack.forget_udp_flows(["172.30.0.2"]) == 0
    talk.send(b"?")
    assert talk.recv(100) == b"peer 198.51.100.2"
    talk.close()


def test_many_processes_change_their_tables_at_once(world):
    import threading

    failures = []

    def work(project: str) -> None:
        spec = FirewallSpec(
            table=firewall.name_table(world.tag, project),
            networks=(FirewallNetwork(bridge=project, subnets=SUBNETS["a"]),),
            ports=(port(8080),),
        )
        code = (
            "import sys; sys.path[:0] = sys.argv[2:]\n"
            "from orchestrator.engines.native.network.nftables import apply_commands\n"
            "for _ in range(30): apply_commands(sys.argv[1])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, firewall.render_ruleset(spec), *sys.path], capture_output=True, text=True
        )
        if done.returncode:
            failures.append(done.stderr)

    threads = [threading.Thread(target=work, args=(f"p{number}",)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []
    assert len(firewall.list_tables(firewall.table_prefix(world.tag))) == 4


def test_programs_that_we_start_do_not_inherit_the_netfilter_socket(own_host):
    firewall.list_tables("stack_")
    reader, writer = os.pipe()
    words = ["ls", "-l", "/proc/self/fd"]
    pid = os.posix_spawnp("ls", words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    with open(reader) as output:
        shown = output.read()
    assert "pipe:" in shown
    assert "socket:" not in shown
    os.waitpid(pid, 0)


def test_names_of_tables():
    assert firewall.name_table("", "shop") == "stack__shop"
    assert firewall.name_table("ab12", 'a b"};') == "stack_ab12_a_b___"
    assert not firewall.table_prefix("ab12").startswith(firewall.table_prefix(""))
