"""``cp``: files out of a container, into containers, as archives through standard input and output."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, cast

from orchestrator.actions.containers import choose_containers
from orchestrator.actions.project import Project
from orchestrator.engines.base import Engine, PathFacts
from orchestrator.engines.native.files.container_root import Root
from orchestrator.engines.native.files.copying import ChunkReader, extract_tree, look_at, render_tree
from orchestrator.errors import Conflict, NotFound, UsageError
from orchestrator.record import Record
from orchestrator.state import Container

Tell = Callable[[Container, str], None]


class CopyOptions(Record):
    """What ``cp`` can be asked for; `source` and `target` as they were written."""

    source: str
    target: str
    archive: bool = False
    follow: bool = False
    every: bool = False
    index: int | None = None


class Place(Record):
    """One end of a copy: a path of a service's containers, or of this machine (`service` empty)."""

    path: str
    service: str = ""


def parse_place(text: str) -> Place:
    """Read ``SERVICE:PATH``, or a path of this machine: one that begins with ``/`` or ``.``, or has no colon."""
    service, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")) or not service:
        return Place(path=text)
    return Place(service=service, path=path)


def copy_files(
    engine: Engine, project: Project, options: CopyOptions, tell: Tell, stdin: IO[bytes], stdout: IO[bytes]
) -> None:
    """Copy as ``cp`` does. Raises UsageError, NoSuchService, NotFound, Conflict."""
    source, target = parse_place(options.source), parse_place(options.target)
    if bool(source.service) == bool(target.service):
        both = "between services is not supported" if source.service else "needs a service on one side"
        raise UsageError(f"stack cp: copying {both}", hint="write SERVICE:PATH for what is in a container")
    chosen = choose_targets(engine, project, source.service or target.service, options)
    if source.service:
        one = chosen[0]
        tell(one, f"copy {one.name}:{source.path} to {target.path} Copying")
        _copy_out(engine, one, source.path, target.path, options, stdout)
        tell(one, f"copy {one.name}:{source.path} to {target.path} Copied")
        return
    for one in chosen:
        tell(one, f"copy {source.path} to {one.name}:{target.path} Copying")
        _copy_in(engine, one, source.path, target.path, options, stdin)
        tell(one, f"copy {source.path} to {one.name}:{target.path} Copied")


def choose_targets(engine: Engine, project: Project, service: str, options: CopyOptions) -> tuple[Container, ...]:
    """The containers that are meant, running or not. Raises NoSuchService, NotFound."""
    found = choose_containers(project, engine.observe(project.name), [service], oneoff=options.every)
    if options.index is not None:
        found = tuple(one for one in found if one.number == options.index and not one.oneoff)
    if not found:
        which = f"{service} (replica {options.index})" if options.index is not None else service
        raise NotFound(
            f"service {which} has no container", resource=service, hint=f"`stack up -d {service}` creates and starts it"
        )
    return found


def _copy_out(engine: Engine, one: Container, path: str, target: str, options: CopyOptions, stdout: IO[bytes]) -> None:
    path = _absolute(path)
    found = engine.look_at_path(one, path, follow=options.follow)
    if found is None:
        raise NotFound(f"there is no {path} in {one.name}", resource=path, operation="copy")
    if target == "-":
        for chunk in engine.read_archive(one, path, _base_name(path), follow=options.follow):
            stdout.write(chunk)
        stdout.flush()
        return
    with _open_host() as root:
        there = look_at(root.fd, _on_host(target))
        folder, name = choose_destination(path, found, _on_host(target), there)
        if look_at(root.fd, folder) is None:
            raise NotFound(f"the directory {folder} does not exist", resource=folder, operation="copy")
        chunks = engine.read_archive(one, path, name, follow=options.follow)
        stream = cast("IO[bytes]", ChunkReader(chunks))
        extract_tree(root.fd, folder, stream, keep_owner=options.archive, devices=False, links=False)


def _copy_in(engine: Engine, one: Container, path: str, target: str, options: CopyOptions, stdin: IO[bytes]) -> None:
    target = _absolute(target)
    there = engine.look_at_path(one, target)
    if path == "-":
        if there is None or there.kind != "directory":
            raise NotFound(f"{one.name}:{target} must be a directory", resource=target, operation="copy")
        engine.write_archive(one, target, stdin)
        return
    with _open_host() as root:
        source = _on_host(path)
        found = look_at(root.fd, source, follow=options.follow)
        if found is None:
            raise NotFound(f"there is no {path}", resource=path, operation="copy")
        folder, name = choose_destination(source, found, target, there)
        above = there if folder == target else engine.look_at_path(one, folder)
        if above is None:
            raise NotFound(f"there is no directory {folder} in {one.name}", resource=folder, operation="copy")
        chunks = render_tree(root, source, name, follow=options.follow)
        engine.write_archive(one, folder, cast("IO[bytes]", ChunkReader(chunks)))


def choose_destination(source: str, found: PathFacts, target: str, there: PathFacts | None) -> tuple[str, str]:
    """In which directory, and under which name, `source` arrives. The rules are those of ``cp -r``. Pure.

    Raises NotFound for a target that says it is a directory and is not there, Conflict for a directory onto a file.
    """
    directory = found.kind == "directory"
    if there is not None and there.kind == "directory":
        return target, "." if directory and source.endswith("/.") else _base_name(source)
    if there is not None and (directory or target.endswith(("/", "/."))):
        raise Conflict(f"{target} is not a directory", resource=target, operation="copy")
    if there is None and target.endswith("/") and not directory:
        raise NotFound(f"the directory {target} does not exist", resource=target, operation="copy")
    folder, _, name = target.rstrip("/").rpartition("/")
    return folder or "/", name


def _base_name(path: str) -> str:
    return os.path.basename(os.path.normpath(path)) or "."


def _absolute(path: str) -> str:
    # In a container there is no directory that one is in.
    return path if path.startswith("/") else f"/{path}"


def _on_host(path: str) -> str:
    """The path from the root on; what its end says about directories stays."""
    end = "/." if path.endswith("/.") or path == "." else "/" if path.endswith("/") else ""
    return os.path.abspath(os.path.expanduser(path)).rstrip("/") + end or "/"


@contextmanager
def _open_host() -> Iterator[Root]:
    fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Root(fd, None)
    finally:
        os.close(fd)
