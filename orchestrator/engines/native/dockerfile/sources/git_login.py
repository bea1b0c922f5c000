"""As whom git asks a repository: as the user, for a context that they named, or only with what a build was given.

A Dockerfile may come from anybody. For the addresses in it git sees none of the user's keys, agents, helpers and
settings: an ssh agent or keys have to be given as ``--ssh default``, a token as the secret ``GIT_AUTH_TOKEN`` (or a
whole header as ``GIT_AUTH_HEADER``), also for one host alone (``GIT_AUTH_TOKEN.example.org``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.addresses import take_login
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.request import BuildRequest, BuildSecret

_OWN = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_SSL_CAINFO", "GIT_SSL_NO_VERIFY")
_PUBLIC = ("GIT_SSL_CAINFO", "GIT_SSL_NO_VERIFY")
_SSH = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
_HEADER, _TOKEN = "GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"


class GitLogin(Record):
    """What a build was given for the repositories in its Dockerfile: an agent's socket or keys, and secrets by name."""

    paths: tuple[str, ...] = ()
    secrets: Mapping[str, BuildSecret] = MappingProxyType({})


def make_login(request: BuildRequest) -> GitLogin:
    """What `request` gives to git."""
    source = next((one for one in request.ssh if one.id == "default"), None)
    agent = os.environ.get("SSH_AUTH_SOCK", "")
    paths = () if source is None else source.paths or ((agent,) if agent else ())
    named = {one.id: one for one in request.secrets if one.id.startswith((_HEADER, _TOKEN))}
    return GitLogin(paths=paths, secrets=named)


def render_environment(login: GitLogin | None, remote: str, folder: Path) -> dict[str, str]:
    """The environment for git(1); `login` None is the user. `folder` is empty, and there for git to be at home in.

    Raises OSError for a secret that cannot be read.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment.update({key: os.environ[key] for key in (_OWN if login is None else _PUBLIC) if key in os.environ})
    if login is None:
        environment.setdefault("GIT_SSH_COMMAND", _SSH)
        return environment | _render_settings(_place_login(remote))
    for name in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "XDG_CONFIG_HOME"):
        environment.pop(name, None)
    environment |= {"HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    environment["GIT_SSH_COMMAND"] = _render_ssh(login.paths, folder)
    if not remote.lower().startswith(("http://", "https://")):
        return environment
    from urllib.parse import urlsplit

    parts = urlsplit(remote)
    header = _find_header(login, parts.hostname or "")
    settings = _place_login(remote)
    if header:
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"
        settings[f"http.{place}.extraheader"] = f"Authorization: {header}"
    return environment | _render_settings(settings)


def _place_login(remote: str) -> dict[str, str]:
    """The setting that gives git the login in an address, for all of that server; the address itself goes without."""
    bare, login = take_login(remote)
    if not login:
        return {}
    scheme, _, rest = bare.partition("://")
    host = rest.partition("/")[0]
    return {f"url.{scheme}://{login}@{host}/.insteadOf": f"{scheme}://{host}/"}


def _render_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings for git that are neither among its arguments, which everybody can read, nor kept with the files."""
    rendered = {"GIT_CONFIG_COUNT": str(len(settings))} if settings else {}
    for number, (key, value) in enumerate(settings.items()):
        rendered |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return rendered


def _render_ssh(paths: Sequence[str], folder: Path) -> str:
    """ssh(1) with these keys or that agent and no others. It knows the user's hosts, and learns new ones elsewhere."""
    import shlex
    import stat

    agents = [path for path in paths if _has_kind(path, stat.S_ISSOCK)]
    options = [f"IdentityAgent={agents[0] if agents else 'none'}", "IdentityFile=none"]
    if keys := [path for path in paths if path not in agents]:
        options = ["IdentityAgent=none", "IdentitiesOnly=yes", *(f"IdentityFile={path}" for path in keys)]
    options.append(f"UserKnownHostsFile={folder}/known_hosts ~/.ssh/known_hosts")
    return " ".join((_SSH, "-F", os.devnull, *(f"-o {shlex.quote(one)}" for one in options)))


def _has_kind(path: str, is_kind: Callable[[int], bool]) -> bool:
    try:
        return is_kind(os.stat(path).st_mode)
    except OSError:
        return False


def _find_header(login: GitLogin, host: str) -> str:
    for name in (_HEADER, _TOKEN):
        secret = login.secrets.get(f"{name}.{host}") or login.secrets.get(name)
        if secret is None:
            continue
        value = _read_secret(secret).strip()
        if name == _HEADER:
            return value.decode("latin-1")
        import base64

        return "basic " + base64.b64encode(b"x-access-token:" + value).decode()
    return ""


def _read_secret(secret: BuildSecret) -> bytes:
    if secret.content is not None:
        return secret.content
    with open(secret.file or "", "rb") as file:
        return file.read(1 << 16)
