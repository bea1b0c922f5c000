"""What the native engine cannot honour: each such attribute is reported at its line, none is dropped in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.engines.native.swarm import find_ignored
from orchestrator.errors import Diagnostic, EngineError
from orchestrator.model import Service, Stack
from orchestrator.source import Path, render_path

_NOT_YET = "is not supported yet"
_WINDOWS = "is for Windows containers"

_REFUSED: Mapping[Path, str] = {
    ("cpu_count",): _WINDOWS,
    ("cpu_percent",): _WINDOWS,
    ("credential_spec",): _WINDOWS,
    ("isolation",): _WINDOWS,
    ("models",): _NOT_YET,
    ("storage_opt",): _NOT_YET,
    ("use_api_socket",): "asks for the socket of an engine that has none: the native engine is daemonless",
}

_NETWORK_MODES = ("none", "host", "bridge", "default")
_NETWORK_DRIVERS = ("bridge", "default", "macvlan", "ipvlan")


def check_stack(stack: Stack) -> Sequence[Diagnostic]:
    """Every attribute of `stack` that the native engine cannot honour. Pure."""
    found = [one for name in sorted(stack.services) for one in _check_service(stack, stack.services[name])]
    found.extend(_check_networks(stack))
    found.extend(_check_volumes(stack))
    found.extend(_check_files(stack))
    found.extend(find_ignored(stack))
    return found


def _check_service(stack: Stack, service: Service) -> Iterator[Diagnostic]:
    base: Path = ("services", service.name)
    for path, reason in _REFUSED.items():
        if _has(service.config, path):
            yield _diagnose(stack, base + path, f"{path[-1]} {reason}")
    if service.userns_mode not in (None, "", "host"):
        yield _diagnose(stack, (*base, "userns_mode"), f"userns_mode {service.userns_mode} {_NOT_YET}", hint="host")
    yield from _check_network_mode(stack, service)
    yield from _check_reference(stack, service)
    for index, mount in enumerate(service.volumes):
        if mount.type in ("npipe", "cluster"):
            yield _diagnose(stack, (*base, "volumes", index), f"mounts of type {mount.type} {_NOT_YET}")
        if not mount.target.startswith("/"):
            drive = len(mount.target) > 2 and mount.target[0].isalpha() and mount.target[1:3] == ":/"
            yield _diagnose(
                stack,
                (*base, "volumes", index),
                f"the mount target {mount.target} is not an absolute path",
                hint="a name of one letter is read as a Windows drive: use a longer one" if drive else "",
            )
        elif not mount.target.strip("/."):
            hint = "mount it at a folder of its own: /data"
            message = f"a mount at {mount.target} would hide all that the image has"
            yield _diagnose(stack, (*base, "volumes", index), message, hint=hint)
    for name, address in service.extra_hosts:
        if address != "host-gateway" and not _is_address(address):
            yield _diagnose(stack, (*base, "extra_hosts"), f"{name}={address}: {address} is not an IP address")
    for index, port in enumerate(service.ports):
        if port.protocol not in ("tcp", "udp"):
            yield _diagnose(stack, (*base, "ports", index), f"publishing {port.protocol} ports {_NOT_YET}")


def _check_network_mode(stack: Stack, service: Service) -> Iterator[Diagnostic]:
    mode = service.network_mode
    if not mode or mode in _NETWORK_MODES or mode.startswith(("service:", "container:")):
        return
    from difflib import get_close_matches

    near = get_close_matches(mode, _NETWORK_MODES, 1)
    hint = f"did you mean {near[0]}?" if near else f"a network is joined with networks: [{mode}]"
    message = f"there is no network mode {mode!r}"
    yield _diagnose(stack, ("services", service.name, "network_mode"), message, hint=hint)


def _check_reference(stack: Stack, service: Service) -> Iterator[Diagnostic]:
    # An image may go by its identifier, too.
    if not service.image or service.image.startswith("sha256:"):
        return
    from orchestrator.engines.native.images.failures import InvalidReference
    from orchestrator.engines.native.images.reference import parse_reference

    try:
        parse_reference(service.image)
    except InvalidReference as error:
        yield _diagnose(stack, ("services", service.name, "image"), error.message, hint=error.hint)


def _check_networks(stack: Stack) -> Iterator[Diagnostic]:
    for key in sorted(stack.networks):
        network = stack.networks[key]
        if network.external:
            continue
        if network.driver not in (None, "", *_NETWORK_DRIVERS):
            yield _diagnose(
                stack,
                ("networks", key, "driver"),
                f"the native engine has no network driver {network.driver}",
                hint="bridge, macvlan or ipvlan",
            )
        elif network.driver in (None, "", "bridge", "default"):
            yield from _check_bridge_options(stack, key, network.driver_opts)
        if network.ipam_driver not in (None, "", "default"):
            yield _diagnose(stack, ("networks", key, "ipam", "driver"), f"no IPAM driver {network.ipam_driver}")


def _check_bridge_options(stack: Stack, key: str, options: Mapping[str, str]) -> Iterator[Diagnostic]:
    from orchestrator.engines.native.network.bridge_options import parse_bridge_options

    try:
        parse_bridge_options({name: str(value) for name, value in options.items()})
    except EngineError as error:
        yield _diagnose(stack, ("networks", key, "driver_opts"), error.message, hint=error.hint)


def _check_volumes(stack: Stack) -> Iterator[Diagnostic]:
    for key in sorted(stack.volumes):
        volume = stack.volumes[key]
        if not volume.external and volume.driver not in (None, "", "local", "default"):
            message = f"the native engine has no volume driver {volume.driver}"
            yield _diagnose(stack, ("volumes", key, "driver"), message, hint="local")


def _check_files(stack: Stack) -> Iterator[Diagnostic]:
    for kind, sources in (("secrets", stack.secrets), ("configs", stack.configs)):
        used = {one.source for service in stack.services.values() for one in getattr(service, kind)}
        for key in sorted(used & sources.keys()):
            if sources[key].external:
                hint = "use file, environment or content"
                yield _diagnose(stack, (kind, key), f"external {kind} {_NOT_YET.replace('is', 'are')}", hint=hint)


def _is_address(text: str) -> bool:
    import socket

    bare = text.strip("[]")
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in bare else socket.AF_INET, bare)
    except OSError:
        return False
    return True


def _has(config: Mapping[str, Any], path: Path) -> bool:
    value: Any = config
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return value not in (None, "", [], {})


def _diagnose(stack: Stack, path: Path, message: str, *, hint: str = "") -> Diagnostic:
    return Diagnostic(
        code="unsupported-by-engine",
        message=message,
        location=stack.sources.locate(path),
        path=render_path(path),
        hint=hint,
    )
