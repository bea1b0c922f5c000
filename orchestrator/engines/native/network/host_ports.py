"""Ports of the host: whether one can be published, who holds it, a free one."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection
from contextlib import suppress

from orchestrator.errors import Conflict, EngineError, Unsupported

EPHEMERAL = (32768, 60999)
"""The range that random host ports come from, both ends included."""

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_LISTEN_BACKLOG = 4096


def open_host_socket(host_ip: str, port: int, protocol: str) -> socket.socket:
    """Bind a host port and listen on it (TCP), non-blocking: from now on no other program can take it.

    `host_ip` "" is every address, IPv4 and IPv6 with one socket. Raises Conflict that names the holder, EngineError
    for an address that is not the host's, Unsupported for a protocol without sockets here.
    """
    if protocol not in _KINDS:
        raise Unsupported(f"ports of the protocol {protocol} cannot be held", operation="publish a port")
    both = host_ip == "" and socket.has_ipv6 and os.path.exists("/proc/net/if_inet6")
    family = socket.AF_INET6 if both or ":" in host_ip else socket.AF_INET
    opened = socket.socket(family, _KINDS[protocol] | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        if protocol == "tcp":
            # Connections of the last holder that linger in TIME_WAIT are no reason to refuse.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host_ip, port))
        if protocol == "tcp":
            opened.listen(_LISTEN_BACKLOG)
    except OSError as error:
        opened.close()
        raise _explain(error, host_ip, port, protocol) from None
    return opened


def _show(host_ip: str, port: int) -> str:
    return f"[{host_ip}]:{port}" if ":" in host_ip else f"{host_ip or '*'}:{port}"


def _explain(error: OSError, host_ip: str, port: int, protocol: str) -> EngineError:
    place = f"{_show(host_ip, port)}/{protocol}"
    if error.errno == errno.EADDRINUSE:
        holder = find_port_holder(host_ip, port, protocol) or "another program"
        return Conflict(
            f"the port {place} is taken by {holder}",
            resource=place,
            operation="publish a port",
            hint="publish another port, or stop what holds this one",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        hint = "`ip addr` lists the addresses of this host"
        message = f"{host_ip} is not an address of this host"
        return EngineError(message, resource=place, operation="publish a port", hint=hint)
    hint = "ports below 1024 need root" if error.errno == errno.EACCES else ""
    return EngineError(
        f"cannot publish {place}: {error.strerror}", resource=place, operation="publish a port", hint=hint
    )


def check_port_free(host_ip: str, port: int, protocol: str) -> str | None:
    """None if the port can be bound, otherwise who holds it (``nginx (pid 123)``). Blocking.

    Raises EngineError if it cannot be bound for another reason.
    """
    try:
        open_host_socket(host_ip, port, protocol).close()
    except Conflict:
        return find_port_holder(host_ip, port, protocol) or "another program"
    return None


def require_port_free(host_ip: str, port: int, protocol: str) -> None:
    """:func:`check_port_free`, as an error: Conflict that names the holder."""
    holder = check_port_free(host_ip, port, protocol)
    if holder is not None:
        raise Conflict(
            f"host port {port}/{protocol} is taken by {holder}",
            resource=f"{port}/{protocol}",
            operation="publish port",
            hint="stop that program, or publish another port",
        )


def allocate_free_port(
    host_ip: str, protocol: str, *, taken: Collection[int] = (), within: tuple[int, int] = EPHEMERAL
) -> int:
    """Pick a host port that can be bound and is not in `taken` (leases). Raises Conflict if there is none. Blocking.

    Nothing holds it yet when this returns: lease it, then open it.
    """
    first, last = within
    size = last - first + 1
    start = int.from_bytes(os.urandom(4), "big") % size
    for step in range(size):
        port = first + (start + step) % size
        if port in taken:
            continue
        try:
            open_host_socket(host_ip, port, protocol).close()
        except Conflict:
            continue
        return port
    raise Conflict(f"no host port between {first} and {last} is free", operation="publish a port")


def _decode_address(text: str) -> str:
    # The kernel prints each 32-bit word as a number in the machine's own byte order.
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET6 if len(packed) == 16 else socket.AF_INET, packed)


def _find_inodes(host_ip: str, port: int, protocol: str) -> list[str]:
    """Inodes of sockets in the way, exact addresses before wildcards."""
    found = []
    for table in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/net/{table}") as file:
                lines = file.readlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            words = line.split()
            address, _, shown = words[1].partition(":")
            # 0A is LISTEN; a bound UDP socket is 07.
            if int(shown, 16) != port or words[3] not in ("0A", "07"):
                continue
            held = _decode_address(address)
            wild = held in ("0.0.0.0", "::")
            if wild or host_ip in ("", "0.0.0.0", "::", held) or held == f"::ffff:{host_ip}":
                found.append((wild, words[9]))
    return [inode for _wild, inode in sorted(found)]


def find_port_holder(host_ip: str, port: int, protocol: str) -> str | None:
    """Who holds a port: ``name (pid 123)``, or None if that cannot be seen. Slow: looks through every process."""
    wanted = {f"socket:[{inode}]" for inode in _find_inodes(host_ip, port, protocol) if inode != "0"}
    if not wanted:
        return None
    for pid in sorted((one for one in os.listdir("/proc") if one.isdigit()), key=int):
        with suppress(OSError):
            if any(_read_target(f"/proc/{pid}/fd/{one}") in wanted for one in os.listdir(f"/proc/{pid}/fd")):
                with open(f"/proc/{pid}/comm") as file:
                    return f"{file.read().strip()} (pid {pid})"
    return None


def _read_target(descriptor: str) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:  # closed meanwhile, as that of the listing itself is
        return ""
