"""How registries are reached: mirrors, plain HTTP, certificates.

Read, the later ones adding to the earlier: containers' ``registries.conf`` (version 2, with its drop-in folder),
Docker's ``daemon.json`` (``insecure-registries``, ``registry-mirrors``), and our own ``registries.conf`` of the same
form in ``/etc/stack`` or ``$XDG_CONFIG_HOME/stack``. ``STACK_REGISTRIES_CONF`` names one file that is read instead.
``[aliases]`` counts in our own file only: in a Compose file ``fedora`` is Docker Hub's, whatever podman makes of it.
Certificates are found where Docker and containers look: ``certs.d/<host[:port]>/{*.crt,*.cert,*.key}``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.engines.native.images.failures import UnsupportedImage
from orchestrator.engines.native.images.reference import Reference, parse_reference, render_familiar
from orchestrator.errors import StackError, UsageError

_HUB = "registry-1.docker.io"
_DAEMON = Path("/etc/docker/daemon.json")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to ask for a repository: `host` is ``name[:port]``, `path` the repository there.

    `plain` allows HTTP and certificates that cannot be verified; `mirror` answers may be missing or stale, so the next
    endpoint is tried.
    """

    host: str
    path: str
    plain: bool = False
    mirror: bool = False
    digest_only: bool = False
    tag_only: bool = False

    @property
    def name(self) -> str:
        """Host and repository."""
        return f"{self.host}/{self.path}"


@dataclass(frozen=True, slots=True)
class RegistryRule:
    """One ``[[registry]]`` table. `prefix` selects references; the longest match decides."""

    prefix: str
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mapping[str, Any], ...] = ()
    mirror_by_digest_only: bool = False


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Everything that is configured about registries."""

    rules: tuple[RegistryRule, ...] = ()
    insecure: tuple[str, ...] = ()
    hub_mirrors: tuple[str, ...] = ()
    certificates: tuple[Path, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def resolve_endpoints(self, reference: Reference) -> tuple[Endpoint, ...]:
        """Where to ask, in order: mirrors first, the registry itself last. Raises UnsupportedImage if it is blocked."""
        if alias := self.aliases.get(render_familiar(reference.name)):
            named = parse_reference(alias)
            reference = reference._replace(host=named.host, path=named.path)
        rule = self._match(reference)
        if rule is None:
            path = reference.path
            mirrors = [
                self._endpoint(one, path, mirror=True)
                for one in (self.hub_mirrors if reference.host == "docker.io" else ())
            ]
            return (*mirrors, self._endpoint(reference.host, path))
        if rule.blocked:
            raise UnsupportedImage(
                f"the registry {rule.prefix} is blocked by the configuration",
                resource=str(reference),
                operation="resolve registry",
                hint="see 'blocked' in registries.conf",
            )
        rest = reference.name[len(rule.prefix) :].lstrip("/") if not rule.prefix.startswith("*.") else reference.path
        found = []
        for mirror in rule.mirrors:
            mode = mirror.get("pull-from-mirror", "digest-only" if rule.mirror_by_digest_only else "all")
            found.append(
                self._endpoint(
                    mirror["location"],
                    rest,
                    insecure=bool(mirror.get("insecure")),
                    mirror=True,
                    digest_only=mode == "digest-only",
                    tag_only=mode == "tag-only",
                )
            )
        own = rule.location or ("" if rule.prefix.startswith("*.") else rule.prefix)
        found.append(self._endpoint(own or reference.host, rest, insecure=rule.insecure))
        return tuple(found)

    def _match(self, reference: Reference) -> RegistryRule | None:
        def fits(prefix: str) -> bool:
            if prefix.startswith("*."):
                return reference.host.partition(":")[0].endswith(prefix[1:])
            return reference.name == prefix or reference.name.startswith(f"{prefix}/")

        return max((rule for rule in self.rules if fits(rule.prefix)), key=lambda one: len(one.prefix), default=None)

    def _endpoint(self, location: str, path: str, *, insecure: bool = False, **kind: bool) -> Endpoint:
        scheme, separator, bare = location.rpartition("://")
        insecure = insecure or (bool(separator) and scheme == "http")
        host, _, prefix = bare.strip("/").partition("/")
        full = f"{prefix}/{path}".strip("/")
        if host in ("docker.io", "index.docker.io"):
            host = _HUB
        return Endpoint(host, full, plain=insecure or self._is_insecure(host), **kind)

    def _is_insecure(self, host: str) -> bool:
        name = split_port(host)[0]
        for entry in self.insecure:
            if entry in (host, name):
                return True
            if "/" in entry and in_network(name, entry):
                return True
        return False


def split_port(host: str) -> tuple[str, int | None]:
    """``name:port`` or ``[v6]:port`` into name and port."""
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, int(rest[1:]) if rest.startswith(":") else None
    name, colon, port = host.rpartition(":")
    return (name, int(port)) if colon else (host, None)


def is_loopback(host: str) -> bool:
    """Whether ``name[:port]`` is this machine: ``localhost``, ``127.0.0.0/8``, ``::1``."""
    name = split_port(host)[0]
    return name == "localhost" or name.endswith(".localhost") or name == "::1" or in_network(name, "127.0.0.0/8")


def in_network(name: str, network: str) -> bool:
    """Whether an address is in a network (``10.0.0.0/8``); a host name never is."""
    import ipaddress

    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def load_registry_settings(environment: Mapping[str, str] = os.environ) -> RegistrySettings:
    """Read the configuration files of this machine and user. Raises UsageError that names a file that is wrong."""
    home = Path(environment.get("HOME") or "/root")
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    single = environment.get("STACK_REGISTRIES_CONF")
    rules: dict[str, RegistryRule] = {}
    aliases: dict[str, str] = {}
    insecure: list[str] = []
    mirrors: list[str] = []
    if single:
        if not Path(single).exists():
            raise UsageError(f"STACK_REGISTRIES_CONF names {single}, which does not exist")
        ours = [Path(single)]
    else:
        user = config / "containers/registries.conf"
        base = user if user.exists() else Path("/etc/containers/registries.conf")
        drop_ins = sorted(Path("/etc/containers/registries.conf.d").glob("*.conf"))
        drop_ins += sorted((config / "containers/registries.conf.d").glob("*.conf"))
        ours = [Path("/etc/stack/registries.conf"), config / "stack/registries.conf"]
        for path in (base, *drop_ins):
            rules |= {rule.prefix: rule for rule in _load_rules(path, _load_toml(path))}
        insecure, mirrors = _load_docker_daemon(_DAEMON)
    insecure += [one for one in environment.get("STACK_INSECURE_REGISTRIES", "").split(",") if one]
    for path in ours:
        raw = _load_toml(path)
        rules |= {rule.prefix: rule for rule in _load_rules(path, raw)}
        aliases |= _load_aliases(path, raw)
    certificates = [Path("/etc/docker/certs.d"), Path("/etc/containers/certs.d")]
    certificates += [config / "containers/certs.d", home / ".docker/certs.d", config / "stack/certs.d"]
    if extra := environment.get("STACK_CERTS_DIR"):
        certificates.insert(0, Path(extra))
    return RegistrySettings(tuple(rules.values()), tuple(insecure), tuple(mirrors), tuple(certificates), aliases)


def _load_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text())
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def _load_aliases(path: Path, raw: Mapping[str, Any]) -> dict[str, str]:
    aliases = raw.get("aliases", {})
    if not isinstance(aliases, dict) or not all(isinstance(one, str) for one in aliases.values()):
        raise UsageError(f"{path}: [aliases] is a table of names", hint='web = "registry.example/team/web"')
    for name, target in aliases.items():
        try:
            parse_reference(target)
        except StackError as error:
            raise UsageError(f"{path}: the alias {name}: {error.message}", hint=error.hint) from error
    return aliases


def _load_rules(path: Path, raw: Mapping[str, Any]) -> Iterable[RegistryRule]:
    tables = raw.get("registry", [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise UsageError(f"{path}: 'registry' is a list of tables", hint="each one begins with [[registry]]")
    for table in tables:
        location = str(table.get("location", ""))
        prefix = str(table.get("prefix") or location)
        if not prefix:
            raise UsageError(f"{path}: a [[registry]] table has neither 'prefix' nor 'location'")
        mirrors = table.get("mirror", ())
        if not all(isinstance(one.get("location"), str) for one in mirrors):
            raise UsageError(f"{path}: a [[registry.mirror]] table of {prefix} has no 'location'")
        yield RegistryRule(
            prefix,
            location,
            bool(table.get("insecure")),
            bool(table.get("blocked")),
            tuple(mirrors),
            bool(table.get("mirror-by-digest-only")),
        )


def _load_docker_daemon(path: Path) -> tuple[list[str], list[str]]:
    import json

    try:
        raw = json.loads(path.read_bytes())
    except (FileNotFoundError, PermissionError, ValueError):
        return [], []  # Docker's file is Docker's business; a broken one must not stop us
    return list(raw.get("insecure-registries") or ()), list(raw.get("registry-mirrors") or ())
