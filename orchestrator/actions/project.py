"""Which project a command is about: from stack files, or from a name alone."""

from __future__ import annotations

import os
from types import MappingProxyType

from orchestrator.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.actions.memory import Signature
    from orchestrator.errors import Diagnostic, FileMissing
    from orchestrator.goal import Goal
    from orchestrator.model import Stack
    from orchestrator.spec.interpolate import Variable
    from orchestrator.spec.loader import Loaded, Reader

_NOTHING: Mapping[str, str] = MappingProxyType({})


class ProjectOptions(Record):
    """The global options that say which project is meant. Paths as the user wrote them."""

    files: tuple[str, ...] = ()
    name: str | None = None
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    directory: str | None = None
    all_resources: bool = False
    compatibility: bool = False


class Remote(Record):
    """What there is to know of a stack that was fetched from elsewhere before it is run.

    `files` and `parts` are the references of stack files, and of what those include or extend; `variables` are named in
    them.
    """

    files: tuple[str, ...]
    parts: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()


class Project(Record):
    """A project by name; `stack` is None if no file was read for it.

    `services` and `disabled` are the names that the file has, None and empty where nothing is known of a file. `remote`
    is there for stack files that were fetched.
    """

    name: str
    stack: Stack | None = None
    services: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    environment: Mapping[str, str] = _NOTHING
    remote: Remote | None = None


def load_project(options: ProjectOptions, services: Sequence[str] = (), **passes: bool) -> Project:
    """Load the stack files. Naming a service switches its profiles on. Raises FileMissing, ModelError, UsageError.

    `passes` switches passes of the loader off, as the options of ``config`` do (see ``LoadOptions``).
    """
    return _load(options, services, make_reader(), passes)


def load_watched(
    options: ProjectOptions, services: Sequence[str], seen: dict[str, Signature | None], **passes: bool
) -> Project:
    """Like load_project; every path that is looked at is noted in `seen`, for ``memory.remember``."""
    from orchestrator.actions.memory import watch_path

    reader = _make_watching_reader(lambda path: watch_path(seen, path), lambda name: seen.update({name: None}))
    return _load(options, services, reader, passes)


def load_again(options: ProjectOptions, services: Sequence[str] = ()) -> Project:
    """Like load_project, but from memory if nothing of what the stack was made from has changed.

    `environment` is empty then.
    """
    from orchestrator.actions.memory import recall, remember

    question = _name_question(options, services)
    known = recall("stack", question)
    if known is not None:
        return _restore_project(known)
    seen: dict[str, Signature | None] = {}
    project = load_watched(options, services, seen)
    # What was warned of has to be warned of again, and what was asked about asked.
    if not project.warnings and project.stack is not None and project.remote is None:
        import json

        from orchestrator.spec.transport import dump_stack

        remember("stack", question, seen, json.dumps(dump_stack(project.stack)).encode())
        if not services:
            _remember_names(options, project, seen)
    return project


def place_stack(options: ProjectOptions, services: Sequence[str] = ()) -> str:
    """Where ``load_again`` keeps the stack that it was asked for."""
    from orchestrator.actions.memory import place_result

    return place_result("stack", _name_question(options, services))


def _name_question(options: ProjectOptions, services: Sequence[str]) -> str:
    from orchestrator.actions.memory import describe_question

    return describe_question((*options.__dict__.values(), *services))


def _restore_project(known: bytes) -> Project:
    import json

    from orchestrator.spec.transport import load_dumped_stack

    stack = load_dumped_stack(json.loads(known))
    return Project(name=stack.name, stack=stack, services=tuple(sorted(stack.services)), disabled=stack.disabled)


def identify_project(options: ProjectOptions, services: Sequence[str] = ()) -> Project:
    """Return the project that is meant, without reading files if a name alone says it (``-p NAME``).

    Where there is no file, COMPOSE_PROJECT_NAME is a name too. Of what was fetched counts what is brought up, which
    somebody has agreed to, not what its branch or tag says by now. Raises FileMissing, ModelError.
    """
    if options.name and not options.files:
        return Project(name=options.name)
    from orchestrator.errors import FileMissing

    try:
        project = load_again(options, services)
    except FileMissing as error:
        return _name_alone(options, error)
    previous = recall_goal(project.name) if project.remote is not None else None
    if previous is None:
        return project
    return project.replace(stack=previous.stack, services=tuple(sorted(previous.stack.services)))


def recognize_project(options: ProjectOptions) -> Project:
    """Like identify_project, for commands that only look: a folder that was loaded before need not be read again.

    The stack is None then; names of services are known.
    """
    if options.name and not options.files:
        return Project(name=options.name)
    from orchestrator.actions.memory import describe_question, recall

    known = recall("project", describe_question(options.__dict__.values()))
    if known is not None:
        name, services, disabled = known.decode().split("\n")
        return Project(name=name, services=tuple(services.split()), disabled=tuple(disabled.split()))
    from orchestrator.errors import FileMissing

    seen: dict[str, Signature | None] = {}
    try:
        project = load_watched(options, (), seen)
    except FileMissing as error:
        return _name_alone(options, error)
    if not project.warnings:
        _remember_names(options, project, seen)
    return project


def recall_name(options: ProjectOptions) -> str:
    """The project's name, if that is known without reading a stack file; otherwise nothing."""
    if options.name and not options.files:
        return options.name
    from orchestrator.actions.memory import describe_question, recall

    known = recall("project", describe_question(options.__dict__.values()))
    return "" if known is None else known.decode().partition("\n")[0]


def _remember_names(options: ProjectOptions, project: Project, seen: Mapping[str, Signature | None]) -> None:
    from orchestrator.actions.memory import describe_question, remember

    lines = (project.name, " ".join(project.services or ()), " ".join(project.disabled))
    remember("project", describe_question(options.__dict__.values()), seen, "\n".join(lines).encode())


def _load(options: ProjectOptions, services: Sequence[str], reader: Reader, passes: Mapping[str, bool]) -> Project:
    from orchestrator.actions.folders import free_ports, read_isolated, registry_path
    from orchestrator.spec.loader import LoadOptions, load_stack

    # Asked for through the reader too: whoever remembers what was loaded must know of it.
    isolated = read_isolated() if reader.find_kind(registry_path()) else {}
    loaded = load_stack(
        LoadOptions(
            files=options.files,
            project_name=options.name,
            folder_names=isolated,
            profiles=options.profiles,
            env_files=options.env_files,
            project_directory=options.directory,
            services=tuple(services),
            all_resources=options.all_resources,
            cwd=os.getcwd(),
            **passes,
        ),
        os.environ,
        reader,
    )
    if loaded.remote_files or loaded.remote_parts:
        from orchestrator.actions.links import refuse_links

        refuse_links(loaded.stack)
    stack = loaded.stack.replace(separator="_") if options.compatibility else loaded.stack
    if isolated and isolated.get(stack.directory) == stack.name:
        stack = free_ports(stack)
    if any(one.config.get("provider") for one in stack.services.values()):
        stack = stack.replace(environment=loaded.environment)
    return Project(
        name=stack.name,
        stack=stack,
        services=tuple(sorted(stack.services)),
        disabled=stack.disabled,
        warnings=loaded.warnings,
        environment=loaded.environment,
        remote=_describe_remote(loaded),
    )


def _describe_remote(loaded: Loaded) -> Remote | None:
    if not loaded.remote_files:
        return None
    return Remote(files=loaded.remote_files, parts=loaded.remote_parts, variables=loaded.variables)


def _name_alone(options: ProjectOptions, error: FileMissing) -> Project:
    name = os.environ.get("COMPOSE_PROJECT_NAME")
    if name and not options.files:
        return Project(name=name)
    raise error


def _make_watching_reader(
    note: Callable[[str], None], note_remote: Callable[[str], None] = lambda _name: None
) -> Reader:
    from orchestrator.spec.reader import DiskReader

    class WatchingReader(DiskReader):
        """Tells of every path that the loader is about to look at, and fetches what stands elsewhere."""

        fetched = False

        def read_text(self, path: str) -> str:
            note(path)
            if self.fetched:
                from orchestrator.actions.links import refuse_link

                refuse_link(path)
            return super().read_text(path)

        def find_kind(self, path: str) -> str | None:
            note(path)
            return super().find_kind(path)

        def fetch_remote(self, name: str) -> str:
            from orchestrator.actions.remote_files import fetch_stack

            found = fetch_stack(name)
            self.fetched = True
            if not found.settled:
                # Who knows whether it is the same the next time.
                note_remote(name)
            return found.path

    return WatchingReader()


def make_reader() -> Reader:
    """What reads stack files, wherever they are."""
    return _make_watching_reader(lambda _path: None)


def recall_goal(project: str) -> Goal | None:
    """Return the goal that the project was last brought to, if it is still known."""
    from orchestrator.supervision.client import load_goal

    return load_goal(project)


def has_goal(project: str) -> bool:
    """Whether the project was brought to a goal and has not been taken down since."""
    from orchestrator.supervision.control import Place

    return os.path.exists(Place.of(project).goal)


def stack_for_goal(project: Project, previous: Goal | None) -> Stack:
    """Return the stack to edit a goal with: the file's, else the one brought up last, else an empty one."""
    if project.stack is not None:
        return project.stack
    from orchestrator.model import Stack

    return previous.stack if previous is not None else Stack(name=project.name)
