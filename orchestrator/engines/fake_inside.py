"""What the fake engine shows of its containers' insides: files as archives, processes, use, events, their stdio."""

from __future__ import annotations

import io
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

from orchestrator.engines.base import (
    AttachRequest,
    CommitRequest,
    ContainerEvent,
    ContainerUsage,
    FileSync,
    PathFacts,
    ProcessFacts,
)
from orchestrator.engines.fake_parts import find_files
from orchestrator.engines.fake_resources import FakeResources
from orchestrator.errors import Conflict, NotFound

if TYPE_CHECKING:
    from orchestrator.engines.fake_parts import FakeContainer
    from orchestrator.state import Container

_FOLDERS = ("/", "/tmp", "/etc", "/bin")
"""Directories that every image has; others are there because of a file in them."""

_MEMORY = 1 << 20


class FakeInside(FakeResources):
    """The half of the protocol that looks into containers. The other half keeps `_containers` and `_changed`."""

    _changed: threading.Condition
    _containers: dict[str, FakeContainer]

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._events: dict[str, list[ContainerEvent]] = {}

    def _look_up(self, container: Container) -> FakeContainer:
        found = self._containers.get(container.id)
        if found is None:
            raise NotFound(f"no container {container.name}", resource=container.name, operation="look into it")
        return found

    def _tell(self, one: Container, action: str, **attributes: str) -> None:
        """Note what has happened to a container; one-off containers leave no trace."""
        if one.oneoff:
            return
        event = ContainerEvent(
            time=time.time_ns(),
            service=one.service,
            container=one.id,
            action=action,
            attributes={"image": one.image, "name": one.name, **attributes},
        )
        self._events.setdefault(one.project, []).append(event)
        self._changed.notify_all()

    def await_caller(self, container_id: str) -> None:
        """Return at once: whoever makes containers here lives as long as they do."""

    def attach_container(
        self, container: Container, request: AttachRequest, *, begin: Callable[[], None] | None = None
    ) -> int | None:
        """Show what the container writes until it has ended. Its shell reads no input."""
        with self._lock:
            one = self._look_up(container)
            seen = len(one.log)
            if begin is None and not one.state.alive:
                raise Conflict(f"{container.name} is not running", resource=container.name, operation="attach")
        if begin is not None:
            begin()
        with self._changed:
            while True:
                for line in one.log[seen:]:
                    (sys.stderr if line.stream == "stderr" else sys.stdout).write(f"{line.text}\n")
                seen = len(one.log)
                if not one.state.alive:
                    return one.state.exit_code or 0
                self._changed.wait()

    def look_at_path(self, container: Container, path: str, *, follow: bool = True) -> PathFacts | None:
        """What is at a path; there are no links."""
        with self._lock:
            one = self._look_up(container)
            files = find_files(one, self._files)
            if path in files:
                return PathFacts(kind="file")
            folder = path.removesuffix("/.").rstrip("/")
            known = folder in ("", *_FOLDERS, *one.state.volumes)
            return (
                PathFacts(kind="directory") if known or any(name.startswith(f"{folder}/") for name in files) else None
            )

    def list_folder(self, container: Container, path: str) -> Sequence[str]:
        """The names in a folder: those of files, and of folders that files are in."""
        with self._lock:
            files = find_files(self._look_up(container), self._files)
        base = f"{path.rstrip('/')}/"
        below = [name.removeprefix(base).partition("/") for name in files if name.startswith(base)]
        return sorted({name + slash for name, slash, _rest in below})

    def read_archive(self, container: Container, path: str, name: str, *, follow: bool = False) -> Iterator[bytes]:
        """The tar of a file, or of the files below a directory."""
        found = self.look_at_path(container, path)
        if found is None:
            raise NotFound(f"there is no {path} in {container.name}", resource=path, operation="copy")
        folder = path.removesuffix("/.").rstrip("/")
        with self._lock:
            files = dict(find_files(self._look_up(container), self._files))
        if found.kind == "file":
            yield _pack({name: files[path]})
            return
        prefix = "" if name == "." else f"{name}/"
        below = {place[len(folder) + 1 :]: text for place, text in files.items() if place.startswith(f"{folder}/")}
        yield _pack({f"{prefix}{inner}": text for inner, text in below.items()}, folder="" if name == "." else name)

    def write_archive(self, container: Container, directory: str, source: IO[bytes]) -> None:
        """Unpack the files of a tar stream. NotFound, Conflict."""
        found = self.look_at_path(container, directory)
        if found is None or found.kind != "directory":
            raise NotFound(f"{directory} is not a directory", resource=directory, operation="copy")
        folder = directory.rstrip("/")
        with tarfile.open(fileobj=source, mode="r|*") as archive:
            for member in archive:
                content = archive.extractfile(member)
                place = f"{folder}/{member.name.removeprefix('./')}"
                there = self.look_at_path(container, place)
                if member.isfile() and there is not None and there.kind == "directory":
                    raise Conflict(f"{member.name} is a directory there", resource=member.name, operation="copy")
                if content is not None:
                    with self._lock:
                        find_files(self._look_up(container), self._files)[place] = content.read().decode()

    def sync_files(self, container: Container, syncs: Sequence[FileSync], *, changed_only: bool = False) -> int:
        """Make files of a container what files of this machine are; there are no links and no empty directories."""
        made = 0
        for one in syncs:
            with self._lock:
                files = find_files(self._look_up(container), self._files)
                try:
                    with open(one.source) as file:
                        text = file.read()
                except IsADirectoryError:
                    continue
                except (FileNotFoundError, NotADirectoryError):
                    gone = [name for name in files if name == one.target or name.startswith(f"{one.target}/")]
                    for name in () if changed_only else gone:
                        del files[name]
                    made += bool(gone) and not changed_only
                    continue
                made += not changed_only or files.get(one.target) != text
                files[one.target] = text
        return made

    def read_filesystem(self, container: Container) -> Iterator[bytes]:
        """The tar of a container's own files, without those of volumes."""
        with self._lock:
            own = dict(self._look_up(container).files)
        yield _pack({place.lstrip("/"): text for place, text in own.items()})

    def commit_container(self, container: Container, request: CommitRequest) -> str:
        """An image under the name that was asked for; what is in an image, a fake does not know."""
        with self._lock:
            one = self._look_up(container)
            made = self.publish_image(request.reference or f"committed-{one.state.id[:12]}", local=True)
            self._tell(one.state, "commit", imageID=made.id)
            return made.id

    def list_processes(self, container: Container) -> Sequence[ProcessFacts]:
        """The one process of a running container."""
        with self._lock:
            one = self._look_up(container)
            if not one.state.alive:
                raise Conflict(f"{container.name} is not running", resource=container.name, operation="list processes")
            command = " ".join(one.argv)
            facts = ProcessFacts(
                pid=one.state.pid,
                parent=1,
                uid=0,
                cpu_seconds=0.0,
                started_at=one.state.started_at,
                terminal="?",
                command=command,
            )
            return (facts,)

    def read_usage(self, container: Container) -> ContainerUsage:
        """A megabyte for each running container."""
        with self._lock:
            one = self._containers.get(container.id)
            if one is None or not one.state.alive:
                return ContainerUsage(time=time.monotonic())
            limit = one.service.resources.memory or 64 * _MEMORY
            return ContainerUsage(time=time.monotonic(), memory=_MEMORY, memory_limit=limit, pids=1)

    def read_events(
        self,
        project: str,
        *,
        since: float | None = None,
        until: float | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> Iterator[ContainerEvent]:
        """What happened to a project's containers, and what happens."""
        first = time.time_ns() if since is None else int(since * 1e9)
        last = None if until is None else int(until * 1e9)
        at = 0
        while True:
            with self._changed:
                fresh = self._events.get(project, [])[at:]
                at += len(fresh)
                over = (last is not None and time.time_ns() >= last) or (stopped is not None and stopped())
                if not fresh and not over:
                    self._changed.wait(0.05)
            yield from (one for one in fresh if one.time >= first and (last is None or one.time <= last))
            if over and not fresh:
                return


def _pack(files: dict[str, str], *, folder: str = "") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        if folder:
            made = tarfile.TarInfo(folder)
            made.type, made.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(made)
        for name, text in sorted(files.items()):
            data = text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return target.getvalue()
