"""The goal of ``up``, ``create`` and ``scale``, made from what the command line and the files say."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from orchestrator.actions.build_environment import read_options_for
from orchestrator.actions.container_names import check_container_names
from orchestrator.actions.file_digests import read_file_digests
from orchestrator.actions.goals import UpOptions, edit_up
from orchestrator.actions.names import resolve_dependencies, select_services
from orchestrator.actions.project import recall_goal
from orchestrator.errors import UsageError
from orchestrator.goal import BuildOptions
from orchestrator.spec.faults import check_faults

if TYPE_CHECKING:
    from orchestrator.actions.project import Project
    from orchestrator.goal import Goal


def prepare_up(project: Project, options: UpOptions) -> Goal:
    """Make the goal of an ``up``.

    Raises NoSuchService, UsageError, and ModelError for what cannot run as it is written and for names that clash.
    """
    stack = project.stack
    assert stack is not None
    select_services(options.services, stack.services, disabled=stack.disabled)
    if options.scale:
        select_services(tuple(options.scale), stack.services, disabled=stack.disabled)
    chosen = options.services or tuple(stack.services)
    if options.dependencies:
        chosen = resolve_dependencies(stack, chosen)
    check_faults(stack, chosen)
    check_container_names(stack, chosen, options.scale)
    options = options.replace(
        build_options=read_options_for(stack) if options.build_options == BuildOptions() else options.build_options,
        file_digests=read_file_digests(stack),
        remove_orphans=options.remove_orphans or read_switch("COMPOSE_REMOVE_ORPHANS", stack.directory),
        ignore_orphans=read_switch("COMPOSE_IGNORE_ORPHANS", stack.directory),
    )
    if options.remove_orphans and options.ignore_orphans:
        raise UsageError(
            "COMPOSE_IGNORE_ORPHANS and --remove-orphans exclude each other",
            hint="unset COMPOSE_IGNORE_ORPHANS, or leave --remove-orphans (COMPOSE_REMOVE_ORPHANS) away",
        )
    # Nothing of the goal before is needed when every service is about to get a new one.
    previous = recall_goal(project.name) if options.services else None
    return edit_up(stack, previous, options, time.time())


def read_switch(name: str, directory: str) -> bool:
    """Whether a variable of Compose's own is on: in the environment, otherwise in the ``.env`` of `directory`."""
    value = os.environ.get(name)
    if value is None and os.environ.get("COMPOSE_DISABLE_ENV_FILE", "").lower() not in ("1", "true"):
        with contextlib.suppress(OSError), open(os.path.join(directory, ".env"), errors="replace") as file:
            pairs = [line.strip().partition("=") for line in file if "=" in line]
            value = {key.removeprefix("export ").strip(): text.strip(" \t'\"") for key, _, text in pairs}.get(name)
    return (value or "").lower() in ("1", "true")
