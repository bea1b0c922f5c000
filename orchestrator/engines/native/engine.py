"""The native engine: the embedded, daemonless default. Each method hands its work to the room that knows how."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

from orchestrator.engines.base import (
    AttachRequest,
    Change,
    CommitRequest,
    ContainerEvent,
    ContainerUsage,
    ExecRequest,
    ExecResult,
    FileSync,
    Finding,
    ImageProgress,
    LogLine,
    PathFacts,
    ProcessFacts,
)
from orchestrator.engines.native.capabilities import check_stack
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.network.hosting import Hosting
from orchestrator.engines.native.observing import image_facts, observe_project
from orchestrator.engines.native.store import Store
from orchestrator.errors import Diagnostic
from orchestrator.goal import BuildOptions
from orchestrator.model import Network, Service, Stack, Volume
from orchestrator.state import Container, HealthStatus, ImageFacts, ObservedState

if TYPE_CHECKING:
    import asyncio

    from orchestrator.engines.base import BuildProgress
    from orchestrator.engines.native.images.pull import PullProgress
    from orchestrator.engines.native.lifecycle import Lifecycle
    from orchestrator.plan import CreateContainer


_NO_OPTIONS = BuildOptions()


class NativeEngine:
    """Implements :class:`orchestrator.engines.base.Engine` on Linux."""

    name = "native"

    def __init__(self, layout: Layout | None = None) -> None:
        self.layout = layout or Layout.from_environment()
        self.store = Store(self.layout.database)
        self.images = ImageStore(self.layout)
        self.hosting = Hosting()
        self.on_warning: Callable[[Diagnostic], None] = lambda _diagnostic: None
        self._lifecycle: Lifecycle | None = None

    @property
    def lifecycle(self) -> Lifecycle:
        """What starts and stops containers; imported by the first command that does."""
        if self._lifecycle is None:
            from orchestrator.engines.native.lifecycle import Lifecycle

            self._lifecycle = Lifecycle(
                self.layout, self.store, self.images, self.hosting, lambda diagnostic: self.on_warning(diagnostic)
            )
        return self._lifecycle

    def require_access(self, *, starting: bool = False) -> None:
        """Containers take root, and some programs to start."""
        from orchestrator.engines.native.privilege import require_root

        require_root("change containers")
        if starting:
            from orchestrator.engines.native.programs import require_programs

            require_programs()

    def check(self, stack: Stack) -> Sequence[Diagnostic]:
        """Every attribute that this engine, on this host, cannot honour, at its line."""
        from orchestrator.engines.native.checks import check_service
        from orchestrator.engines.native.runtime.facts import observe_host

        facts = observe_host()
        found = list(check_stack(stack))
        for name in sorted(stack.services):
            found += check_service(stack.services[name], facts, stack.sources)
        if any(service.build is not None for service in stack.services.values()):
            from orchestrator.engines.native.dockerfile.service_request import check_builds

            found += check_builds(stack)
        return found

    def observe(self, project: str, stack: Stack | None = None) -> ObservedState:
        """The store's rows, checked against the kernel."""
        return observe_project(self.layout, self.store, self.images, project, stack)

    def projects(self) -> Sequence[str]:
        """Names of all projects with containers, networks or named volumes."""
        rows = self.store.rows(
            "SELECT project FROM containers UNION SELECT project FROM networks "
            "UNION SELECT project FROM volumes WHERE key != '' ORDER BY project"
        )
        return [row["project"] for row in rows if row["project"]]

    # Images

    def pull_image(
        self,
        reference: str,
        *,
        platform: str | None = None,
        progress: Callable[[ImageProgress], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> ImageFacts:
        """Fetch an image from its registry, and remember when; ``DOCKER_DEFAULT_PLATFORM`` counts, too."""
        began = time.time()
        image = self.images.pull(
            reference,
            platform=platform or os.environ.get("DOCKER_DEFAULT_PLATFORM"),
            progress=_adapt(progress),
            cancel=cancel,
        )
        self.images.note_moment(reference, "pulled", began)
        return image_facts(reference, image)

    def build_image(
        self,
        stack: Stack,
        service: Service,
        *,
        options: BuildOptions = _NO_OPTIONS,
        progress: BuildProgress | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> ImageFacts:
        """Build the service's image with our own builder."""
        from orchestrator.engines.native.building import build_service

        return build_service(
            self.layout,
            self.images,
            stack,
            service,
            options=options,
            progress=progress,
            cancel=cancel,
            warn=lambda diagnostic: self.on_warning(diagnostic),
        )

    def push_image(
        self,
        reference: str,
        *,
        progress: Callable[[ImageProgress], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> str:
        """Send an image to its registry."""
        return self.images.push(reference, progress=_adapt(progress), cancel=cancel)

    # Networks and volumes

    def create_network(self, project: str, network: Network) -> None:
        """Create a network and its bridge."""
        self.lifecycle.create_network(project, network)

    def remove_network(self, project: str, name: str) -> None:
        """Remove a network and its bridge."""
        self.lifecycle.remove_network(project, name)

    def create_volume(self, project: str, volume: Volume) -> None:
        """Create a named volume."""
        self.lifecycle.volumes.create(project, volume)

    def remove_volume(self, project: str, name: str) -> None:
        """Remove a volume and what is in it."""
        self.lifecycle.volumes.remove(name)

    # Containers

    def create_container(self, stack: Stack, request: CreateContainer) -> str:
        """Write a container to the store with its addresses and volumes."""
        return self.lifecycle.create(stack, request)

    def start_container(self, container_id: str, *, cause: str = "") -> None:
        """Start a container."""
        self.lifecycle.start(container_id, cause=cause)

    def prepare_container(self, container_id: str) -> None:
        """Do ahead what of a start can be done ahead."""
        self.lifecycle.prepare(container_id)

    def unprepare_container(self, container_id: str) -> None:
        """Give back what was done ahead."""
        self.lifecycle.unprepare(container_id)

    def stop_container(self, container_id: str, *, timeout: float | None = None, hold: bool = True) -> None:
        """Stop a container; returns when it is dead and its resources are given back."""
        self.lifecycle.stop(container_id, timeout=timeout, hold=hold)

    def kill_container(self, container_id: str, signal: str = "SIGKILL") -> None:
        """Send a signal to the main process."""
        self.lifecycle.kill(container_id, signal)

    def pause_container(self, container_id: str, *, paused: bool) -> None:
        """Freeze or thaw a container."""
        self.lifecycle.pause(container_id, paused=paused)

    def remove_container(self, container_id: str, *, volumes: bool = False) -> None:
        """Remove a container, and with `volumes` its anonymous volumes."""
        self.lifecycle.remove(container_id, volumes=volumes)

    def rename_container(self, container_id: str, new_name: str, number: int) -> None:
        """Change name and replica number."""
        self.lifecycle.rename(container_id, new_name, number)

    def record_health(self, container_id: str, health: HealthStatus | None) -> None:
        """Remember a container's health for ``ps``."""
        self.store.update_container(container_id, health=health)
        if health is not None:
            self._note(container_id, f"health_status: {health}")

    def record_restart(self, container_id: str, count: int, *, at: float = 0.0) -> None:
        """Remember how often the restart policy has started a container, and when it is going to."""
        self.store.update_container(container_id, restart_count=count, restart_at=at)

    def record_hooks(self, container_id: str, due: int) -> None:
        """Remember how many of a container's hooks are still to be run."""
        self.store.update_container(container_id, hooks_due=due)

    # Looking inside

    def exec_attached(self, container: Container, request: ExecRequest) -> int:
        """Run a command in a container with this process's stdio."""
        from orchestrator.engines.native.execution import exec_attached

        words = " ".join(request.command)
        self._note(container.id, f"exec_create: {words}")
        self._note(container.id, f"exec_start: {words}")
        code = exec_attached(self.layout, self.store, container, request)
        if not request.detach:
            self._note(container.id, "exec_die", exitCode=str(code))
        return code

    def attach_container(
        self, container: Container, request: AttachRequest, *, begin: Callable[[], None] | None = None
    ) -> int | None:
        """Relay a container's stdio, resizes and signals."""
        from orchestrator.engines.native.attaching import attach_container

        if begin is None:
            self._note(container.id, "attach")
        return attach_container(self.layout, self.store, container, request, begin)

    def await_caller(self, container_id: str) -> None:
        """Wait until the command that a container was made for has ended."""
        from orchestrator.engines.native.attaching import await_caller

        await_caller(self.layout, self.store, container_id)

    def exec_captured(self, container: Container, request: ExecRequest, *, timeout: float) -> ExecResult:
        """Run a command in a container and keep the end of its output."""
        from orchestrator.engines.native.execution import exec_captured

        return exec_captured(self.layout, self.store, container, request, timeout=timeout)

    def look_at_path(self, container: Container, path: str, *, follow: bool = True) -> PathFacts | None:
        """What is at a path of a container, running or not."""
        from orchestrator.engines.native.files.container_root import open_container_root
        from orchestrator.engines.native.files.copying import look_at

        with open_container_root(self.layout, self.store, self.images, container.id) as root:
            return look_at(root.fd, path, follow=follow)

    def list_folder(self, container: Container, path: str) -> Sequence[str]:
        """The names in a folder of a container, running or not."""
        from orchestrator.engines.native.files.container_root import open_container_root
        from orchestrator.engines.native.files.copying import list_folder

        with open_container_root(self.layout, self.store, self.images, container.id) as root:
            return list_folder(root.fd, path)

    def read_archive(self, container: Container, path: str, name: str, *, follow: bool = False) -> Iterator[bytes]:
        """The tar of what is at a path of a container."""
        from orchestrator.engines.native.files.container_root import open_container_root
        from orchestrator.engines.native.files.copying import render_tree

        with open_container_root(self.layout, self.store, self.images, container.id) as root:
            yield from render_tree(root, path, name, follow=follow)

    def write_archive(self, container: Container, directory: str, source: IO[bytes]) -> None:
        """Unpack a tar stream into a directory of a container."""
        from orchestrator.engines.native.files.container_root import open_container_root
        from orchestrator.engines.native.files.copying import extract_tree

        with open_container_root(self.layout, self.store, self.images, container.id) as root:
            extract_tree(root.fd, directory, source)

    def sync_files(self, container: Container, syncs: Sequence[FileSync], *, changed_only: bool = False) -> int:
        """Make paths of a container what paths of this machine are."""
        from orchestrator.engines.native.files.container_root import open_container_root
        from orchestrator.engines.native.files.syncing import sync_tree

        with open_container_root(self.layout, self.store, self.images, container.id) as root:
            return sync_tree(root.fd, syncs, changed_only=changed_only)

    def read_filesystem(self, container: Container) -> Iterator[bytes]:
        """The tar of a container's file system."""
        from orchestrator.engines.native.files.exporting import render_filesystem

        self._note(container.id, "export")
        return render_filesystem(self.layout, self.store, self.images, container)

    def commit_container(self, container: Container, request: CommitRequest) -> str:
        """Make an image of a container."""
        from orchestrator.engines.native.files.committing import commit_container

        made = commit_container(self.layout, self.store, self.images, container.id, request)
        self._note(container.id, "commit", comment=request.message, imageID=made)
        return made

    def list_processes(self, container: Container) -> Sequence[ProcessFacts]:
        """The processes of a running container."""
        from orchestrator.engines.native.measuring import observe_processes

        return observe_processes(self.layout, self.store, container)

    def read_usage(self, container: Container) -> ContainerUsage:
        """What a container uses now."""
        from orchestrator.engines.native.measuring import observe_usage

        return observe_usage(self.layout, self.store, container)

    def read_events(
        self,
        project: str,
        *,
        since: float | None = None,
        until: float | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> Iterator[ContainerEvent]:
        """What happened to a project's containers, and what happens."""
        from orchestrator.engines.native.journal import read_events

        return read_events(self.layout, project, since=since, until=until, stopped=stopped)

    def read_logs(
        self,
        containers: Sequence[Container],
        *,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
        follow: bool = False,
        stopped: Callable[[], bool] | None = None,
    ) -> Iterator[LogLine]:
        """Read the log files of containers, in the order of time."""
        from orchestrator.engines.native.execution import read_container_logs

        return read_container_logs(
            self.layout,
            containers,
            tail=tail,
            since=since,
            until=until,
            follow=follow,
            stopped=stopped,
        )

    def _note(self, container_id: str, action: str, **attributes: str) -> None:
        """Write down what happened to a container without a change of its own."""
        from orchestrator.engines.native.container import load_spec
        from orchestrator.engines.native.journal import Journal

        row = self.store.container(container_id)
        if row is not None:
            Journal(self.layout).note(row, action, load_spec(row).labels, **attributes)

    # Hosting

    def watch(self, project: str, notify: Callable[[Change], None]) -> Callable[[], None]:
        """Tell of every container of the project that exits."""
        return self.lifecycle.watch(project, notify)

    def serve(self, stack: Stack, loop: asyncio.AbstractEventLoop) -> None:
        """Host names and ports on `loop`, also for the containers that run already."""
        self.hosting.begin(loop)
        self.lifecycle.neighbours.listen(loop, self.lifecycle.names.refresh)
        self.lifecycle.adopt(stack.name)

    def stop_serving(self) -> None:
        """Close the resolver's sockets and the held ports."""
        self.lifecycle.neighbours.stop()
        self.hosting.end()
        self.lifecycle.parting.finish_all()

    def diagnose(self, *, fix: bool = False) -> Sequence[Finding]:
        """What this machine has and lacks, and what is amiss with our own things; `fix` puts right what can be."""
        from orchestrator.engines.native.diagnosis import diagnose_host
        from orchestrator.engines.native.mending import diagnose_projects
        from orchestrator.engines.native.state_diagnosis import diagnose_state

        found = [*diagnose_host(self.layout)]
        if os.geteuid() != 0:
            return found
        found += diagnose_state(self.layout, self.store, fix=fix)
        if all(one.name != "store" for one in found):
            found += diagnose_projects(self.layout, self.store)
        return found


def _adapt(progress: Callable[[ImageProgress], None] | None) -> Callable[[PullProgress], None] | None:
    if progress is None:
        return None
    return lambda one: progress(ImageProgress(layer=one.layer, status=one.status, current=one.current, total=one.total))
