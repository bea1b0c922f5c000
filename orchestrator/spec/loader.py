"""The order of the passes, from files to a :class:`~orchestrator.model.Stack`. Files are read only through a reader."""

from __future__ import annotations

import gc
import posixpath
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from orchestrator.errors import Diagnostic, FileMissing, UsageError
from orchestrator.model import Service, Stack
from orchestrator.record import Record
from orchestrator.source import Path
from orchestrator.spec.bind import bind_stack, collect_values
from orchestrator.spec.faults import find_faults
from orchestrator.spec.finish import finish_services, finish_tree
from orchestrator.spec.interpolate import Variable, collect_variables
from orchestrator.spec.layers import LayerLoader
from orchestrator.spec.normalize import (
    find_dormant,
    normalize_stack,
    prune_resources,
    resolve_env_files,
    split_profiles,
)
from orchestrator.spec.paths import absolute_path, is_remote
from orchestrator.spec.positions import Map, Mark, Problems, pack_mark
from orchestrator.spec.project_names import normalize_project_name
from orchestrator.spec.reader import OVERRIDE_FILES, STACK_FILES, STDIN, DiskReader, Reader, fetch_remote, names_remote
from orchestrator.spec.sources import TreeSources
from orchestrator.spec.validate import check_dormant, check_resources, check_stack

__all__ = ["DiskReader", "LoadOptions", "Loaded", "Reader", "load_stack", "normalize_project_name"]

_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_NOTHING: Mapping[str, str] = MappingProxyType({})
_TRUE = ("1", "true", "t", "yes", "y", "on")


class LoadOptions(Record):
    """What the command line asks of the loader.

    `files` are paths of stack files, directories that hold one, or ``-``; without them the environment and then the
    working directory `cwd` (absolute) and its parents are searched. `services` are targets: the profiles that keep
    one of them off are activated. `folder_names` are project names of folders that have another one than their own.
    `all_resources` keeps networks, volumes and others that no service uses. The last five flags switch passes off, as
    the options of ``stack config`` do.
    """

    files: tuple[str, ...] = ()
    project_directory: str | None = None
    project_name: str | None = None
    folder_names: Mapping[str, str] = _NOTHING
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    all_resources: bool = False
    interpolate: bool = True
    normalize: bool = True
    resolve_paths: bool = True
    resolve_env: bool = True
    consistency: bool = True
    cwd: str


class Loaded(Record):
    """A loaded stack, the warnings on the way, and the variables that interpolation saw.

    `remote_files` are the stack files that had to be fetched, `remote_parts` what any of them includes or extends from
    elsewhere, both as they were written. With the former, `variables` are those that the files name.
    """

    stack: Stack
    warnings: tuple[Diagnostic, ...]
    environment: Mapping[str, str]
    remote_files: tuple[str, ...] = ()
    remote_parts: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()


def load_stack(options: LoadOptions, environ: Mapping[str, str], reader: Reader) -> Loaded:
    """Load the stack that `options` name.

    Raises ModelError with every diagnostic of all files, FileMissing when no stack file (or a file that one names)
    exists, UsageError for a project name that is none.
    """
    collecting = gc.isenabled()
    # The trees hold no cycles, yet the collector would walk their many containers again and again: half of the time.
    gc.disable()
    try:
        return _load(options, environ, reader)
    finally:
        if collecting:
            gc.enable()


def _load(options: LoadOptions, environ: Mapping[str, str], reader: Reader) -> Loaded:
    problems = Problems()
    setup = _Setup(options, environ, reader, problems)
    loader = LayerLoader(
        reader,
        problems,
        home=environ.get("HOME", ""),
        cwd=options.cwd,
        project_directory=setup.directory,
        interpolate=options.interpolate,
        resolve=options.resolve_paths,
    )
    environment = setup.environment
    name, environment = _name_project(loader, setup, environment)
    tree = loader.load_stack_files([(file, 0, ()) for file in setup.files], setup.directory, environment)
    stack = _complete(loader, setup, tree, name, environment)
    return Loaded(
        stack=stack,
        warnings=problems.warnings,
        environment=environment,
        remote_files=tuple(setup.remotes),
        remote_parts=tuple(dict.fromkeys(loader.remotes)),
        variables=tuple(collect_variables(loader.list_trees())) if setup.remotes else (),
    )


def load_variables(options: LoadOptions, environ: Mapping[str, str], reader: Reader) -> list[Variable]:
    """Return the variables that the stack files of `options` name, included and extended files too, sorted by name.

    Raises what load_stack raises for files that are wrong whatever the variables hold.
    """
    problems = Problems()
    setup = _Setup(options.replace(interpolate=False), environ, reader, problems)
    loader = LayerLoader(
        reader,
        problems,
        home=environ.get("HOME", ""),
        cwd=options.cwd,
        project_directory=setup.directory,
        interpolate=False,
    )
    loader.load_stack_files([(file, 0, ()) for file in setup.files], setup.directory, setup.environment)
    problems.raise_errors()
    return collect_variables(loader.list_trees())


def _complete(loader: LayerLoader, setup: _Setup, tree: Map, name: str, environment: Mapping[str, str]) -> Stack:
    options, problems = setup.options, loader.problems
    if not tree and not problems.has_errors:
        name = loader.display_name(setup.files[0])
        mark = pack_mark(problems.register_file(name), 1, 1)
        problems.report("empty-stack", f"{name} is empty", mark, (), "add services:")
    if not tree.get("services") and tree and not problems.is_broken(("services",)) and "services" not in tree:
        problems.warn("no-services", "the stack defines no services", 0, ("services",), "add services:")
        tree.put("services", Map(), (0, 0))
    if options.normalize:
        normalize_stack(tree, name, setup.directory, loader.home, problems, resolve=options.resolve_paths)
    active, disabled = split_profiles(tree, setup.profiles, options.services)
    dormant = find_dormant(active, disabled)
    if options.consistency and not problems.keep_templates:
        check_resources(tree, problems)
        check_stack(tree, active, disabled, problems)
        check_dormant(tree, active, disabled, dormant, problems)
    if options.resolve_env:
        resolve_env_files(loader, active, environment)
    if problems.has_errors:
        if options.normalize and options.consistency and not problems.keep_templates:
            problems.add_faults(find_faults(tree, TreeSources(tree, problems.files).locate, active))
        problems.raise_errors()
    if not options.all_resources:
        prune_resources(tree, active, dormant)
    canonical = finish_tree(tree, name if options.normalize else "", active, keep_env_files=not options.resolve_env)
    values = collect_values(canonical, environment, loader.included_values)
    _warn_unset(canonical, values, problems)
    if problems.keep_templates:
        return _bind_templates(canonical, setup, loader)
    return bind_stack(
        canonical,
        TreeSources(canonical, problems.files),
        directory=setup.directory,
        files=tuple(loader.loaded),
        disabled=tuple(sorted(disabled)),
        dormant=finish_services(dormant),
        values=values,
    )


def _warn_unset(tree: Map, values: Mapping[tuple[str, str], str], problems: Problems) -> None:
    for section in ("secrets", "configs"):
        for key, source in (tree.get(section) or {}).items():
            variable = source.get("environment")
            if variable and (section, key) not in values:
                problems.warn(
                    "unset-variable",
                    f"the variable {variable}, which holds {key}, is not set",
                    source.marks["environment"][1],
                    (section, key, "environment"),
                    "set it in the environment or in .env",
                )


def _bind_templates(tree: Map, setup: _Setup, loader: LayerLoader) -> Stack:
    """Without interpolation a value may be a template where the model wants a number: bind the tree alone."""
    return Stack(
        name=tree.get("name", ""),
        services={name: Service(name=name, config=config) for name, config in tree["services"].items()},
        directory=setup.directory,
        files=tuple(loader.loaded),
        tree=tree,
        sources=TreeSources(tree, loader.problems.files),
    )


def _name_project(loader: LayerLoader, setup: _Setup, environment: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Choose the project's name: option, environment, ``name:`` of the last file that has one, directory."""
    asked = (
        setup.options.project_name or environment.get("STACK_PROJECT_NAME") or environment.get("COMPOSE_PROJECT_NAME")
    )
    if asked:
        if not _PROJECT_NAME.fullmatch(asked):
            proposal = normalize_project_name(asked)
            raise UsageError(
                f"{asked!r} is not a project name: it takes lower-case letters, digits, '-' and '_', and begins with a "
                "letter or digit",
                hint=f"did you mean {proposal}?" if proposal else "",
            )
        return asked, {**environment, "COMPOSE_PROJECT_NAME": asked}
    name, mark = "", 0
    for file in setup.files:
        for document, _ in loader.read_documents(file, 0, ()):
            if type(document) is Map and isinstance(document.get("name"), str) and document["name"]:
                mark = document.marks["name"][1]
                name = loader.substitute(document["name"], mark, environment)
    if name and not _PROJECT_NAME.fullmatch(name):
        proposal = normalize_project_name(name)
        loader.problems.report(
            "bad-project-name",
            f"{name!r} is not a project name: it takes lower-case letters, digits, '-' and '_'",
            mark,
            ("name",),
            f"did you mean {proposal}?" if proposal else "",
        )
    if not name:
        name = setup.options.folder_names.get(setup.directory) or normalize_project_name(
            posixpath.basename(setup.directory)
        )
    if not name:
        loader.problems.report(
            "no-project-name",
            f"the directory {setup.directory} gives the project no name",
            0,
            ("name",),
            "pass -p NAME, or write name: at the top of the stack file",
        )
    return name, {**environment, "COMPOSE_PROJECT_NAME": name}


class _Setup:
    """Where the stack is: its files, its directory, its variables, its profiles."""

    def __init__(self, options: LoadOptions, environ: Mapping[str, str], reader: Reader, problems: Problems) -> None:
        self.options = options
        self._reader = reader
        self._cwd = options.cwd
        problems.keep_templates = not options.interpolate
        early = self._variables(environ, self._working_directory(options.files), problems)
        self.remotes: dict[str, str] = {}
        """Stack files that had to be fetched, and what they became."""
        self.files = self._find_files(early)
        self.directory = self._working_directory(self.files)
        if self.remotes and not options.project_directory:
            self.directory = posixpath.dirname(next(iter(self.remotes.values())))
        self.environment = early
        # What came from elsewhere has no variables of its own beside it.
        if not self.remotes and self.directory != self._working_directory(options.files):
            # Beside the files that COMPOSE_FILE, or the search, has found: what was known before counts more.
            self.environment = {**self._variables(environ, self.directory, problems), **early}
        chosen = options.profiles or _split(self.environment.get("COMPOSE_PROFILES", ""), ",")
        self.profiles = tuple(chosen)

    def _working_directory(self, files: Sequence[str]) -> str:
        own = self.options.project_directory
        if own:
            return absolute_path(own, self._cwd)
        for file in files:
            if file == STDIN:
                continue
            path = absolute_path(file, self._cwd)
            if names_remote(self._reader, file, path):
                break
            return path if self._reader.find_kind(path) == "directory" else posixpath.dirname(path)
        return self._cwd

    def _find_files(self, variables: Mapping[str, str]) -> list[str]:
        named = list(self.options.files)
        if not named and variables.get("COMPOSE_FILE"):
            listed, separator = variables["COMPOSE_FILE"], variables.get("COMPOSE_PATH_SEPARATOR")
            # An address has colons of its own.
            named = [listed] if not separator and is_remote(listed) else _split(listed, separator or ":")
        if not named:
            return self._search()
        files = []
        for name in named:
            if name == STDIN:
                files.append(STDIN)
                continue
            path = absolute_path(name, self._cwd)
            if names_remote(self._reader, name, path):
                self.remotes[name] = fetch_remote(self._reader, name)
                files.append(self.remotes[name])
                continue
            if self._reader.find_kind(path) == "directory":
                found = self._reader.find_stack_file(path)
                if found is None:
                    raise FileMissing(f"the directory {name} holds no stack file", hint=self._expect(path))
                files.extend([found, *self._find_override(path)])
                continue
            if self._reader.find_kind(path) is None:
                raise FileMissing(
                    f"the stack file {name} does not exist", hint="check the path, or run in its directory"
                )
            files.append(path)
        return files

    def _search(self) -> list[str]:
        start = directory = absolute_path(self.options.project_directory or ".", self._cwd)
        while True:
            found = self._reader.find_stack_file(directory)
            if found is not None:
                return [found, *self._find_override(directory)]
            parent = posixpath.dirname(directory)
            if parent == directory:
                raise FileMissing(f"there is no stack file in {start} or above it", hint=self._expect(start))
            directory = parent

    def _expect(self, directory: str) -> str:
        find = getattr(self._reader, "find_similar", None)
        near = find(directory) if find is not None else ""
        if near:
            return f"did you mean {near}? rename it to {STACK_FILES[2]}, or name it with -f"
        return f"write one of {', '.join(STACK_FILES[:4])}, or name a file with -f"

    def _find_override(self, directory: str) -> list[str]:
        for name in OVERRIDE_FILES:
            path = posixpath.join(directory, name)
            if self._reader.find_kind(path) == "file":
                return [path]
        return []

    def _variables(self, environ: Mapping[str, str], directory: str, problems: Problems) -> Mapping[str, str]:
        files = self.options.env_files or _split(environ.get("COMPOSE_ENV_FILES", ""), ",")
        paths = [(absolute_path(file, self._cwd), True) for file in files]
        if not paths and environ.get("COMPOSE_DISABLE_ENV_FILE", "").lower() not in _TRUE:
            paths = [(posixpath.join(directory, ".env"), False)]
        found: dict[str, str] = {}

        def lookup(name: str) -> str | None:
            value = environ.get(name)
            return found.get(name) if value is None else value

        for path, required in paths:
            if self._reader.find_kind(path) != "file":
                if required:
                    raise FileMissing(f"the env file {path} does not exist", hint="check --env-file")
                continue
            reader = LayerLoader(
                self._reader, problems, home="", cwd=self._cwd, project_directory=directory, interpolate=True
            )
            place: tuple[Mark, Path] = (0, ())
            found.update(
                {
                    name: value
                    for name, (value, _) in reader.read_env_file(path, lookup, *place, required=required).items()
                }
            )
        return {**found, **environ}


def _split(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]
