"""Our messages against a general library's view of the same kernel."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from orchestrator.engines.native.network import netlink
from orchestrator.engines.native.network.netlink import Conversation, NetlinkError

pyroute2 = pytest.importorskip("pyroute2")


def index(name: str) -> int:
    return socket.if_nametoindex(name)


def test_what_we_create_is_what_the_library_sees(world):
    inside = world.namespace("inside")
    target = os.open(inside, os.O_RDONLY)
    with Conversation() as host:
        host.perform(netlink.encode_create_bridge("br9", mac="02:53:00:00:00:09", mtu=1400))
        host.perform(
            netlink.encode_create_veth(
                "ve9", peer="eth7", peer_netns=target, master=index("br9"), mtu=1300, peer_mac="02:42:0a:00:00:02"
            ),
            netlink.encode_set_port("ve9", hairpin=True, isolated=True),
            netlink.encode_set_link("ve9", up=True),
            netlink.encode_add_address(index("br9"), "10.9.0.1/24"),
            netlink.encode_add_address(index("br9"), "fd09::1/64"),
            netlink.encode_set_link("br9", up=True),
            netlink.encode_add_route("10.10.0.0/16", via="10.9.0.2"),
            netlink.encode_add_route("fd10::/32", via="fd09::2"),
            netlink.encode_add_route("default", via="10.9.0.2"),
            netlink.encode_add_route("default", via="fd09::2"),
            netlink.encode_add_route("default", via="fd09::3"),
        )
    os.close(target)
    with pyroute2.IPRoute() as library:
        bridge = library.get_links(index("br9"))[0]
        assert bridge.get_attr("IFLA_ADDRESS") == "02:53:00:00:00:09"
        info = bridge.get_attr("IFLA_LINKINFO")
        assert info.get_attr("IFLA_INFO_KIND") == "bridge"
        data = info.get_attr("IFLA_INFO_DATA")
        assert (data.get_attr("IFLA_BR_STP_STATE"), data.get_attr("IFLA_BR_FORWARD_DELAY")) == (0, 0)
        assert data.get_attr("IFLA_BR_MCAST_SNOOPING") == 0
        port = library.get_links(index("ve9"))[0]
        assert port.get_attr("IFLA_MASTER") == index("br9")
        assert port.get_attr("IFLA_MTU") == 1300
        assert port["flags"] & 1
        slave = port.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_SLAVE_DATA")
        assert (slave.get_attr("IFLA_BRPORT_MODE"), slave.get_attr("IFLA_BRPORT_ISOLATED")) == (1, 1)
        assert not [one for one in library.get_addr(index=index("ve9")) if ":" in one.get_attr("IFA_ADDRESS")]
        addresses = {
            one.get_attr("IFA_ADDRESS"): one for one in library.get_addr(index=index("br9")) if one["scope"] == 0
        }
        assert set(addresses) == {"10.9.0.1", "fd09::1"}
        assert addresses["10.9.0.1"].get_attr("IFA_BROADCAST") == "10.9.0.255"
        assert addresses["10.9.0.1"].get_attr("IFA_LOCAL") == "10.9.0.1"
        assert addresses["fd09::1"].get_attr("IFA_FLAGS") & 0x02
        routes = {
            (one.get_attr("RTA_DST"), one["dst_len"], one.get_attr("RTA_GATEWAY"))
            for one in library.get_routes(table=254, type=1)
            if one.get_attr("RTA_GATEWAY")
        }
        assert routes == {
            ("10.10.0.0", 16, "10.9.0.2"),
            ("fd10::", 32, "fd09::2"),
            (None, 0, "10.9.0.2"),
            (None, 0, "fd09::3"),
        }
        ours = Conversation()
        links = {one.name: one for one in ours.list_links()}
        theirs = {one.get_attr("IFLA_IFNAME"): one for one in library.get_links()}
        assert set(links) == set(theirs)
        for name, one in theirs.items():
            assert (links[name].number, links[name].mtu) == (one["index"], one.get_attr("IFLA_MTU"))
            assert links[name].mac == (one.get_attr("IFLA_ADDRESS") or "")
            assert links[name].master == (one.get_attr("IFLA_MASTER") or 0)
            assert links[name].peer_number == (one.get_attr("IFLA_LINK") or 0)
        assert set(ours.list_addresses()) == {
            (one["index"], f"{one.get_attr('IFA_LOCAL') or one.get_attr('IFA_ADDRESS')}/{one['prefixlen']}")
            for one in library.get_addr()
        }
        assert {("default", "10.9.0.2", index("br9")), ("fd10::/32", "fd09::2", index("br9"))} <= set(
            ours.list_routes()
        )
        ours.perform(netlink.encode_delete_link("br9"), netlink.encode_delete_link("br9"))
        assert not library.link_lookup(ifname="br9")
        ours.__exit__()


def test_each_request_of_a_batch_is_answered_for(own_host):
    requests = [netlink.encode_create_bridge(f"du{number}") for number in range(150)]
    requests[70] = netlink.encode_set_link("nothere", up=True)
    requests[149] = netlink.encode_create_bridge("much-too-long-a-name")
    with Conversation() as host:
        failed = host.attempt(requests)
        assert sorted(failed) == [70, 149]
        assert failed[70].errno == errno.ENODEV
        with pytest.raises(NetlinkError, match="cannot configure the link nothere: No such device"):
            host.perform(requests[70])
        assert len([one for one in host.list_links() if one.name.startswith("du")]) == 148


def test_malformed_attributes_end_the_parsing():
    assert netlink.parse_attributes(b"\x08\x00\x01\x00abcd\x02\x00\x02\x00") == {1: b"abcd"}
    assert netlink.parse_attributes(b"\xff\xff\x01\x00abcd") == {}
    assert netlink.parse_attributes(b"\x01") == {}
