"""Asking a provider: the program that stands for a service with ``provider``.

The protocol is Compose's: ``TYPE compose --project-name=P up --OPTION=VALUE SERVICE`` (and ``down``, ``stop``); it
writes one JSON object per line: ``info``, ``error``, ``debug``, ``setenv``, ``rawsetenv``, ``get-service-config``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from orchestrator.errors import EngineError

if TYPE_CHECKING:
    from orchestrator.model import Service, Stack

PLUGIN_FOLDERS = (
    "~/.docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


class Answers:
    """What the providers of one project have said so far, for as long as its loop lives."""

    def __init__(self) -> None:
        self.by_service: dict[str, dict[str, str]] = {}
        """Variables for dependents, by the provided service."""
        self.moments: dict[str, dict[str, float]] = {"up": {}, "stop": {}, "down": {}}
        """When which service's provider last did what (epoch seconds), by action and service."""

    def ask(
        self, stack: Stack, service: Service, action: str, tell: Callable[[str], None], clock: Callable[[], float]
    ) -> tuple[str, ...]:
        """Have a provider do something and remember its answer; returns warnings. Blocks. Raises ProviderFailed."""
        begun = clock()
        if action != "up":
            try:
                find_provider(service.config["provider"]["type"])
            except ProviderFailed as missing:
                # It cannot be asked ever again; what it made, if anything, is out of reach.
                self.moments[action][service.name] = begun
                return (missing.message,)
        found, raw = run_provider(stack.name, service, action, tell)
        if action == "up":
            self.by_service[service.name] = found
        else:
            self.by_service.pop(service.name, None)
        self.moments[action][service.name] = begun
        warnings = []
        for name in raw:
            for other in stack.services.values():
                if service.name in other.depends_on and name in other.environment:
                    warnings.append(f"{name} of {other.name} is replaced by what the provider of {service.name} says")
        return tuple(warnings)


class ProviderFailed(EngineError):
    """A provider is not there, breaks the protocol, or could not do what it was asked."""

    code = "provider-failed"


def find_provider(kind: str) -> str:
    """The program of a provider type: a Docker CLI plugin ``docker-TYPE``, or TYPE on the PATH; or ProviderFailed."""
    import shutil

    for folder in PLUGIN_FOLDERS:
        path = os.path.join(os.path.expanduser(folder), f"docker-{kind}")
        if os.access(path, os.X_OK):
            return path
    found = shutil.which(kind) or shutil.which(f"docker-{kind}")
    if found is None:
        raise ProviderFailed(
            f"there is no provider {kind}",
            resource=kind,
            operation="find provider",
            hint=f"install a program called {kind} (or docker-{kind}) on the PATH",
        )
    return found


def run_provider(
    project: str, service: Service, action: str, tell: Callable[[str], None]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Run a provider's ``up``, ``stop`` or ``down`` to its end; `tell` takes what it says on its way.

    Returns the variables for dependents, and the names of those that are to be taken as they are (``rawsetenv``).
    Raises ProviderFailed.
    """
    import subprocess

    provider = service.config["provider"]
    program = find_provider(provider["type"])
    described = _read_metadata(program)
    if action == "stop" and "stop" not in described:
        return {}, ()
    options = list(_render_options(provider.get("options") or {}, described.get(action)))
    # A provider that is itself a docker plugin is called as docker would call it.
    command = [program, "compose", f"--project-name={project}", action, *options, service.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            found, raw, complaint = _converse(service, process.stdout, process.stdin, tell)
        except ProviderFailed:
            process.kill()
            raise
    if process.returncode != 0:
        message = complaint or f"the provider {provider['type']} ended with exit code {process.returncode}"
        raise ProviderFailed(f"{service.name}: {message}", resource=service.name, operation=f"provider {action}")
    return found, raw


def _converse(
    service: Service, output: IO[str], answers: IO[str], tell: Callable[[str], None]
) -> tuple[dict[str, str], tuple[str, ...], str]:
    prefix = service.name.upper().replace("-", "_").replace(".", "_")
    found: dict[str, str] = {}
    raw: list[str] = []
    complaint = ""
    for line in output:
        said = _parse_message(service, line)
        if said is None:
            continue
        kind, message = str(said.get("type")), str(said.get("message", ""))
        if kind == "info":
            tell(message)
        elif kind == "error":
            complaint = message
            tell(message)
        elif kind in ("setenv", "rawsetenv"):
            name, equals, value = message.partition("=")
            if not equals:
                raise ProviderFailed(f"{service.name}: the provider set {message!r}, which is not NAME=VALUE")
            if kind == "rawsetenv":
                raw.append(name)
            found[name if kind == "rawsetenv" else f"{prefix}_{name}"] = value
        elif kind == "get-service-config":
            answers.write(json.dumps(dict(service.config), separators=(",", ":"), default=dict) + "\n")
            answers.flush()
        elif kind != "debug":
            raise ProviderFailed(f"{service.name}: the provider sent a message of the unknown type {kind!r}")
    return found, tuple(raw), complaint


def _parse_message(service: Service, line: str) -> Mapping[str, Any] | None:
    if not line.strip():
        return None
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ProviderFailed(
            f"{service.name}: the provider wrote something that is not a JSON message: {line.strip()[:200]}",
            resource=service.name,
            operation="provider",
        )
    return said


def _read_metadata(program: str) -> Mapping[str, Any]:
    """What the provider says of its commands; nothing if it does not know the question."""
    import subprocess

    try:
        done = subprocess.run(
            [program, "compose", "metadata"], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
        )
        described = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return described if isinstance(described, dict) else {}


def _render_options(options: Mapping[str, Any], described: Any) -> Iterator[str]:
    """``--name=value`` for each option, several for a list; only those that the provider says it takes, if it does."""
    parameters = described.get("parameters") if isinstance(described, dict) else None
    known = {one.get("name") for one in parameters} if parameters else None
    for name in sorted(options):
        value = options[name]
        values: Sequence[Any] = value if isinstance(value, list | tuple) else (value,)
        for one in values:
            text = str(one).lower() if isinstance(one, bool) else str(one)
            if known is None or name in known:
                yield f"--{name}={text}"
