"""What a stack file may say although nothing can run it: words that mean nothing, addresses that are none.

The reference implementation prints such a model and fails when it starts it. Here the model loads as well, so that
``config`` prints it with a warning at the line, and what would run it is refused with the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.errors import CannotRun, Diagnostic, Severity
from orchestrator.source import Location, Path, render_path
from orchestrator.spec.attribute_faults import report_attributes
from orchestrator.spec.ports import PROTOCOLS, PortError, is_address, parse_range

if TYPE_CHECKING:
    from orchestrator.model import Stack

_RESTART = re.compile(r"no|always|unless-stopped|on-failure(:[0-9]{1,9})?")
_RESTART_WORDS = ("no", "always", "on-failure", "unless-stopped")
_CONDITIONS = ("none", "on-failure", "any", "unless-stopped", "always", "no")
_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_VOLUME_NAME = _CONTAINER_NAME
_MOUNTS = ("bind", "volume", "tmpfs", "cluster", "npipe", "image")
_EMPTY = "an unset variable becomes empty; give it a default: ${NAME:-value}"
_SIZES = ("mem_limit", "mem_reservation", "shm_size")


Locate = Callable[[Path], Location | None]


def check_faults(stack: Stack, services: Iterable[str]) -> None:
    """Raise CannotRun if something that `services` say keeps them from running."""
    found = [one for _, one in find_faults(stack.tree, stack.sources.locate, services)]
    if found:
        raise CannotRun(found)


def find_faults(
    tree: Mapping[str, Any], locate: Locate, services: Iterable[str] = (), *, severity: Severity = "error"
) -> list[tuple[Path, Diagnostic]]:
    """Return what keeps `services` (all without any), their networks and volumes from running, sorted by place.

    `tree` is canonical, or what becomes it.
    """
    faults = _Faults(locate, severity)
    used: dict[str, set[str]] = {"networks": set(), "volumes": set()}
    every = tree.get("services") or {}
    for name in services or every:
        config = every[name]
        for holder in (config, *(config.get("pre_start") or ())):
            used["networks"].update(holder.get("networks") or ())
            used["volumes"].update(mount.get("source") or "" for mount in holder.get("volumes") or ())
        faults.check_service(name, config)
    for section, names in used.items():
        for key in names & (tree.get(section) or {}).keys():
            faults.check_resource(section, key, tree[section][key])
    return sorted(faults.found, key=lambda one: (one[1].location or ("", 0, 0), one[1].path))


def _suggest(word: str, known: tuple[str, ...]) -> str:
    from orchestrator.spec.casts import suggest_name

    return suggest_name(word, known)


def is_subnet(text: str) -> bool:
    """Tell whether `text` is an address and a prefix length, host bits allowed."""
    address, slash, prefix = text.partition("/")
    if not is_address(address) or not slash or not prefix.isascii() or not prefix.isdigit() or len(prefix) > 3:
        return False
    return int(prefix) <= (128 if ":" in address else 32)


class _Faults:
    def __init__(self, locate: Locate, severity: Severity) -> None:
        self.found: list[tuple[Path, Diagnostic]] = []
        self._locate = locate
        self._severity = severity
        self._base: Path = ()

    def _report(self, code: str, message: str, *path: str | int, hint: str = "") -> None:
        full = (*self._base, *path)
        self.found.append(
            (full, Diagnostic(code, message, self._locate(full), render_path(full), hint, self._severity))
        )

    def check_service(self, name: str, config: Any) -> None:
        self._base = ("services", name)
        self._check_restart(config)
        own = config.get("container_name")
        if own and not _CONTAINER_NAME.fullmatch(own):
            hint = "a name is letters, digits, '_', '.' and '-', and begins with a letter or digit"
            self._report("bad-name", f"{own!r} is no container name", "container_name", hint=hint)
        for index, port in enumerate(config.get("ports") or ()):
            self._check_port(index, port)
        self._check_container(config)
        report_attributes(config, self._report)
        check = config.get("healthcheck") or {}
        if check.get("start_interval") and not check.get("start_period"):
            message = "healthcheck.start_interval requires healthcheck.start_period to be set"
            hint = "say how long the service takes to start: start_period: 30s"
            self._report("conflicting-attributes", message, "healthcheck", "start_interval", hint=hint)
        build = config.get("build")
        if build is not None and not build.get("context"):
            self._report("missing-attribute", "the build context is empty", "build", hint=_EMPTY)
        for index, hook in enumerate(config.get("pre_start") or ()):
            self._base = ("services", name, "pre_start", index)
            self._check_container(hook)
            if hook.get("per_replica"):
                message = "per_replica is not supported: the command runs once, before the first container starts"
                self._report("not-supported", message, "per_replica", hint="remove it, or set it to false")

    def _check_container(self, config: Any) -> None:
        for index, mount in enumerate(config.get("volumes") or ()):
            self._check_mount(index, mount)
        for key, attachment in (config.get("networks") or {}).items():
            for attribute, family in (("ipv4_address", 4), ("ipv6_address", 6)):
                address = (attachment or {}).get(attribute)
                if address and not is_address(address, family):
                    message = f"{address!r} is no IPv{family} address"
                    self._report("bad-address", message, "networks", key, attribute)
        for attribute in _SIZES:
            if str(config.get(attribute, "")).startswith("-"):
                self._report("bad-size", f"{attribute} is {config[attribute]}, less than nothing", attribute)
        for index, device in enumerate(config.get("devices") or ()):
            if not device.get("source"):
                self._report("bad-device", "the device has no source", "devices", index, hint=_EMPTY)

    def _check_restart(self, config: Any) -> None:
        restart = config.get("restart")
        if restart and not _RESTART.fullmatch(restart):
            hint = _suggest(restart, _RESTART_WORDS) or "use no, always, on-failure[:N] or unless-stopped"
            self._report("not-allowed", f"{restart!r} is no restart policy", "restart", hint=hint)
        policy = (config.get("deploy") or {}).get("restart_policy") or {}
        condition = policy.get("condition")
        if condition and condition not in _CONDITIONS:
            message = f"{condition!r} is no restart condition"
            hint = _suggest(condition, _CONDITIONS[:3]) or "use none, on-failure or any"
            self._report("not-allowed", message, "deploy", "restart_policy", "condition", hint=hint)

    def _check_port(self, index: int, port: Any) -> None:
        try:
            target = port.get("target", 0)
            if not 0 < target < 65_536:
                raise PortError("bad-port", f"container port {target} is out of range", "ports go from 1 to 65535")
            if port.get("published"):
                parse_range(port["published"], "published port")
            if port.get("host_ip") and not is_address(port["host_ip"]):
                raise PortError("bad-address", f"{port['host_ip']!r} is no IP address")
            protocol = port.get("protocol", "tcp")
            if protocol not in PROTOCOLS:
                raise PortError("bad-port", f"{protocol!r} is no protocol", "use tcp, udp or sctp")
        except PortError as error:
            self._report(error.code, str(error), "ports", index, hint=error.hint)

    def _check_mount(self, index: int, mount: Any) -> None:
        kind = mount.get("type")
        if kind not in _MOUNTS:
            hint = _suggest(str(kind), _MOUNTS) or f"use one of {', '.join(_MOUNTS)}"
            self._report("not-allowed", f"{kind!r} is no type of mount", "volumes", index, "type", hint=hint)

    def check_resource(self, section: str, key: str, config: Any) -> None:
        self._base = (section, key)
        if not config.get("name"):
            self._report("missing-attribute", "the name is empty", "name", hint=_EMPTY)
        elif section == "volumes" and not _VOLUME_NAME.fullmatch(config["name"]):
            hint = "a name is letters, digits, '_', '.' and '-'; a folder of the host is mounted as ./folder:/target"
            self._report("bad-name", f"{config['name']!r} is no name of a volume", "name", hint=hint)
        for index, pool in enumerate((config.get("ipam") or {}).get("config") or ()):
            here = ("ipam", "config", index)
            for attribute in ("subnet", "ip_range"):
                subnet = pool.get(attribute)
                if subnet and not is_subnet(subnet):
                    hint = "write 172.28.0.0/16"
                    self._report("bad-address", f"{subnet!r} is no subnet", *here, attribute, hint=hint)
            gateway = pool.get("gateway")
            if gateway and not is_address(gateway):
                self._report("bad-address", f"{gateway!r} is no IP address", *here, "gateway")
