"""Choose subnets for networks and addresses for containers.

Pure and deterministic: what is taken comes as an argument.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from orchestrator.errors import Conflict, EngineError
from orchestrator.model import IpamPool
from orchestrator.record import Record

_NOTHING: Mapping[str, str] = MappingProxyType({})
_BITS = {socket.AF_INET: 32, socket.AF_INET6: 128}


class Subnet(NamedTuple):
    """A block of addresses: `first` is the network address as a number, `length` the prefix length."""

    family: socket.AddressFamily
    first: int
    length: int

    @property
    def last(self) -> int:
        """The last address of the block, as a number."""
        return self.first | (1 << (_BITS[self.family] - self.length)) - 1

    def overlaps(self, other: Subnet) -> bool:
        """True if the two blocks share an address."""
        return self.family == other.family and self.first <= other.last and other.first <= self.last

    def holds(self, address: str) -> bool:
        """True if `address` lies in the block."""
        family, number = parse_address(address)
        return family == self.family and self.first <= number <= self.last

    def __str__(self) -> str:
        return f"{render_address(self.family, self.first)}/{self.length}"


class Pool(Record):
    """What one network hands out: `subnet` (CIDR), the host's `gateway` address, the part that addresses are taken from
    (`ip_range`, CIDR) and the addresses by name that never are."""

    subnet: str
    gateway: str
    ip_range: str | None = None
    aux_addresses: Mapping[str, str] = _NOTHING

    @property
    def is_ipv6(self) -> bool:
        """True for a block of IPv6 addresses."""
        return ":" in self.subnet

    def with_prefix(self, address: str) -> str:
        """``172.18.0.2`` to ``172.18.0.2/16``."""
        return f"{address}/{self.subnet.rpartition('/')[2]}"


def parse_address(text: str) -> tuple[socket.AddressFamily, int]:
    """Return family and number of an address. Raises EngineError for anything else."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return family, int.from_bytes(socket.inet_pton(family, text), "big")
    except OSError:
        raise EngineError(f"{text!r} is not an IP address", resource=text, operation="read an address") from None


def render_address(family: socket.AddressFamily, number: int) -> str:
    """The text of an address given as a number."""
    return socket.inet_ntop(family, number.to_bytes(_BITS[family] // 8, "big"))


def parse_subnet(text: str, *, strict: bool = False) -> Subnet:
    """Read CIDR notation; host bits are cleared (`strict`: refused). Raises EngineError."""
    address, slash, length = text.partition("/")
    family, number = parse_address(address)
    bits = _BITS[family]
    if not slash or not length.isascii() or not length.isdigit() or int(length) > bits:
        message = f"{text!r} is not a subnet"
        hint = "write it as address/length, as in 172.28.0.0/16"
        raise EngineError(message, resource=text, operation="read a subnet", hint=hint)
    size = bits - int(length)
    cleared = number >> size << size
    found = Subnet(family, cleared, int(length))
    if strict and cleared != number:
        message = f"{text!r} has bits set behind its prefix"
        raise EngineError(message, resource=text, operation="read a subnet", hint=f"did you mean {found}?")
    return found


def _candidates4() -> Iterator[Subnet]:
    for second in range(18, 32):
        yield Subnet(socket.AF_INET, 172 << 24 | second << 16, 16)
    for third in range(0, 256, 16):
        yield Subnet(socket.AF_INET, 192 << 24 | 168 << 16 | third << 8, 20)
    # When those are used up: small blocks in 10/8, from its far end, which people use least.
    for number in range((1 << 16) - 1, -1, -1):
        yield Subnet(socket.AF_INET, 10 << 24 | number << 8, 24)


def _candidates6(seed: str) -> Iterator[Subnet]:
    """Unique local blocks (RFC 4193) whose global id derives from `seed`, so that a network keeps its block."""
    from hashlib import sha256

    for attempt in range(1 << 16):
        digest = sha256(f"{seed}/{attempt}".encode()).digest()
        yield Subnet(socket.AF_INET6, (0xFD << 56 | int.from_bytes(digest[:7], "big")) << 64, 64)


def _pick_subnet(candidates: Iterable[Subnet], taken: Sequence[Subnet]) -> Subnet:
    for one in candidates:
        if not any(one.overlaps(other) for other in taken):
            return one
    raise Conflict(
        "no subnet is left for another network",
        operation="create a network",
        hint="remove networks that are not used, or give this one a subnet under ipam.config",
    )


def plan_pools(
    config: Sequence[IpamPool],
    *,
    seed: str,
    ipv4: bool = True,
    ipv6: bool = False,
    networks: Iterable[str] = (),
    host: Iterable[str] = (),
) -> tuple[Pool, ...]:
    """Settle a network's subnets, at most one for each family: the configured ones, and a picked one where none is.

    `networks` are the CIDRs of the engine's other networks, `host` those that the host has addresses in or routes
    to: a picked subnet avoids both, a configured one may lie in the host's, but not in another network's. `seed`
    (the network's name) determines the IPv6 block. Raises Conflict for an overlap or when nothing is left,
    EngineError for a configuration that contradicts itself.
    """
    others = [parse_subnet(one) for one in networks]
    avoid = others + [parse_subnet(one) for one in host]
    # A configured pool without a subnet only refines the picked one; only its first part can.
    pools: list[Pool] = []
    for entry in config:
        if entry.subnet is None:
            continue
        subnet = parse_subnet(entry.subnet, strict=True)
        clash = next((other for other in others if other.overlaps(subnet)), None)
        if clash is not None:
            raise Conflict(
                f"the subnet {subnet} overlaps with {clash} of another network",
                resource=str(subnet),
                operation="create a network",
                hint="choose another subnet, or leave it out to have a free one picked",
            )
        if any(parse_subnet(pool.subnet).family == subnet.family for pool in pools):
            family = "IPv6" if subnet.family == socket.AF_INET6 else "IPv4"
            message = f"a network takes one {family} subnet, {subnet} is another one"
            raise EngineError(message, resource=str(subnet), operation="create a network")
        pools.append(_settle_pool(subnet, entry))
    loose = next((entry for entry in config if entry.subnet is None), None)
    if ipv4 and not any(not pool.is_ipv6 for pool in pools):
        pools.insert(0, _settle_pool(_pick_subnet(_candidates4(), avoid), loose))
    if ipv6 and not any(pool.is_ipv6 for pool in pools):
        pools.append(_settle_pool(_pick_subnet(_candidates6(seed), avoid), None))
    return tuple(pool for pool in pools if (ipv6 if pool.is_ipv6 else ipv4))


def _settle_pool(subnet: Subnet, entry: IpamPool | None) -> Pool:
    reserved = dict(entry.aux_addresses) if entry else {}
    ip_range = entry.ip_range if entry else None
    for what, address in [("gateway", entry.gateway if entry else None), *reserved.items()]:
        if address is not None and not subnet.holds(address):
            message = f"the {what} address {address} is not in the subnet {subnet}"
            raise EngineError(message, resource=str(subnet), operation="create a network")
    if ip_range is not None:
        part = parse_subnet(ip_range)
        if part.family != subnet.family or part.first < subnet.first or part.last > subnet.last:
            message = f"the ip_range {ip_range} is not in the subnet {subnet}"
            raise EngineError(message, resource=str(subnet), operation="create a network")
    gateway = entry.gateway if entry else None
    if gateway is None:
        free = _list_hosts(subnet)
        if free.start >= free.stop:
            message = f"the subnet {subnet} has no room for a gateway and containers"
            raise EngineError(message, resource=str(subnet), operation="create a network")
        gateway = render_address(subnet.family, next(one for one in free if not _is_reserved(one, subnet, reserved)))
    return Pool(subnet=str(subnet), gateway=gateway, ip_range=ip_range, aux_addresses=reserved)


def _is_reserved(number: int, subnet: Subnet, reserved: Mapping[str, str]) -> bool:
    return any(parse_address(one) == (subnet.family, number) for one in reserved.values())


def _list_hosts(subnet: Subnet) -> range:
    """The numbers that hosts can have: without the network and the IPv4 broadcast address, but all of a /31 or /127."""
    bits = _BITS[subnet.family]
    if subnet.length >= bits - 1:
        return range(subnet.first, subnet.last + 1)
    return range(subnet.first + 1, subnet.last + (subnet.family == socket.AF_INET6))


def plan_address(pool: Pool, used: Collection[str], *, wanted: str | None = None, first: str | None = None) -> str:
    """Choose a container's address in `pool`: `wanted` if it is free, else the lowest free one (of `ip_range`).

    `used` are the addresses that other containers hold, without prefix. The search begins at `first` and wraps, so
    that a caller who remembers the last one need not walk over a full network. Raises Conflict if `wanted` is held
    or none is left, EngineError if `wanted` cannot be a container's address there.
    """
    subnet = parse_subnet(pool.subnet)
    hosts = _list_hosts(subnet)
    blocked = {parse_address(one)[1] for one in (pool.gateway, *pool.aux_addresses.values())}
    held = {number for family, number in map(parse_address, used) if family == subnet.family}
    if wanted is not None:
        family, number = parse_address(wanted)
        if family != subnet.family or number not in hosts:
            message = f"{wanted} is not a container's address in {subnet}"
            raise EngineError(message, resource=wanted, operation="assign an address")
        if number in held or number == parse_address(pool.gateway)[1]:
            holder = "the network's gateway" if number not in held else "another container"
            message = f"the address {wanted} is held by {holder}"
            raise Conflict(message, resource=wanted, operation="assign an address")
        return render_address(family, number)
    if pool.ip_range is not None:
        part = parse_subnet(pool.ip_range)
        hosts = range(max(hosts.start, part.first), min(hosts.stop, part.last + 1))
    begin = parse_address(first)[1] if first else hosts.start
    begin = begin if begin in hosts else hosts.start
    for run in (range(begin, hosts.stop), range(hosts.start, begin)):
        for number in run:
            if number not in held and number not in blocked:
                return render_address(subnet.family, number)
    raise Conflict(
        f"no address is left in {pool.ip_range or pool.subnet}",
        resource=pool.subnet,
        operation="assign an address",
        hint="give the network a larger subnet under ipam.config",
    )


def derive_mac(address: str) -> str:
    """A locally administered MAC address made from an IP address: who takes over the one has the other.

    Neighbours that remember the pair are then never wrong.
    """
    number = parse_address(address)[1] & 0xFFFFFFFF
    return "02:42:" + number.to_bytes(4, "big").hex(":")
