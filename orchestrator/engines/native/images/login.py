"""Logging in to a registry: try the credential, then store it where every client looks for it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.images.authorization import Authorizer
from orchestrator.engines.native.images.content import disk_error
from orchestrator.engines.native.images.credentials import Credential, load_credential_file, name_server, run_program
from orchestrator.engines.native.images.failures import CredentialFailure, RegistryFault, Unauthorized
from orchestrator.engines.native.images.reference import Reference

if TYPE_CHECKING:
    from orchestrator.engines.native.images.registries import RegistrySettings
    from orchestrator.engines.native.images.transport import Transport

_LIMIT = 1 << 16


def log_in(
    settings: RegistrySettings, host: str, credential: Credential, environment: Mapping[str, str] = os.environ
) -> str:
    """Try a credential at a registry (``name[:port]``) and store it. Returns where: a path, or a helper's name.

    Raises Unauthorized when it is refused, RegistryUnreachable, TlsFailure, CredentialFailure, DiskFull.
    """
    from orchestrator.engines.native.images.transport import Transport

    endpoint = settings.resolve_endpoints(Reference(host, "login"))[-1]
    with Transport(settings) as transport:
        _try_credential(transport, endpoint.host, endpoint.plain, credential)
    return store_credential(host, credential, environment)


def _try_credential(transport: Transport, host: str, plain: bool, credential: Credential) -> None:
    url = f"{transport.scheme(host, plain=plain)}://{host}/v2/"
    authorizer = Authorizer(transport, host, "", "", plain=plain, credential=credential)
    for _ in range(2):
        sent = authorizer.header()
        response = transport.request("GET", url, headers=sent, plain=plain)
        challenge = response.header("WWW-Authenticate")
        response.read(_LIMIT)
        if response.status == 200:
            return
        if response.status not in (401, 403):
            raise RegistryFault(f"{host} answers {response.status} at /v2/: it is no registry", resource=url)
        if sent or response.status == 403:
            break
        try:
            authorizer.answer(challenge, sent)
        except Unauthorized:
            break
    raise Unauthorized(
        f"the registry {host} refuses this login",
        resource=host,
        operation="log in",
        hint="check user name and password; many registries want an access token instead of the password",
    )


def store_credential(host: str, credential: Credential, environment: Mapping[str, str] = os.environ) -> str:
    """Write a credential to ``config.json``, or give it to the helper that is configured there."""
    path = find_config(environment)
    raw = load_credential_file(path) or {}
    server = name_server(host)
    helper = (raw.get("credHelpers") or {}).get(server) or (raw.get("credHelpers") or {}).get(host)
    if helper := helper or raw.get("credsStore"):
        entry = {"ServerURL": server, "Username": credential.username, "Secret": credential.password}
        _expect(run_program(helper, "store", json.dumps(entry), server, environment), helper)
        return f"docker-credential-{helper}"
    login = base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
    _write(path, {**raw, "auths": {**(raw.get("auths") or {}), server: {"auth": login}}})
    return str(path)


def log_out(host: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Forget the credential of a registry. Returns whether there was one in ``config.json`` (helpers do not tell)."""
    path = find_config(environment)
    raw = load_credential_file(path) or {}
    server = name_server(host)
    helpers = {(raw.get("credHelpers") or {}).get(server), (raw.get("credHelpers") or {}).get(host)}
    for helper in {*helpers, raw.get("credsStore")} - {None, ""}:
        run_program(str(helper), "erase", server, server, environment)
    auths = dict(raw.get("auths") or {})
    known = [key for key in (server, host, f"https://{host}", f"https://{host}/v2/") if key in auths]
    if known:
        _write(path, {**raw, "auths": {key: value for key, value in auths.items() if key not in known}})
    return bool(known)


def find_config(environment: Mapping[str, str]) -> Path:
    """Where a login is stored."""
    if explicit := environment.get("REGISTRY_AUTH_FILE"):
        return Path(explicit)
    home = Path(environment.get("HOME") or "/root")
    return Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


def _expect(done: tuple[int, str], helper: str) -> None:
    if done[0]:
        raise CredentialFailure(f"the credential helper docker-credential-{helper} failed: {done[1]}")


def _write(path: Path, raw: Mapping[str, Any]) -> None:
    from orchestrator.engines.native.images.content import write_file

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(path, json.dumps(raw, indent="\t").encode() + b"\n")
    except OSError as error:
        raise disk_error(error, path) from error
