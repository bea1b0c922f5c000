"""Which project a command is about: from stack files, or from a name alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.errors import Diagnostic, FileMissing
from orchestrator.model import Stack
from orchestrator.record import Record

if TYPE_CHECKING:
    from orchestrator.goal import Goal
    from orchestrator.spec.loader import Reader

_NOTHING: Mapping[str, str] = MappingProxyType({})


class ProjectOptions(Record):
    """The global options that say which project is meant. Paths as the user wrote them."""

    files: tuple[str, ...] = ()
    name: str | None = None
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    directory: str | None = None


class Project(Record):
    """A project by name; `stack` is None if no file was read for it.

    `services` and `disabled` are the names that the file has, None and empty where nothing is known of a file.
    """

    name: str
    stack: Stack | None = None
    services: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    environment: Mapping[str, str] = _NOTHING


def load_project(options: ProjectOptions, services: Sequence[str] = (), **passes: bool) -> Project:
    """Load the stack files. Naming a service switches its profiles on. Raises FileMissing, ModelError, UsageError.

    `passes` switches passes of the loader off, as the options of ``config`` do (see ``LoadOptions``).
    """
    from orchestrator.spec.reader import DiskReader

    return _load(options, services, DiskReader(), passes)


def identify_project(options: ProjectOptions, services: Sequence[str] = ()) -> Project:
    """Return the project that is meant, without reading files if a name alone says it (``-p NAME``).

    Where there is no file, COMPOSE_PROJECT_NAME is a name too. Raises FileMissing, ModelError.
    """
    if options.name and not options.files:
        return Project(name=options.name)
    try:
        return load_project(options, services)
    except FileMissing as error:
        return _name_alone(options, error)


def recognize_project(options: ProjectOptions) -> Project:
    """Like identify_project, for commands that only look: a folder that was loaded before need not be read again.

    The stack is None then; names of services are known.
    """
    if options.name and not options.files:
        return Project(name=options.name)
    from orchestrator.actions.remembered import recall_project, remember_project

    known = recall_project(options)
    if known is not None:
        return Project(name=known["name"], services=tuple(known["services"]), disabled=tuple(known["disabled"]))
    reader = _make_watching_reader()
    try:
        project = _load(options, (), reader, {})
    except FileMissing as error:
        return _name_alone(options, error)
    remember_project(options, project, reader.seen)
    return project


def _load(options: ProjectOptions, services: Sequence[str], reader: Reader, passes: Mapping[str, bool]) -> Project:
    from orchestrator.spec.loader import LoadOptions, load_stack

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
        reader,
    )
    stack = loaded.stack
    return Project(
        name=stack.name,
        stack=stack,
        services=tuple(sorted(stack.services)),
        disabled=stack.disabled,
        warnings=loaded.warnings,
        environment=loaded.environment,
    )


def _name_alone(options: ProjectOptions, error: FileMissing) -> Project:
    name = os.environ.get("COMPOSE_PROJECT_NAME")
    if name and not options.files:
        return Project(name=name)
    raise error


def _make_watching_reader() -> Any:
    from orchestrator.actions.remembered import sign_path
    from orchestrator.spec.reader import DiskReader

    class WatchingReader(DiskReader):
        """Notes every path that the loader looks at, as it was just before."""

        def __init__(self) -> None:
            super().__init__()
            self.seen: dict[str, Any] = {}

        def read_text(self, path: str) -> str:
            self.seen.setdefault(path, sign_path(path))
            return super().read_text(path)

        def find_kind(self, path: str) -> str | None:
            self.seen.setdefault(path, sign_path(path))
            return super().find_kind(path)

    return WatchingReader()


def recall_goal(project: str) -> Goal | None:
    """Return the goal that the project was last brought to, if it is still known."""
    from orchestrator.client import load_goal

    return load_goal(project)


def stack_for_goal(project: Project, previous: Goal | None) -> Stack:
    """Return the stack to edit a goal with: the file's, else the one brought up last, else an empty one."""
    if project.stack is not None:
        return project.stack
    return previous.stack if previous is not None else Stack(name=project.name)
