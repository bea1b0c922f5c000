"""What a container can see by name. Pure: made from the endpoints of the networks that the container is on.

Also the two files that lead a container to the resolver: ``/etc/resolv.conf`` and ``/etc/hosts``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from orchestrator.record import Record

RESOLVER_ADDRESS = "127.0.0.11"

_HOSTS_HEAD = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""

Addresses = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""Packed IPv4 and IPv6 addresses of a name. Both empty: the name is known, nothing answers to it now."""


Book = tuple[Mapping[bytes, Addresses], Mapping[bytes, bytes]]
"""Addresses by name, and names by reverse name."""


class DnsEndpoint(Record):
    """A running container on one network, under all the names it has there (service, container name, short id,
    aliases); the first is the one that reverse lookups tell. Addresses are without prefix."""

    network: str
    names: tuple[str, ...]
    ipv4: str | None = None
    ipv6: str | None = None


class View:
    """An immutable answer book: names to addresses, reverse names to names, and the subnets no one else knows about.

    It is written by `write` when it is first opened: while a stack comes up, most are replaced before anybody asks.
    """

    __slots__ = ("_book", "_write", "subnets")

    def __init__(self, write: Callable[[], Book], subnets: Iterable[str] = ()) -> None:
        self._write = write
        self._book: Book | None = None
        self.subnets = tuple(subnets)

    @property
    def names(self) -> Mapping[bytes, Addresses]:
        """Addresses by name, lower-case."""
        return self._open()[0]

    @property
    def pointers(self) -> Mapping[bytes, bytes]:
        """Names by reverse name."""
        return self._open()[1]

    def owns_reverse(self, name: bytes) -> bool:
        """True if `name` is the reverse name of an address in one of the networks' subnets."""
        packed = parse_reverse_name(name)
        if packed is None:
            return False
        number, bits = int.from_bytes(packed, "big"), len(packed) * 8
        keys = (_subnet_key(one) for one in self.subnets)
        return any(bits == size and number >> shift == prefix for size, shift, prefix in keys)

    def _open(self) -> Book:
        if self._book is None:
            self._book = self._write()
        return self._book


def _pack(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def render_reverse_name(packed: bytes) -> bytes:
    """``172.18.0.2`` (packed) to ``2.0.18.172.in-addr.arpa``; 16 bytes to their ``ip6.arpa`` name."""
    if len(packed) == 4:
        return ".".join(str(one) for one in reversed(packed)).encode() + b".in-addr.arpa"
    return ".".join(reversed(packed.hex())).encode() + b".ip6.arpa"


def parse_reverse_name(name: bytes) -> bytes | None:
    """The packed address of a complete, lower-case reverse name, otherwise None."""
    try:
        if name.endswith(b".in-addr.arpa"):
            parts = name[:-13].split(b".")
            return bytes(int(one) for one in reversed(parts)) if len(parts) == 4 else None
        if name.endswith(b".ip6.arpa"):
            digits = name[:-9].split(b".")
            return bytes.fromhex(b"".join(reversed(digits)).decode()) if len(digits) == 32 else None
    except ValueError:
        return None
    return None


def _subnet_key(subnet: str) -> tuple[int, int, int]:
    text, _, length = subnet.partition("/")
    packed = _pack(text)
    bits = len(packed) * 8
    shift = bits - int(length)
    return bits, shift, int.from_bytes(packed, "big") >> shift


def build_view(
    networks: Iterable[str],
    endpoints: Iterable[DnsEndpoint],
    *,
    links: Mapping[str, Iterable[str]] | None = None,
    known: Iterable[str] = (),
    subnets: Iterable[str] = (),
) -> View:
    """Build the view of a container that is on `networks` (names).

    `links` gives this container's own names for others: link name -> addresses. `known` are names (services of the
    project) that must never be asked of the outside, even while nothing runs under them. `subnets` are the CIDRs of the
    networks. Every name also answers with ``.network`` behind it.
    """
    visible, names, found = frozenset(networks), tuple(known), tuple(endpoints)
    linked = {link: tuple(addresses) for link, addresses in (links or {}).items()}
    return View(lambda: _write_book(visible, found, linked, names), subnets)


def _write_book(
    visible: Collection[str],
    endpoints: Iterable[DnsEndpoint],
    links: Mapping[str, Iterable[str]],
    known: Iterable[str],
) -> Book:
    names: dict[bytes, Addresses] = {name.lower().encode(): ((), ()) for name in known}
    pointers: dict[bytes, bytes] = {}
    for endpoint in endpoints:
        if endpoint.network not in visible:
            continue
        shown, four, six, reverse = _expand(endpoint.network, endpoint.names, endpoint.ipv4, endpoint.ipv6)
        pointers.update(reverse)
        for name in shown:
            before = names.get(name)
            names[name] = (before[0] + four, before[1] + six) if before else (four, six)
    for link, addresses in links.items():
        own: tuple[dict[bytes, None], dict[bytes, None]] = ({}, {})
        for address in addresses:
            own[":" in address][_pack(address)] = None
        names[link.lower().encode()] = (tuple(own[0]), tuple(own[1]))
    return names, pointers


# Views are built anew for every container that comes or goes; each endpoint is in many of them.
@lru_cache(maxsize=8192)
def _expand(
    network: str, names: tuple[str, ...], ipv4: str | None, ipv6: str | None
) -> tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...], tuple[tuple[bytes, bytes], ...]]:
    """An endpoint's names in lower case, its packed IPv4 and IPv6 addresses, and its reverse names."""
    shown = [one.lower().encode() for name in names for one in (name, f"{name}.{network}")]
    four, six = (() if not one else (_pack(one),) for one in (ipv4, ipv6))
    told = f"{names[0]}.{network}".encode()
    return tuple(dict.fromkeys(shown)), four, six, tuple((render_reverse_name(one), told) for one in four + six)


def parse_nameservers(host_resolv: str) -> tuple[str, ...]:
    """The ``nameserver`` addresses of a resolv.conf text, in order."""
    lines = (line.split() for line in host_resolv.splitlines())
    return tuple(words[1] for words in lines if len(words) >= 2 and words[0] == "nameserver")


def render_resolv_conf(
    dns: Sequence[str],
    dns_search: Sequence[str],
    dns_opt: Sequence[str],
    host_resolv: str,
    *,
    embedded: bool = True,
) -> str:
    """Render a container's resolv.conf. `host_resolv` is the host's, whose search list and options are inherited unless
    given; ``dns_search: .`` means none.

    `embedded`: the container asks our resolver, which asks `dns` or the host's name servers in turn. Otherwise it asks
    those itself (``network_mode: host``).
    """
    search: list[str] = []
    options: list[str] = []
    for line in host_resolv.splitlines():
        words = line.split()
        if words and words[0] in ("search", "domain"):
            search = words[1:]
        elif words and words[0] == "options":
            options += words[1:]
    if dns_search:
        search = [one for one in dns_search if one != "."]
    if dns_opt:
        options = list(dns_opt)
    if embedded and not any(one.startswith("ndots:") for one in options):
        # Service names have no dot: they are asked as they are, before any search domain.
        options.append("ndots:0")
    servers = [RESOLVER_ADDRESS] if embedded else list(dns or parse_nameservers(host_resolv))
    lines = [f"nameserver {one}" for one in servers]
    if search:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


def render_hosts(
    hostname: str,
    addresses: Sequence[str],
    extra_hosts: Sequence[tuple[str, str]] = (),
    *,
    gateways: Sequence[str] = (),
    domainname: str = "",
) -> str:
    """Render a container's hosts file.

    `addresses` are its own (prefixes are dropped), `extra_hosts` (name, address) pairs in which ``host-gateway`` stands
    for each of `gateways`, the host's addresses as the container reaches it.
    """
    lines = []
    for name, address in extra_hosts:
        meant = gateways if address == "host-gateway" else [address.strip("[]")]
        lines += [f"{one.partition('/')[0]}\t{name}\n" for one in meant]
    if hostname:
        full = f"{hostname}.{domainname} {hostname}" if domainname else hostname
        lines += [f"{one.partition('/')[0]}\t{full}\n" for one in addresses]
    return _HOSTS_HEAD + "".join(lines)
