"""Forward proxies, by the customary variables: ``https_proxy``, ``http_proxy``, ``all_proxy``, ``no_proxy``."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.engines.native.images.failures import RegistryUnreachable
from orchestrator.engines.native.images.registries import in_network, is_loopback, split_port


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy; `headers` carries its credentials, `variable` is where it is set."""

    name: str
    port: int
    headers: Mapping[str, str]
    variable: str = "https_proxy"

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


def find_proxy(scheme: str, host: str) -> Proxy | None:
    """The proxy for a host, None for this machine and what ``no_proxy`` lists. Raises RegistryUnreachable for a kind of
    proxy that is not spoken.
    """
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    variable = next((one for one in names if os.environ.get(one)), "")
    if not variable or is_loopback(host) or is_exempt(host):
        return None
    address = os.environ[variable]
    kind, separator, _ = address.partition("://")
    if separator and kind != "http":
        raise RegistryUnreachable(
            f"the registry {host} cannot be reached: {variable} names a {kind} proxy, which is not spoken",
            resource=host,
            operation="connect",
            hint=f"name a plain HTTP proxy (http://name:port), or list {split_port(host)[0]} in no_proxy",
        )
    login, _, server = urlsplit(address if separator else f"http://{address}").netloc.rpartition("@")
    name, port = split_port(server)
    headers = {}
    if login:
        import base64
        from urllib.parse import unquote

        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(unquote(login).encode()).decode()
    return Proxy(name, port or 3128, headers, variable)


def is_exempt(host: str) -> bool:
    """Whether ``no_proxy`` lists ``name[:port]``: names (and everything below them), addresses, networks, ``*``."""
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    name, port = split_port(host)
    for entry in (one.strip().lower() for one in listed.split(",")):
        if not entry:
            continue
        if entry == "*" or ("/" in entry and in_network(name, entry)):
            return True
        wanted, wanted_port = (entry, None) if entry.count(":") > 1 and entry[0] != "[" else split_port(entry)
        bare = wanted.removeprefix("*").removeprefix(".")
        if wanted_port in (None, port) and (name.lower() == bare or name.lower().endswith(f".{bare}")):
            return True
    return False


def explain_proxy(error: OSError, proxy: Proxy, host: str) -> RegistryUnreachable | None:
    """A proxy's failure in words a person can act on; None when trying again may help."""
    hint = f"check {proxy.variable}, or list {split_port(host)[0]} in no_proxy"
    if isinstance(error, ConnectionRefusedError):
        why = "connection refused"
    elif isinstance(error, socket.gaierror):
        why = "its name cannot be resolved"
    elif "Tunnel connection failed" in str(error):
        answer = str(error).partition("failed: ")[2] or str(error)
        return RegistryUnreachable(
            f"the proxy {proxy} does not connect to the registry {host}: {answer}",
            resource=host,
            operation="connect",
            hint=f"{proxy.variable} has to carry its login: http://user:password@{proxy}"
            if answer.startswith("407")
            else hint,
        )
    else:
        return None
    return RegistryUnreachable(
        f"the proxy {proxy} for the registry {host} cannot be reached: {why}",
        resource=host,
        operation="connect",
        hint=hint,
    )
