"""The short syntax of ``ports``: ``[HOST:]CONTAINER[/PROTOCOL]`` with ranges and addresses."""

from __future__ import annotations

from typing import Any

PROTOCOLS = ("tcp", "udp", "sctp")
_LARGEST_RANGE = 65_536


class PortError(Exception):
    """A port specification that cannot be meant; `code` and `hint` go into the diagnostic."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def parse_ports(spec: str) -> list[dict[str, Any]]:
    """Expand one short port specification into its canonical mappings. Raises PortError.

    ``3000-3002`` and ``9000-9002:8000-8002`` become one mapping per container port; ``6000-6002:7000`` stays one whose
    published port is picked from the range.
    """
    address, protocol = _split_protocol(spec)
    host_ip, published, target = _split_fields(address, spec)
    first, last = parse_range(target, "container port")
    host_first, host_last = parse_range(published, "published port") if published else (0, 0)
    size = last - first
    if published and size != host_last - host_first and size != 0:
        raise PortError(
            "port-range-mismatch",
            f"{published} and {target} are ranges of different sizes",
            f"did you mean {host_first}-{host_first + size}:{target}?",
        )
    numbers = range(first, last + 1)
    ports = []
    for target_port in sorted(numbers, key=lambda port: f"{port}/{protocol}") if size else numbers:
        port: dict[str, Any] = {"mode": "ingress", "target": target_port, "protocol": protocol}
        if published:
            single = host_first + target_port - first
            port["published"] = published if size == 0 and host_last != host_first else str(single)
        if host_ip:
            port["host_ip"] = host_ip
        ports.append(port)
    return ports


def _split_protocol(spec: str) -> tuple[str, str]:
    address, _, protocol = spec.partition("/")
    # What follows a second slash is nothing to the reference.
    protocol = protocol.partition("/")[0].lower() or "tcp"
    if protocol not in PROTOCOLS:
        raise PortError("bad-port", f"{protocol!r} is no protocol", "use tcp, udp or sctp")
    return address, protocol


def _split_fields(address: str, spec: str) -> tuple[str, str, str]:
    head, _, target = address.rpartition(":")
    host, _, published = head.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not target:
        raise PortError("bad-port", f"no container port in {spec!r}", "write HOST:CONTAINER, as in 8080:80")
    if host:
        check_address(host)
    return host, published, target


def parse_range(text: str, what: str) -> tuple[int, int]:
    """Parse ``8000`` or ``8000-8010`` into first and last. Raises PortError that calls the port `what`."""
    start, dash, end = text.partition("-")
    first = _parse_port(start, text, what)
    last = _parse_port(end, text, what) if dash else first
    if last < first:
        raise PortError("port-range-reversed", f"{text} ends before it begins", f"did you mean {last}-{first}?")
    return first, last


def _parse_port(text: str, whole: str, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise PortError("bad-port", f"{whole!r} is no {what}", "a port is a number from 0 to 65535, or a range of them")
    number = int(text)
    if number > 65_535:
        raise PortError("bad-port", f"{what} {number} is out of range", "ports end at 65535")
    return number


def check_address(text: str) -> None:
    """Raise PortError unless `text` is an IPv4 or IPv6 address."""
    if not is_address(text):
        hint = "did you mean 127.0.0.1?" if text == "localhost" else "write ADDRESS:HOST:CONTAINER/PROTOCOL"
        raise PortError("bad-address", f"{text!r} is no IP address", hint)


def is_address(text: str, family: int = 0) -> bool:
    """Tell whether `text` is an IP address, of `family` 4 or 6 where given."""
    # The common case without the cost of importing ipaddress (4 ms).
    parts = text.split(".")
    if len(parts) == 4 and ":" not in text:
        return family != 6 and all(
            part.isascii() and part.isdigit() and len(part) <= 3 and int(part) < 256 and (part[0] != "0" or part == "0")
            for part in parts
        )
    if ":" not in text or "%" in text or family == 4:
        return False
    from ipaddress import IPv6Address

    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
