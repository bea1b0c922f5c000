"""Asking a provider: the program that stands for a service with ``provider``.

The protocol is Compose's: ``TYPE compose --project-name=P up --OPTION=VALUE SERVICE`` (and ``down``, ``stop``); it
writes one JSON object per line: ``info``, ``error``, ``debug``, ``setenv``, ``rawsetenv``, ``get-service-config``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from orchestrator.errors import EngineError
from orchestrator.reconcile.providers import choose_action

if TYPE_CHECKING:
    import subprocess

    from orchestrator.goal import Goal
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
        self._running: dict[str, tuple[str, subprocess.Popen[str]]] = {}
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
        found, raw = run_provider(stack, service, action, tell, self._running)
        before = self.by_service.pop(service.name, {})
        if action == "up":
            self.by_service[service.name] = found
        self.moments[action][service.name] = begun
        warnings = []
        for name in raw if action == "up" else ():
            # What the provider itself said last time stands there, too.
            said = (found[name], before.get(name, found[name]))
            for other in stack.services.values():
                if service.name in other.depends_on and other.environment.get(name, found[name]) not in said:
                    warnings.append(f"its provider overrides environment variable {name} of {other.name}")
        return tuple(warnings)

    def call_off(self, goal: Goal | None) -> None:
        """End the providers under way that a new goal (None: none at all) has no use for."""
        for name, (action, process) in tuple(self._running.items()):
            if goal is None or choose_action(goal, name) != action:
                with suppress(ProcessLookupError):
                    process.terminate()


class ProviderFailed(EngineError):
    """A provider is not there, breaks the protocol, or could not do what it was asked."""

    code = "provider-failed"


def find_provider(kind: str) -> str:
    """The program of a provider type: a Docker CLI plugin ``docker-TYPE``, or TYPE on the PATH; or ProviderFailed."""
    import shutil

    if kind == "compose":
        raise ProviderFailed("compose is no provider", resource=kind, operation="find provider")
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
    stack: Stack,
    service: Service,
    action: str,
    tell: Callable[[str], None],
    running: dict[str, tuple[str, subprocess.Popen[str]]] | None = None,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Run a provider's ``up``, ``stop`` or ``down`` to its end; `tell` takes what it says on its way.

    It works in the project's directory with the project's variables, and stands in `running` meanwhile. Returns the
    variables for dependents, and the names of those that are to be taken as they are (``rawsetenv``). Raises
    ProviderFailed.
    """
    import subprocess
    import tempfile

    kind = service.config["provider"]["type"]
    program = find_provider(kind)
    environment = {**os.environ, **stack.environment}
    described = _read_metadata(program, environment)
    if action == "stop" and described.get("stop") is None:
        return {}, ()
    options = list(_render_options(service, described, action))
    # A provider that is itself a docker plugin is called as docker would call it.
    command = [program, "compose", f"--project-name={stack.name}", action, *options, service.name]
    place = stack.directory if os.path.isdir(stack.directory) else None
    with tempfile.TemporaryFile("w+", errors="replace") as complaints:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            cwd=place,
            env=environment,
        ) as process:
            if running is not None:
                running[service.name] = action, process
            try:
                found, raw = _converse(service, process, tell)
            except BaseException:
                process.kill()
                raise
            finally:
                if running is not None:
                    running.pop(service.name, None)
        complaints.seek(0)
        last = complaints.read()[-4096:].strip().rpartition("\n")[2]
    code = process.returncode
    if code != 0:
        how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
        raise ProviderFailed(
            f"{service.name}: the provider {kind} {how}" + (f": {last}" if last else ""),
            resource=service.name,
            operation=f"provider {action}",
        )
    return found, raw


def _converse(
    service: Service, process: subprocess.Popen[str], tell: Callable[[str], None]
) -> tuple[dict[str, str], tuple[str, ...]]:
    import threading

    assert process.stdout is not None
    assert process.stdin is not None
    prefixes = name_prefixes(service.name)
    found: dict[str, str] = {}
    raw: list[str] = []
    for line in process.stdout:
        said = _parse_message(service, line)
        if said is None:
            continue
        kind, message = str(said.get("type")), str(said.get("message", ""))
        if kind == "info":
            tell(message)
        elif kind == "error":
            tell(message)
            raise ProviderFailed(f"{service.name}: {message}", resource=service.name, operation="provider")
        elif kind in ("setenv", "rawsetenv"):
            name, equals, value = message.partition("=")
            if not equals:
                raise ProviderFailed(f"{service.name}: the provider set {message!r}, which is not NAME=VALUE")
            if kind == "rawsetenv":
                raw.append(name)
                found[name] = value
            else:
                found.update({f"{prefix}_{name}": value for prefix in prefixes})
        elif kind == "get-service-config":
            text = json.dumps(dict(service.config), separators=(",", ":"), default=dict) + "\n"
            # It may say more before it reads: neither side may wait for the other's pipe.
            threading.Thread(target=_answer, args=(process.stdin, text), daemon=True).start()
        elif kind != "debug":
            raise ProviderFailed(f"{service.name}: the provider sent a message of the unknown type {kind!r}")
    return found, tuple(raw)


def _answer(answers: IO[str], text: str) -> None:
    # One that has ended, or was ended, does not read it any more.
    with suppress(OSError, ValueError):
        answers.write(text)
        answers.flush()


def name_prefixes(service: str) -> tuple[str, ...]:
    """What the names of a provider's variables begin with: the service's name, and that as a shell can read it."""
    name = service.upper()
    return tuple(dict.fromkeys((name, name.replace("-", "_").replace(".", "_"))))


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


def _read_metadata(program: str, environment: Mapping[str, str]) -> Mapping[str, Any]:
    """What the provider says of its commands; nothing if it does not know the question."""
    import subprocess

    try:
        done = subprocess.run(
            [program, "compose", "metadata"],
            capture_output=True,
            text=True,
            timeout=10,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        described = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return described if isinstance(described, dict) else {}


def _render_options(service: Service, described: Mapping[str, Any], action: str) -> Iterator[str]:
    """``--name=value`` for each option, several for a list; of a provider that describes itself only those it takes.

    Raises ProviderFailed for one that it requires and the file does not have.
    """
    provider = service.config["provider"]
    options: Mapping[str, Any] = provider.get("options") or {}
    own = described.get(action)
    listed = (own.get("parameters") if isinstance(own, dict) else None) or ()
    parameters = [one for one in listed if isinstance(one, dict)]
    for one in parameters:
        if one.get("required") and one.get("name") not in options:
            raise ProviderFailed(
                f"{service.name}: the provider {provider['type']} requires the option {one.get('name')}",
                resource=service.name,
                operation=f"provider {action}",
                hint=f"set it under services.{service.name}.provider.options",
            )
    known = {one.get("name") for one in parameters}
    for name in sorted(options):
        if described and name not in known:
            continue
        value = options[name]
        values: Sequence[Any] = value if isinstance(value, list | tuple) else (value,)
        for one in values:
            text = str(one).lower() if isinstance(one, bool) else str(one)
            yield f"--{name}={text}"
