"""What builds may see of the environment of the one who asks: an agent, a moment, proxies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.errors import UsageError
from orchestrator.goal import BuildOptions

if TYPE_CHECKING:
    from orchestrator.model import Stack

_NOTHING: Mapping[str, str] = {}
_PASSED_ON = ("SSH_AUTH_SOCK", "SOURCE_DATE_EPOCH", "DOCKER_DEFAULT_PLATFORM")
_PROXIES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "ftpProxy": "FTP_PROXY",
    "noProxy": "NO_PROXY",
    "allProxy": "ALL_PROXY",
}
"""Keys of ``proxies.default`` in docker's client configuration, and the build arguments that they become."""


def read_build_options(
    *,
    args: Sequence[str] = (),
    variables: Mapping[str, str] = _NOTHING,
    no_cache: bool = False,
    pull: bool = False,
    ssh: Sequence[str] = (),
) -> BuildOptions:
    """Put together what the command line and the environment say about builds. Raises UsageError.

    `variables` are the project's own, for `args` that are names alone.
    """
    return BuildOptions(
        args=parse_build_args(args, {**variables, **os.environ}),
        proxies=read_proxies(os.environ),
        no_cache=no_cache,
        pull=pull,
        ssh=tuple(ssh),
        environment={name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)},
    )


def read_options_for(stack: Stack) -> BuildOptions:
    """The same without a command line, for a stack that may have something to build; quick where it has not."""
    if not any(service.build is not None for service in stack.services.values()):
        return BuildOptions()
    return read_build_options()


def parse_build_args(texts: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Read ``NAME=VALUE`` and ``NAME`` (its value is the environment's; without one it is left out). UsageError."""
    args: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"--build-arg: cannot read {text!r}", hint="write NAME=VALUE")
        if equals:
            args[name] = value
        elif name in environment:
            args[name] = environment[name]
    return args


def find_client_settings(environment: Mapping[str, str]) -> str:
    """The path of docker's client configuration."""
    folder = environment.get("DOCKER_CONFIG") or os.path.join(
        environment.get("HOME") or os.path.expanduser("~"), ".docker"
    )
    return os.path.join(folder, "config.json")


def read_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The proxies that docker's client configuration sets for builds, as build arguments in both spellings.

    A configuration that cannot be read says nothing here: whoever needs it for a registry tells about it.
    """
    try:
        with open(find_client_settings(environment), "rb") as file:
            data = file.read()
        if b"proxies" not in data:
            return {}
        import json

        proxies = json.loads(data)["proxies"]["default"]
        found = {_PROXIES[key]: str(value) for key, value in proxies.items() if key in _PROXIES and value}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {spelling: value for name, value in found.items() for spelling in (name, name.lower())}
