"""What ``driver_opts`` of a bridge network mean. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.errors import EngineError, Unsupported
from orchestrator.record import Record

_PREFIX = "com.docker.network."
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


class BridgeOptions(Record):
    """`name` of the link on the host ("": the engine's choice), `mtu` (0: the kernel's), whether containers reach each
    other (`icc`), whether what leaves takes the host's address (`masquerade`), whether every port is reachable from
    outside without translation (`routed`), the address that ports without one are published at (`host_ip`), the prefix
    of the names of links inside containers."""

    name: str = ""
    mtu: int = 0
    icc: bool = True
    masquerade: bool = True
    routed: bool = False
    host_ip: str = ""
    container_prefix: str = "eth"


def _parse_bool(key: str, value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise EngineError(
        f"driver_opts {key}: {value!r} is neither true nor false", resource=key, operation="create a network"
    )


def _parse_mtu(key: str, value: str) -> int:
    if value.isascii() and value.isdigit() and (value == "0" or 68 <= int(value) <= 65535):
        return int(value)
    raise EngineError(f"driver_opts {key}: {value!r} is not an MTU", resource=key, operation="create a network")


def _parse_mode(key: str, value: str) -> bool:
    if value in ("nat", "routed"):
        return value == "routed"
    raise Unsupported(
        f"driver_opts {key}: {value!r} is not supported",
        resource=key,
        operation="create a network",
        hint="nat or routed",
    )


def _parse_name(key: str, value: str) -> str:
    if (
        0 < len(value.encode()) <= 15
        and value not in (".", "..")
        and not any(one in "/:" or one.isspace() for one in value)
    ):
        return value
    message = f"driver_opts {key}: {value!r} cannot be a link's name"
    raise EngineError(message, resource=key, operation="create a network", hint="at most 15 characters, no / or spaces")


def parse_bridge_options(driver_opts: Mapping[str, str]) -> BridgeOptions:
    """Read the options of a bridge network.

    Raises Unsupported for a key that is not known, EngineError for a bad value.
    """
    found = BridgeOptions()
    for key, raw in sorted(driver_opts.items()):
        value = str(raw)
        match key.removeprefix(_PREFIX):
            case "bridge.name":
                found = found.replace(name=_parse_name(key, value))
            case "driver.mtu" | "bridge.mtu":
                found = found.replace(mtu=_parse_mtu(key, value))
            case "bridge.enable_icc":
                found = found.replace(icc=_parse_bool(key, value))
            case "bridge.enable_ip_masquerade":
                found = found.replace(masquerade=_parse_bool(key, value))
            case "bridge.host_binding_ipv4":
                found = found.replace(host_ip="" if value == "0.0.0.0" else value)
            case "container_iface_prefix":
                found = found.replace(container_prefix=_parse_name(key, value))
            case "bridge.gateway_mode_ipv4" | "bridge.gateway_mode_ipv6":
                if _parse_mode(key, value):
                    found = found.replace(routed=True, masquerade=False)
            case "bridge.default_bridge" | "bridge.trusted_host_interfaces":
                raise Unsupported(f"driver_opts {key} is not supported", resource=key, operation="create a network")
            case _:
                raise Unsupported(
                    f"driver_opts {key} is not an option of bridge networks", resource=key, operation="create a network"
                )
    return found
