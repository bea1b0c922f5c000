"""``include``: whole stacks, loaded with a directory and variables of their own, become part of this one."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.source import Path
from orchestrator.spec.positions import Map, Mark, Seq

if TYPE_CHECKING:
    from orchestrator.spec.layers import LayerLoader

_RESOURCES = ("services", "networks", "volumes", "secrets", "configs", "models")
_MAX_FILES = 200


def apply_includes(
    loader: LayerLoader, layer: Map, directory: str, environment: Mapping[str, str], included: tuple[str, ...]
) -> None:
    """Load what `layer` includes and put its services and resources into `layer`, in place.

    `included` is the chain of files that led here; a file that is in it already closes a circle.
    """
    if "include" not in layer:
        return
    entries = layer.pop("include")
    marks = entries.marks
    for index, entry in enumerate(entries):
        if type(entry) is str:
            # A template that was left alone, and so was its short syntax.
            entry = _expand_short(entry, marks[index])
        if type(entry) is not Map or not entry.get("path"):
            if entry is None or (type(entry) is Map and not loader.problems.is_broken(("include", index))):
                place = ("include", index)
                loader.problems.warn("missing-attribute", "this includes nothing", marks[index], place, "add path:")
            continue
        _include_one(loader, layer, entry, ("include", index), directory, environment, included)


def _expand_short(text: str, mark: Mark) -> Map:
    """Return the long form of an ``include`` that is a path alone."""
    paths = Seq()
    paths.add(text, mark)
    entry = Map()
    entry.put("path", paths, (mark, mark))
    return entry


def _include_one(
    loader: LayerLoader,
    layer: Map,
    entry: Map,
    path: Path,
    directory: str,
    environment: Mapping[str, str],
    included: tuple[str, ...],
) -> None:
    files: list[tuple[str, Mark, Path]] = []
    paths = entry["path"]
    for written, mark in zip(paths, paths.marks, strict=True):
        name = loader.substitute_path(written, mark, environment)
        file = loader.find_file(name, directory, mark, path)
        if file is None:
            return
        if loader.reader.find_kind(file) == "directory":
            file = loader.reader.find_stack_file(file) or file
        files.append((file, mark, path))
    first, mark, _ = files[0]
    if first in included:
        _report_cycle(loader, first, included, mark, path)
        return
    if len(loader.loaded) > _MAX_FILES:
        loader.problems.report("too-many-files", f"more than {_MAX_FILES} files are included", mark, path)
        return
    own = entry.get("project_directory")
    if own:
        own = loader.substitute_path(own, entry.marks["project_directory"][1], environment)
    project = loader.locate_file(own, directory) if own else posixpath.dirname(first)
    if own and not posixpath.isabs(own) and loader.reader.find_kind(project) != "directory":
        loader.problems.warn(
            "file-not-found",
            f"the project directory {loader.display_name(project)} does not exist; its parent takes its place",
            entry.marks["project_directory"][1],
            (*path, "project_directory"),
            "check the path",
        )
        project = posixpath.dirname(project)
    variables = _read_variables(loader, entry, path, directory, project, environment)
    tree = loader.load_stack_files(files, project, variables, included)
    if variables is not environment:
        _keep_values(loader, tree, variables)
    _import(loader, tree, layer, mark, path)


def _report_cycle(loader: LayerLoader, file: str, included: tuple[str, ...], mark: Mark, path: Path) -> None:
    chain = [loader.display_name(one) for one in (*included[included.index(file) :], file)]
    loader.problems.report(
        "include-cycle", f"files include each other in a circle: {' -> '.join(chain)}", mark, path, "remove one include"
    )


def _read_variables(
    loader: LayerLoader, entry: Map, path: Path, directory: str, project: str, environment: Mapping[str, str]
) -> Mapping[str, str]:
    names: list[tuple[str, Mark]] = []
    if entry.get("env_file"):
        listed = entry["env_file"]
        for name, mark in zip(listed, listed.marks, strict=True):
            names.append((loader.locate_file(loader.substitute_path(name, mark, environment), directory), mark))
    elif loader.reader.find_kind(posixpath.join(project, ".env")) == "file":
        names.append((posixpath.join(project, ".env"), 0))
    found: dict[str, str] = {}
    for name, mark in names:

        def lookup(key: str) -> str | None:
            return environment.get(key, found.get(key))

        values = loader.read_env_file(name, lookup, mark, (*path, "env_file"))
        found.update({key: value for key, (value, _) in values.items()})
    return {**found, **environment} if found else environment


def _keep_values(loader: LayerLoader, tree: Map, environment: Mapping[str, str]) -> None:
    # The variables of an include are known here alone; who included it does not have them.
    for name, service in (tree.get("services") or {}).items():
        if service.get("env_file") or service.get("label_file"):
            loader.included_variables.setdefault(name, environment)
    for section in ("secrets", "configs"):
        for name, source in (tree.get(section) or {}).items():
            variable = source.get("environment")
            if variable and variable in environment:
                loader.included_values.setdefault((section, name, variable), environment[variable])


def _import(loader: LayerLoader, tree: Map, layer: Map, mark: Mark, path: Path) -> None:
    for section in _RESOURCES:
        source = tree.get(section)
        if not source:
            continue
        if section not in layer:
            layer.put(section, Map(), (mark, mark))
        target: Map = layer[section]
        for name, value in source.items():
            if name not in target:
                target.put(name, value, source.marks[name])
            elif not _equal(target[name], value):
                _report_conflict(loader, section, name, target, source, mark, path)


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) or (not one and not other)


def _report_conflict(
    loader: LayerLoader, section: str, name: str, target: Map, source: Map, mark: Mark, path: Path
) -> None:
    here = loader.problems.locate(target.marks[name][0])
    there = loader.problems.locate(source.marks[name][0])
    loader.problems.report(
        "include-conflict",
        f"{section}.{name} is defined at {here} and, differently, in the included {there}",
        mark,
        path,
        "rename one of them, or override the included one from a second -f file or a second path of this include",
    )
