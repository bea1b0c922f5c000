"""One nftables table for each project: published ports, masquerading, isolation of networks from each other.

A table is rendered whole and replaced in one transaction, so that it is never half there. Ports live in maps: the
number of rules that a packet meets does not grow with them. Our chains only drop what concerns our own bridges; what
other tables drop stays dropped (see :mod:`orchestrator.engines.native.network.docker_coexistence`).
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.engines.native.network.nftables import apply_commands, delete_table, list_tables
from orchestrator.record import Record

_PROTOCOLS = ("tcp", "udp", "sctp")


class FirewallNetwork(Record):
    """A bridge of the project. `subnets` are CIDRs of both families.

    `internal`: nothing is forwarded in or out. `masquerade`: what leaves takes the host's address. `routed`: every port
    of its containers can be reached from outside (no NAT in front of them).
    """

    bridge: str
    subnets: tuple[str, ...] = ()
    internal: bool = False
    masquerade: bool = True
    routed: bool = False


class PublishedPort(Record):
    """A port of the host that leads to a container. `host_ip` "" is every address of both families, 0.0.0.0 every IPv4
    and ``::`` every IPv6 address. `ipv4` and `ipv6` are the container's addresses, without prefix."""

    host_port: int
    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    ipv4: str | None = None
    ipv6: str | None = None


class FirewallSpec(Record):
    """Everything a project's table says."""

    table: str
    networks: tuple[FirewallNetwork, ...] = ()
    ports: tuple[PublishedPort, ...] = ()


def name_table(tag: str, project: str) -> str:
    """The name of a project's table; letters that nftables does not take become underscores."""
    clean = "".join(one if one.isascii() and (one.isalnum() or one in "_-.") else "_" for one in project)
    return f"{table_prefix(tag)}{clean}"


def table_prefix(tag: str) -> str:
    """The prefix of every table of the engine with this layout tag; no other engine's prefix begins with it."""
    return f"stack_{tag}_"


def _render_set(kind: str, name: str, type_: str, elements: Iterable[str], flags: str = "") -> str:
    body = f"    type {type_}\n"
    if flags:
        body += f"    flags {flags}\n"
    found = sorted(set(elements))
    if found:
        body += f"    elements = {{ {', '.join(found)} }}\n"
    return f"  {kind} {name} {{\n{body}  }}\n"


def _render_ports(ports: tuple[PublishedPort, ...]) -> str:
    any4, any6, one4, one6 = [], [], [], []
    for port in ports:
        if port.protocol not in _PROTOCOLS:
            raise ValueError(f"no such protocol: {port.protocol}")
        key = f"{port.protocol} . {port.host_port}"
        to4, to6 = f"{port.ipv4} . {port.container_port}", f"{port.ipv6} . {port.container_port}"
        if port.ipv4 and port.host_ip in ("", "0.0.0.0"):
            any4.append(f"{key} : {to4}")
        elif port.ipv4 and "." in port.host_ip and ":" not in port.host_ip:
            one4.append(f"{port.host_ip} . {key} : {to4}")
        if port.ipv6 and port.host_ip in ("", "::"):
            any6.append(f"{key} : {to6}")
        elif port.ipv6 and ":" in port.host_ip and port.host_ip != "::1":
            one6.append(f"{port.host_ip} . {key} : {to6}")
    service = "inet_proto . inet_service"
    return (
        _render_set("map", "any4", f"{service} : ipv4_addr . inet_service", any4)
        + _render_set("map", "any6", f"{service} : ipv6_addr . inet_service", any6)
        + _render_set("map", "one4", f"ipv4_addr . {service} : ipv4_addr . inet_service", one4)
        + _render_set("map", "one6", f"ipv6_addr . {service} : ipv6_addr . inet_service", one6)
    )


def _render_networks(networks: tuple[FirewallNetwork, ...]) -> str:
    def quoted(chosen: Iterable[FirewallNetwork]) -> list[str]:
        return [f'"{one.bridge}"' for one in chosen]

    subnets = [subnet for one in networks for subnet in one.subnets]
    hidden = [subnet for one in networks if one.masquerade for subnet in one.subnets]
    return (
        _render_set("set", "bridges", "ifname", quoted(networks))
        + _render_set("set", "internal", "ifname", quoted(one for one in networks if one.internal))
        + _render_set("set", "routed", "ifname", quoted(one for one in networks if one.routed))
        + _render_set("set", "same", "ifname . ifname", (f'"{one.bridge}" . "{one.bridge}"' for one in networks))
        + _render_set("set", "ours4", "ipv4_addr", (one for one in subnets if ":" not in one), "interval")
        + _render_set("set", "ours6", "ipv6_addr", (one for one in subnets if ":" in one), "interval")
        + _render_set("set", "hidden4", "ipv4_addr", (one for one in hidden if ":" not in one), "interval")
        + _render_set("set", "hidden6", "ipv6_addr", (one for one in hidden if ":" in one), "interval")
    )


# ::1 cannot be translated (the kernel drops it off the loopback link): a proxy listens there. In the output hook this
# nftables does not know the priority by its name.
_CHAINS = """\
  chain guard {
    type filter hook prerouting priority -300; policy accept;
    iifname @bridges ip saddr 127.0.0.0/8 drop
    iifname @bridges ip daddr 127.0.0.0/8 drop
  }
  chain publish {
    dnat ip to ip daddr . meta l4proto . th dport map @one4
    dnat ip to meta l4proto . th dport map @any4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @one6
    dnat ip6 to meta l4proto . th dport map @any6
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    fib daddr type local jump publish
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip6 daddr ::1 accept
    fib daddr type local jump publish
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    oifname @bridges ip saddr 127.0.0.0/8 masquerade
    oifname @bridges ct status dnat ip saddr @ours4 masquerade
    oifname @bridges ct status dnat ip6 saddr @ours6 masquerade
    oifname != @bridges ip saddr @hidden4 masquerade
    oifname != @bridges ip6 saddr @hidden6 masquerade
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname != @bridges oifname != @bridges accept
    iifname . oifname @same accept
    iifname @internal drop
    oifname @internal drop
    ct state established,related accept
    oifname @bridges ct status dnat accept
    oifname @routed accept
    oifname @bridges drop
  }
"""


def render_ruleset(spec: FirewallSpec) -> str:
    """Render the nft commands that replace the project's table, in one transaction, whatever was there before."""
    head = f"table inet {spec.table}\ndelete table inet {spec.table}\ntable inet {spec.table} {{\n"
    return head + _render_ports(spec.ports) + _render_networks(spec.networks) + _CHAINS + "}\n"


def apply_ruleset(spec: FirewallSpec) -> None:
    """Replace the project's table. A spec without networks and ports removes it."""
    if spec.networks or spec.ports:
        apply_commands(render_ruleset(spec))
    else:
        delete_table(spec.table)


__all__ = [
    "FirewallNetwork",
    "FirewallSpec",
    "PublishedPort",
    "apply_ruleset",
    "delete_table",
    "list_tables",
    "name_table",
    "render_ruleset",
    "table_prefix",
]
