"""Subnets and addresses: examples and properties, with ``ipaddress`` as the yardstick."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engines.native.network.addresses import (
    Pool,
    derive_mac,
    parse_subnet,
    plan_address,
    plan_pools,
)
from orchestrator.engines.native.network.bridge_options import BridgeOptions, parse_bridge_options
from orchestrator.errors import Conflict, EngineError, Unsupported
from orchestrator.model import IpamPool

subnets4 = st.builds(
    lambda number, length: str(ipaddress.ip_network((number, length), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(8, 32),
)


def test_the_first_free_block_is_picked():
    (pool,) = plan_pools([], seed="shop_default")
    assert pool == Pool(subnet="172.18.0.0/16", gateway="172.18.0.1")
    (pool,) = plan_pools([], seed="x", networks=["172.18.0.0/16"], host=["172.19.4.0/24", "172.20.255.1/32"])
    assert pool.subnet == "172.21.0.0/16"
    (pool,) = plan_pools([], seed="x", host=["172.16.0.0/12"])
    assert pool.subnet == "192.168.0.0/20"
    (pool,) = plan_pools([], seed="x", host=["172.16.0.0/12", "192.168.0.0/16"])
    assert pool == Pool(subnet="10.255.255.0/24", gateway="10.255.255.1")
    with pytest.raises(Conflict, match="no subnet is left"):
        plan_pools([], seed="x", host=["0.0.0.0/1", "128.0.0.0/1"])


def test_an_ipv6_block_derives_from_the_networks_name():
    four, six = plan_pools([], seed="shop_default", ipv6=True)
    assert not four.is_ipv6
    assert ipaddress.ip_network(six.subnet).prefixlen == 64
    assert ipaddress.ip_network(six.subnet).subnet_of(ipaddress.ip_network("fd00::/8"))
    assert plan_pools([], seed="shop_default", ipv6=True)[1] == six
    again = plan_pools([], seed="shop_default", ipv6=True, networks=[six.subnet])[1]
    assert again.subnet != six.subnet
    assert [pool.is_ipv6 for pool in plan_pools([], seed="x", ipv4=False, ipv6=True)] == [True]


def test_configured_pools():
    entry = IpamPool(
        subnet="172.28.0.0/16", ip_range="172.28.5.0/24", aux_addresses={"router": "172.28.0.1", "nas": "172.28.5.0"}
    )
    (pool,) = plan_pools([entry], seed="x", host=["172.28.1.0/24"])
    assert pool.gateway == "172.28.0.2", "an address by name is not given to the gateway"
    assert plan_address(pool, []) == "172.28.5.1"
    (pool,) = plan_pools([IpamPool(gateway="172.18.9.9")], seed="x")
    assert pool.gateway == "172.18.9.9"
    six = IpamPool(subnet="2001:db8::/64", gateway="2001:db8::abc")
    pools = plan_pools([entry, six], seed="x", ipv6=True)
    assert [pool.gateway for pool in pools] == ["172.28.0.2", "2001:db8::abc"]
    assert len(plan_pools([entry, six], seed="x")) == 1, "IPv6 is used where it is enabled"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (IpamPool(subnet="172.28.0.1/16"), "bits set behind its prefix"),
        (IpamPool(subnet="172.28.0.0"), "is not a subnet"),
        (IpamPool(subnet="172.28.0.0/33"), "is not a subnet"),
        (IpamPool(subnet="172.28.0.256/16"), "is not an IP address"),
        (IpamPool(subnet="172.28.0.0/16", gateway="172.29.0.1"), r"gateway address 172\.29\.0\.1 is not in the subnet"),
        (IpamPool(subnet="172.28.0.0/16", ip_range="172.0.0.0/8"), "ip_range"),
        (IpamPool(subnet="172.28.0.0/16", aux_addresses={"nas": "fd00::1"}), "the nas address fd00::1"),
        (IpamPool(subnet="10.0.0.0/16"), "overlaps with 10.0.0.0/8 of another network"),
    ],
)
def test_contradictions_are_told(entry, message):
    with pytest.raises(EngineError, match=message):
        plan_pools([entry], seed="x", networks=["10.0.0.0/8"])


def test_two_blocks_of_one_family_are_refused():
    with pytest.raises(EngineError, match="one IPv4 subnet"):
        plan_pools([IpamPool(subnet="10.1.0.0/16"), IpamPool(subnet="10.2.0.0/16")], seed="x")


def test_a_wanted_address():
    pool = Pool(
        subnet="172.28.0.0/24", gateway="172.28.0.1", ip_range="172.28.0.128/25", aux_addresses={"a": "172.28.0.9"}
    )
    assert plan_address(pool, [], wanted="172.28.0.7") == "172.28.0.7", "outside of the range it is free to be wanted"
    for wanted, message in (
        ("172.28.0.1", "the network's gateway"),
        ("172.28.0.50", "another container"),
        ("172.28.0.0", "is not a container's address"),
        ("172.28.0.255", "is not a container's address"),
        ("172.28.1.2", "is not a container's address"),
        ("fd00::2", "is not a container's address"),
    ):
        with pytest.raises(EngineError, match=message):
            plan_address(pool, ["172.28.0.50"], wanted=wanted)


@given(subnets4.filter(lambda one: int(one.split("/")[1]) >= 22), st.data())
def test_addresses_are_free_hosts_until_none_is_left(subnet, data):
    network = ipaddress.ip_network(subnet)
    hosts = [str(one) for one in network.hosts()]
    if len(hosts) < 2:
        return
    (pool,) = plan_pools([IpamPool(subnet=subnet)], seed="x")
    assert pool.gateway == hosts[0]
    used = set(data.draw(st.lists(st.sampled_from(hosts[1:]), max_size=30)))
    free = [one for one in hosts[1:] if one not in used]
    if free:
        assert plan_address(pool, used) == free[0]
        first = data.draw(st.sampled_from(hosts))
        later = [one for one in free if ipaddress.ip_address(one) >= ipaddress.ip_address(first)]
        assert plan_address(pool, used, first=first) == (later or free)[0]
    with pytest.raises(Conflict, match="no address is left"):
        plan_address(pool, set(hosts))


@given(st.lists(subnets4, max_size=30), st.lists(subnets4, max_size=30))
def test_picked_blocks_are_disjoint_from_everything(networks, host):
    networks = [one for one in networks if int(one.split("/")[1]) > 8]
    host = [one for one in host if int(one.split("/")[1]) > 8]
    (pool,) = plan_pools([], seed="x", networks=networks, host=host)
    picked = ipaddress.ip_network(pool.subnet)
    assert not any(picked.overlaps(ipaddress.ip_network(one)) for one in [*networks, *host])


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 128))
def test_subnets_are_read_as_the_yardstick_reads_them(address, length):
    length = min(length, address.max_prefixlen)
    expected = ipaddress.ip_network(f"{address}/{length}", strict=False)
    found = parse_subnet(f"{address}/{length}")
    assert str(found) == str(expected) or ipaddress.ip_network(str(found)) == expected
    assert found.last == int(expected.broadcast_address)


def test_small_and_large_blocks():
    (pool,) = plan_pools([IpamPool(subnet="10.0.0.0/31")], seed="x")
    assert (pool.gateway, plan_address(pool, [])) == ("10.0.0.0", "10.0.0.1")
    (pool,) = plan_pools([IpamPool(subnet="fd00::/8")], seed="x", ipv4=False, ipv6=True)
    assert (pool.gateway, plan_address(pool, ["fd00::2"])) == ("fd00::1", "fd00::3")
    assert pool.with_prefix("fd00::3") == "fd00::3/8"


def test_a_mac_address_follows_from_the_address():
    assert derive_mac("172.18.0.2") == "02:42:ac:12:00:02"
    assert derive_mac("fd00::1:2") == "02:42:00:01:00:02"


def test_bridge_options():
    prefix = "com.docker.network."
    assert parse_bridge_options({}) == BridgeOptions()
    assert parse_bridge_options(
        {
            prefix + "bridge.name": "br-shop",
            prefix + "driver.mtu": "1400",
            prefix + "bridge.enable_icc": "false",
            prefix + "bridge.host_binding_ipv4": "127.0.0.1",
            prefix + "bridge.gateway_mode_ipv4": "routed",
        }
    ) == BridgeOptions(name="br-shop", mtu=1400, icc=False, host_ip="127.0.0.1", routed=True, masquerade=False)
    for bad in ({"x": "y"}, {prefix + "bridge.gateway_mode_ipv6": "isolated"}):
        with pytest.raises(Unsupported):
            parse_bridge_options(bad)
    for bad in (
        {prefix + "bridge.name": "much-too-long-name"},
        {prefix + "driver.mtu": "x"},
        {prefix + "bridge.enable_icc": "maybe"},
    ):
        with pytest.raises(EngineError, match=r"driver_opts com\.docker"):
            parse_bridge_options(bad)
