"""Two folders of one name: which of them a project name belongs to, and how the second gets a name of its own.

A name that was derived from a folder belongs to the folder that was brought up under it first. A second folder of that
name is told so, and can be isolated: it then has a name of its own, and the engine chooses its published ports.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestrator.errors import Conflict

if TYPE_CHECKING:
    from orchestrator.actions.project import ProjectOptions
    from orchestrator.model import Stack

_NAMING_VARIABLES = ("STACK_PROJECT_NAME", "COMPOSE_PROJECT_NAME")


def registry_path() -> str:
    """The file that holds the names of isolated folders."""
    from orchestrator.engines.native.places import find_places

    return f"{find_places()[0]}/isolated.json"


def read_isolated() -> dict[str, str]:
    """The names of isolated folders, by absolute path."""
    import json

    try:
        with open(registry_path(), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def isolate_folder(directory: str, base: str) -> str:
    """Give a folder a project name of its own, the same each time, and remember it. Raises OSError."""
    from zlib import crc32

    name = f"{base}-{crc32(directory.encode()) & 0xFFFF:04x}"
    _write({**read_isolated(), directory: name})
    return name


def forget_isolated(directory: str) -> None:
    """After ``down`` a folder is as any other."""
    known = read_isolated()
    if known.pop(directory, None) is not None:
        _write(known)


def _write(names: Mapping[str, str]) -> None:
    import json

    path = registry_path()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = f"{path}.{os.getpid()}"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w", encoding="utf-8") as file:
        json.dump(names, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)


def free_ports(stack: Stack) -> Stack:
    """Return `stack` with published ports that the engine chooses: two isolated folders never want the same one.

    Its tree, which is what other processes are given, is changed in place.
    """
    services = {}
    for name, service in stack.services.items():
        for port in service.config.get("ports") or ():
            port.pop("published", None)
            getattr(port, "marks", {}).pop("published", None)
        services[name] = service.replace(ports=tuple(port.replace(published=None) for port in service.ports))
    return stack.replace(services=services)


def check_owner(stack: Stack, options: ProjectOptions) -> None:
    """Raise Conflict, with the way out, if the project's name comes from its folder and is another folder's already.

    A folder that is gone has no claim any more; a name that somebody chose is his to share.
    """
    if not is_derived(stack, options):
        return
    owner = _find_owner(stack.name)
    if not owner or owner == stack.directory or not os.path.isdir(owner) or os.path.samefile(owner, stack.directory):
        return
    from orchestrator.actions.remote_files import list_origins

    # What is fetched has another folder after each change of it.
    if not list_origins(owner) & list_origins(stack.directory):
        raise Conflict(
            f"project {stack.name} belongs to the folder {owner}; this is {stack.directory}",
            resource=stack.name,
            operation="up",
            hint="bring it up beside it, with a name and ports of its own: stack up --isolate; or name it with -p",
        )


def _find_owner(project: str) -> str:
    """The folder that the project was last brought up from; empty if nothing is up."""
    import json

    from orchestrator.supervision.control import Place

    try:
        with open(Place.of(project).goal, "rb") as file:
            return str(json.loads(file.read())["goal"]["stack"]["directory"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def is_derived(stack: Stack, options: ProjectOptions) -> bool:
    """True if the project's name comes from its folder: neither an option nor a variable gives it."""
    from orchestrator.spec.project_names import normalize_project_name

    if options.name or any(os.environ.get(name) for name in _NAMING_VARIABLES):
        return False
    return stack.name == normalize_project_name(os.path.basename(stack.directory))
