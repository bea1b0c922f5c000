"""``enable`` and ``disable``: the unit that brings a project up after a boot, written and handed to systemd."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orchestrator.actions.unit import UnitRequest, name_unit, render_unit
from orchestrator.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from orchestrator.actions.project import Project, ProjectOptions

CONSENT = "STACK_REMOTE_CONSENT"
"""Variable that answers what is asked about stacks from elsewhere, where nobody is there to do it."""

_KEPT = ("HOME", "PYTHONPATH", "PATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "DOCKER_CONFIG")
"""Variables that a unit would not have; those whose names begin with STACK_ or COMPOSE_ are kept, too."""


def describe_unit(options: ProjectOptions, project: Project, *, user: bool) -> UnitRequest:
    """What the unit of a project has to do: the same as ``up -d`` with the same global options, at the same place."""
    from orchestrator.engines.native.layout import Layout
    from orchestrator.spec.reader import DiskReader, names_remote

    stack = project.stack
    assert stack is not None
    layout = Layout.from_environment()
    # What is named stays as it is; without names the files are found again, with an override that comes later.
    places = [(one, os.path.abspath(one)) for one in options.files]
    files = [one if names_remote(DiskReader(), one, path) else path for one, path in places]
    words = ["--project-name", project.name, *(word for one in files for word in ("--file", one))]
    if options.directory or not files:
        words += ["--project-directory", os.path.abspath(options.directory or stack.directory)]
    words += [word for one in options.profiles for word in ("--profile", one)]
    words += [word for one in options.env_files for word in ("--env-file", os.path.abspath(one))]
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or (name.startswith(("STACK_", "COMPOSE_")) and name != "STACK_UNIT_DIR")
    }
    if project.remote is not None:
        # It has been agreed to now; after a boot nobody is there to be asked.
        kept[CONSENT] = "1"
    return UnitRequest(
        project=project.name,
        program=(sys.executable, "-m", "orchestrator"),
        words=tuple(words),
        # Where the variables of a stack from elsewhere are read, and what it is stored in changes with it.
        directory=stack.directory if project.remote is None else os.getcwd(),
        environment=kept,
        paths=(str(layout.state),),
        user=user,
        remote=project.remote is not None,
    )


def list_fleeting(options: ProjectOptions) -> list[str]:
    """Variables that the stack files use and that come from this shell: after a boot nobody has them."""
    from orchestrator.actions.config import list_variables

    kept = {name for name in os.environ if name in _KEPT or name.startswith(("STACK_", "COMPOSE_"))}
    return sorted({one.name for one in list_variables(options)} & (os.environ.keys() - kept - {"PWD"}))


def enable_unit(request: UnitRequest, *, now: bool) -> str:
    """Write the unit and have systemd start it at every boot (and, with `now`, at once); return its path.

    Raises Unavailable where there is no systemd, or it refuses.
    """
    path = place_unit(request.project, user=request.user)
    _find_systemctl()
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        text = render_unit(request)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.new")
        mode = 0o600 if holds_login(text) else 0o644
        descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}", resource=path, operation="enable") from None
    _reload(user=request.user)
    _call(["enable", *(["--now"] if now else []), name_unit(request.project)], user=request.user)
    return path


def holds_login(text: str) -> bool:
    """Whether an address in the text of a unit has a login in it, which systemd shows to everybody on the machine."""
    from orchestrator.addresses import hide_password

    return hide_password(text) != text


def disable_unit(project: str, *, user: bool, now: bool) -> str:
    """Undo :func:`enable_unit`; with `now` the services are stopped. Raises NotFound, Unavailable."""
    path = place_unit(project, user=user)
    if not os.path.exists(path):
        raise NotFound(
            f"project {project} is not enabled: there is no {path}",
            resource=path,
            operation="disable",
            hint="" if user else "one that was enabled with --user is disabled with --user",
        )
    _find_systemctl()
    _call(["disable", *(["--now"] if now else []), name_unit(project)], user=user)
    try:
        os.unlink(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be removed: {error.strerror}", resource=path, operation="disable") from None
    _reload(user=user)
    return path


def place_unit(project: str, *, user: bool) -> str:
    """The path of a project's unit."""
    from orchestrator.engines.native.places import find_units

    return f"{find_units(user=user)}/{name_unit(project)}"


def _find_systemctl() -> str:
    from shutil import which

    found = which("systemctl")
    if found is None:
        raise Unavailable(
            "there is no systemd here that could bring the project up after a boot",
            operation="enable",
            hint="`stack enable --print` shows the unit; have your init run its ExecStart",
        )
    return found


def _reload(*, user: bool) -> None:
    from orchestrator.engines.native.places import is_systemd_running

    # A system that is only being set up (an image, a chroot) has nothing that could be told.
    if user or is_systemd_running():
        _call(["daemon-reload"], user=user)


def _call(words: Sequence[str], *, user: bool) -> None:
    call = [_find_systemctl(), *(["--user"] if user else []), *words]
    done = subprocess.run(call, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        hint = _read_journal(words[-1], user=user) if "--now" in words else ""
        raise Unavailable(f"systemctl {' '.join(words)}: {reason}", operation=words[0], hint=hint)


def _read_journal(unit: str, *, user: bool) -> str:
    """What a unit that could not be started has said itself; empty where nobody knows."""
    words = ["--quiet", "--no-pager", "--output=cat", "--lines=12", "--boot", "--unit", unit]
    try:
        done = subprocess.run(
            ["journalctl", *(["--user"] if user else []), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = [
        one for one in done.stdout.splitlines() if not one.startswith((f"{unit}: ", "Starting ", "Failed to start "))
    ]
    return "\n".join(("it said:", *said)) if said else ""
