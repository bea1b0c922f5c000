"""Which project a command is about: from stack files, or from a name alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.errors import Diagnostic, FileMissing
from orchestrator.model import Stack
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.goal import Goal

_NOTHING: Mapping[str, str] = MappingProxyType({})


class ProjectOptions(Record):
    """The global options that say which project is meant. Paths as the user wrote them."""

    files: tuple[str, ...] = ()
    name: str | None = None
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    directory: str | None = None


class Project(Record):
    """A project by name; `stack` is None if no file was read for it."""

    name: str
    stack: Stack | None = None
    warnings: tuple[Diagnostic, ...] = ()
    environment: Mapping[str, str] = {}


def load_project(options: ProjectOptions, services: Sequence[str] = (), **passes: bool) -> Project:
    """Load the stack files. Naming a service switches its profiles on. Raises FileMissing, ModelError, UsageError.

    `passes` switches passes of the loader off, as the options of ``config`` do (see ``LoadOptions``).
    """
    from orchestrator.spec.loader import LoadOptions, load_stack
    from orchestrator.spec.reader import DiskReader

    loaded = load_stack(
        LoadOptions(
            files=options.files,
            project_name=options.name,
            profiles=options.profiles,
            env_files=options.env_files,
            project_directory=options.directory,
            services=tuple(services),
            cwd=os.getcwd(),
            **passes,
        ),
        os.environ,
        DiskReader(),
    )
    return Project(
        name=loaded.stack.name,
        stack=loaded.stack,
        warnings=loaded.warnings,
        environment=loaded.environment,
    )


def identify_project(options: ProjectOptions, services: Sequence[str] = ()) -> Project:
    """Return the project that is meant, without reading files if a name alone says it (``-p NAME``).

    Where there is no file, COMPOSE_PROJECT_NAME is a name too. Raises FileMissing, ModelError.
    """
    if options.name and not options.files:
        return Project(name=options.name)
    try:
        return load_project(options, services)
    except FileMissing:
        name = os.environ.get("COMPOSE_PROJECT_NAME")
        if name and not options.files:
            return Project(name=name)
        raise


def recall_goal(project: str) -> Goal | None:
    """Return the goal that the project was last brought to, if it is still known."""
    from orchestrator.client import load_goal

    return load_goal(project)


def stack_for_goal(project: Project, previous: Goal | None) -> Stack:
    """Return the stack to edit a goal with: the file's, else the one brought up last, else an empty one."""
    if project.stack is not None:
        return project.stack
    return previous.stack if previous is not None else Stack(name=project.name)
