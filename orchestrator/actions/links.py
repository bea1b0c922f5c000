"""Links in what was fetched from elsewhere: none of them may stand for a file of this machine."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from orchestrator.errors import Diagnostic, ModelError

if TYPE_CHECKING:
    from orchestrator.model import Stack

_WHY = "a link leads out of what was fetched"


def leads_out(path: str) -> bool:
    """Whether the absolute `path` begins in a fetched repository or artifact, and ends elsewhere."""
    from orchestrator.actions.remote_files import find_stacks_folder

    folder = os.path.abspath(find_stacks_folder())
    if not path.startswith(f"{folder}/"):
        return False
    tree = "/".join([folder, *path[len(folder) + 1 :].split("/")[:2]])
    real, root = os.path.realpath(path), os.path.realpath(tree)
    return real != root and not real.startswith(f"{root}/")


def refuse_link(path: str) -> None:
    """Raise OSError, as a file that cannot be read does, for what leads out."""
    if leads_out(path):
        raise OSError(errno.ELOOP, _WHY, path)


def refuse_links(stack: Stack) -> None:
    """Raise ModelError for every path in `stack` that leads out: of secrets, configs, mounts, contexts, watched files.

    Whoever wants a path of this machine in a container has to write it, where those who agree to it can see it.
    """
    from orchestrator.spec.paths import list_paths

    found = [
        Diagnostic("link-leads-out", f"{value} cannot be used: {_WHY}", stack.sources.locate(path), _render(path))
        for path, value in list_paths(stack.tree)
        if leads_out(value)
    ]
    for name, service in stack.services.items():
        build = service.config.get("build") or {}
        context, dockerfile = build.get("context") or "", build.get("dockerfile") or ""
        if context.startswith("/") and dockerfile and leads_out(os.path.normpath(os.path.join(context, dockerfile))):
            path = ("services", name, "build", "dockerfile")
            message = f"{dockerfile} cannot be used: {_WHY}"
            found.append(Diagnostic("link-leads-out", message, stack.sources.locate(path), _render(path)))
    if found:
        raise ModelError(found)


def _render(path: tuple[str | int, ...]) -> str:
    from orchestrator.source import render_path

    return render_path(path)
