"""Who we are to a registry: ``~/.docker/config.json`` (auths, credHelpers, credsStore), containers' ``auth.json``."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.engines.native.images.failures import CredentialFailure

_HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HELPER_TIMEOUT = 30  # seconds


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name and password, or an identity token (an OAuth2 refresh token)."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""


def find_credential(host: str, repository: str = "", environment: Mapping[str, str] = os.environ) -> Credential | None:
    """The credential for a registry host (``name[:port]``), or None for anonymous access.

    A helper of the host wins, then an entry of the file, then the default helper. Raises CredentialFailure.
    """
    for path in list_files(environment):
        raw = load_credential_file(path)
        if raw is None:
            continue
        helper = next((raw.get("credHelpers", {})[key] for key in _keys(host) if key in raw.get("credHelpers", {})), "")
        if helper and (found := run_helper(helper, name_server(host), environment)) is not None:
            return found
        if (found := _find_auth(raw.get("auths") or {}, host, repository, path)) is not None:
            return found
        store = raw.get("credsStore")
        if store and (found := run_helper(store, name_server(host), environment)) is not None:
            return found
    return None


def list_files(environment: Mapping[str, str]) -> list[Path]:
    """The credential files, the first one that knows the host wins."""
    home = Path(environment.get("HOME") or "/root")
    if explicit := environment.get("REGISTRY_AUTH_FILE"):
        return [Path(explicit)]
    docker = Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.geteuid()}"
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    return [docker, Path(runtime) / "containers/auth.json", config / "containers/auth.json"]


def load_credential_file(path: Path) -> dict[str, Any] | None:
    """A credential file as it is, None if there is none. Raises CredentialFailure if it is damaged."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    try:
        raw = json.loads(data or b"{}")
    except ValueError as error:
        raise CredentialFailure(f"{path} is not valid JSON: {error}", operation="read credentials") from error
    return raw if isinstance(raw, dict) else {}


def name_server(host: str) -> str:
    """The key that clients store a host's credential under."""
    return _HUB_KEY if host in _HUB_HOSTS else host


def _keys(host: str) -> tuple[str, ...]:
    return (_HUB_KEY, *_HUB_HOSTS) if host in _HUB_HOSTS else (host,)


def _find_auth(auths: Mapping[str, Any], host: str, repository: str, path: Path) -> Credential | None:
    by_name = {_normalize_key(key): value for key, value in auths.items()}
    for key in _candidates(host, repository):
        entry = by_name.get(key)
        if isinstance(entry, dict) and (credential := _parse_entry(entry, key, path)) is not None:
            return credential
    return None


def _normalize_key(key: str) -> str:
    bare = key.split("://", 1)[-1]
    for suffix in ("/v1/", "/v2/", "/v1", "/v2"):
        bare = bare.removesuffix(suffix)
    return bare.rstrip("/")


def _candidates(host: str, repository: str) -> Iterator[str]:
    """From the most specific (containers' ``host/namespace/name``) to the host."""
    for name in _HUB_HOSTS if host in _HUB_HOSTS else (host,):
        parts = repository.split("/") if repository else []
        for count in range(len(parts), -1, -1):
            yield "/".join((name, *parts[:count]))


def _parse_entry(entry: Mapping[str, Any], key: str, path: Path) -> Credential | None:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            decoded = base64.b64decode(entry["auth"], validate=True).decode()
        except ValueError as error:
            raise CredentialFailure(
                f"{path} has an invalid 'auth' for {key}", operation="read credentials", hint=f"log in to {key} again"
            ) from error
        username, _, password = decoded.partition(":")
        password = password.rstrip("\0")
    token, bearer = str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or "")
    if not (username or token or bearer):
        return None
    return Credential(username, password, token, bearer)


def run_helper(name: str, server: str, environment: Mapping[str, str]) -> Credential | None:
    """Ask ``docker-credential-<name> get``. None when it knows nothing; raises CredentialFailure when it fails."""
    program = f"docker-credential-{name}"
    status, said = run_program(name, "get", server, server, environment)
    if status != 0:
        if "credentials not found" in said.lower():
            return None
        raise CredentialFailure(f"the credential helper {program} failed: {said}", resource=server)
    try:
        raw = json.loads(said)
        username, secret = str(raw["Username"]), str(raw["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise CredentialFailure(f"the credential helper {program} gave no valid answer", resource=server) from error
    if username == "<token>":
        return Credential(identity_token=secret)
    return Credential(username, secret) if username or secret else None


def run_program(name: str, verb: str, text: str, server: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """Call ``docker-credential-<name> <verb>`` with `text` on its input. Returns its exit code and what it said.

    Raises CredentialFailure when it is not installed or hangs.
    """
    import subprocess

    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, verb],
            input=text.encode(),
            capture_output=True,
            timeout=_HELPER_TIMEOUT,
            env=dict(environment),
            check=False,
        )
    except FileNotFoundError as error:
        raise CredentialFailure(
            f"the credential helper {program} is not installed",
            resource=server,
            operation=f"{verb} credentials",
            hint="install it, or remove it from credHelpers / credsStore in ~/.docker/config.json",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CredentialFailure(
            f"the credential helper {program} did not answer within {_HELPER_TIMEOUT} seconds", resource=server
        ) from error
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode != 0:
        said = said or done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
    return done.returncode, said
