"""The native engine: the embedded, daemonless default. Each method hands its work to the room that knows how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from orchestrator.engines.base import Change, ExecRequest, ExecResult, Finding, ImageProgress, LogLine
from orchestrator.engines.native.capabilities import check_stack
from orchestrator.engines.native.hosting import Hosting
from orchestrator.engines.native.images.store import ImageStore
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.observing import image_facts, image_reference, observe_project
from orchestrator.engines.native.store import Store
from orchestrator.errors import Diagnostic, Unsupported
from orchestrator.model import Network, Service, Stack, Volume
from orchestrator.state import Container, HealthStatus, ImageFacts, ObservedState

if TYPE_CHECKING:
    import asyncio

    from orchestrator.engines.native.lifecycle import Lifecycle
    from orchestrator.plan import CreateContainer


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
        from orchestrator.engines.native.facts import observe_host

        facts = observe_host()
        found = list(check_stack(stack))
        for name in sorted(stack.services):
            found += check_service(stack.services[name], facts, stack.sources)
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
        self, reference: str, *, platform: str | None = None, progress: Callable[[ImageProgress], None] | None = None
    ) -> ImageFacts:
        """Fetch an image from its registry."""
        image = self.images.pull(
            reference,
            platform=platform,
            progress=None
            if progress is None
            else lambda one: progress(
                ImageProgress(layer=one.layer, status=one.status, current=one.current, total=one.total)
            ),
        )
        return image_facts(reference, image)

    def build_image(self, stack: Stack, service: Service) -> ImageFacts:
        """Not built yet: the image has to be there."""
        reference = image_reference(stack, service.name)
        raise Unsupported(
            f"service {service.name} has no image {reference}, and building is not supported yet",
            resource=reference,
            operation="build image",
            hint=f"import one with: stack image import ROOTFS.tar --tag {reference}",
        )

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

    def start_container(self, container_id: str) -> None:
        """Start a container."""
        self.lifecycle.start(container_id)

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

    def record_restart(self, container_id: str, count: int) -> None:
        """Remember how often the restart policy has started a container."""
        self.store.update_container(container_id, restart_count=count)

    # Looking inside

    def exec_attached(self, container: Container, request: ExecRequest) -> int:
        """Run a command in a container with this process's stdio."""
        from orchestrator.engines.native.execution import exec_attached

        return exec_attached(self.layout, self.store, container, request)

    def exec_captured(self, container: Container, request: ExecRequest, *, timeout: float) -> ExecResult:
        """Run a command in a container and keep the end of its output."""
        from orchestrator.engines.native.execution import exec_captured

        return exec_captured(self.layout, self.store, container, request, timeout=timeout)

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

    def diagnose(self) -> Sequence[Finding]:
        """What this machine has and lacks."""
        from orchestrator.engines.native.diagnosis import diagnose_host

        return diagnose_host(self.layout)
