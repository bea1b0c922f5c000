"""What the fake engine has besides containers: images, networks and volumes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from orchestrator.engines.base import BuildEvent, ImageProgress
from orchestrator.engines.fake_parts import FakeContainer
from orchestrator.errors import Conflict, EngineError, NotFound
from orchestrator.goal import BuildOptions
from orchestrator.model import image_reference
from orchestrator.state import ImageFacts, ObservedNetwork, ObservedVolume

if TYPE_CHECKING:
    from orchestrator.engines.base import BuildProgress
    from orchestrator.model import Network, Probe, Service, Stack, Volume


_NO_OPTIONS = BuildOptions()


class FakeResources:
    """Images, networks and volumes in dictionaries; containers are kept here and dealt with in the engine."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.before: Callable[[str, str], None] = lambda _operation, _resource: None
        self.calls: list[tuple[str, str]] = []
        self._clock = clock
        self._lock = threading.RLock()
        self._ids = (f"{number:012x}" + "0" * 52 for number in itertools.count(1))
        self._containers: dict[str, FakeContainer] = {}
        self._networks: dict[str, ObservedNetwork] = {}
        self._volumes: dict[str, ObservedVolume] = {}
        self._files: dict[str, dict[str, str]] = {}
        self._images: dict[str, ImageFacts] = {}
        self._registry: dict[str, ImageFacts] = {}

    def _begin(self, operation: str, resource: str) -> None:
        with self._lock:
            self.calls.append((operation, resource))
        self.before(operation, resource)

    def publish_image(
        self,
        reference: str,
        *,
        image_id: str = "",
        healthcheck: Probe | None = None,
        volumes: tuple[str, ...] = (),
        local: bool = False,
    ) -> ImageFacts:
        """Put an image into the registry, and with `local` into the engine as well."""
        facts = ImageFacts(
            id=image_id or f"sha256:{sha256(reference.encode()).hexdigest()}",
            reference=reference,
            has_healthcheck=healthcheck is not None,
            healthcheck=healthcheck,
            volumes=volumes,
        )
        with self._lock:
            self._registry[reference] = facts
            if local:
                self._images[reference] = facts
        return facts

    # Images

    def _find_image(self, reference: str) -> ImageFacts | None:
        """The image of this name, or with this identifier."""
        by_id = (one for one in self._images.values() if one.id == reference)
        return self._images.get(reference) or next(by_id, None)

    def pull_image(
        self,
        reference: str,
        *,
        platform: str | None = None,
        progress: Callable[[ImageProgress], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> ImageFacts:
        """Take an image over from the registry."""
        self._begin("pull", reference)
        if cancel is not None and cancel():
            raise EngineError("cancelled", resource=reference, operation="pull image")
        with self._lock:
            facts = self._registry.get(reference)
            if facts is None:
                raise NotFound(f"no image {reference}", resource=reference, operation="pull image")
            self._images[reference] = facts.replace(pulled_at=self._clock())
        if progress is not None:
            progress(ImageProgress(layer=facts.id[7:19], status="done", current=facts.size, total=facts.size))
        return self._images[reference]

    def build_image(
        self,
        stack: Stack,
        service: Service,
        *,
        options: BuildOptions = _NO_OPTIONS,
        progress: BuildProgress | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> ImageFacts:
        """Make an image that differs from every one before; it is told as a build of one step."""
        reference = image_reference(stack, service)
        self._begin("build", reference)
        if cancel is not None and cancel():
            raise EngineError("the build was cancelled", resource=reference, operation="build image")
        if progress is not None:
            for kind, text in (("started", ""), ("log", "made\n"), ("done", "")):
                event = BuildEvent(kind=kind, vertex=1, time=self._clock(), name="[1/1] FROM scratch", text=text)  # type: ignore[arg-type]
                progress(event)
        with self._lock:
            made = ImageFacts(id=f"sha256:{next(self._ids)}", reference=reference, built_at=self._clock())
            self._images[reference] = made
            return made

    def push_image(
        self,
        reference: str,
        *,
        progress: Callable[[ImageProgress], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> str:
        """Put an image into the registry."""
        self._begin("push", reference)
        if cancel is not None and cancel():
            raise EngineError("cancelled", resource=reference, operation="push image")
        with self._lock:
            facts = self._images.get(reference)
            if facts is None:
                raise NotFound(f"no image {reference}", resource=reference, operation="push image")
            self._registry[reference] = facts
        if progress is not None:
            progress(ImageProgress(layer=facts.id[7:19], status="done", current=facts.size, total=facts.size))
        return facts.id

    # Networks and volumes

    def create_network(self, project: str, network: Network) -> None:
        """Create a network with a subnet of its own."""
        self._begin("create network", network.name)
        with self._lock:
            old = self._networks.get(network.name)
            if old is not None and (old.project, dict(old.config)) != (project, dict(network.config)):
                raise Conflict(
                    f"the network {network.name} exists with another configuration or owner",
                    resource=network.name,
                    operation="create network",
                )
            taken = {subnet for one in self._networks.values() for subnet in one.subnets}
            free = next(f"10.{n}.0.0/16" for n in range(256) if f"10.{n}.0.0/16" not in taken)
            self._networks[network.name] = old or ObservedNetwork(
                name=network.name,
                key=network.key,
                project=project,
                driver=network.driver or "bridge",
                config=dict(network.config),
                subnets=tuple(pool.subnet for pool in network.ipam if pool.subnet) or (free,),
                internal=network.internal,
            )

    def remove_network(self, project: str, name: str) -> None:
        """Remove a network; containers that ended lose their place on it."""
        self._begin("remove network", name)
        with self._lock:
            for one in self._containers.values():
                if one.state.alive and any(endpoint.network == name for endpoint in one.state.endpoints):
                    raise Conflict(
                        f"{one.state.name} runs on the network {name}", resource=name, operation="remove network"
                    )
            for one in self._containers.values():
                left = tuple(endpoint for endpoint in one.state.endpoints if endpoint.network != name)
                one.change(endpoints=left)
            self._networks.pop(name, None)

    def create_volume(self, project: str, volume: Volume) -> None:
        """Create a named volume."""
        self._begin("create volume", volume.name)
        self._add_volume(volume.name, volume.key, project, volume.config)

    def _add_volume(self, name: str, key: str, project: str, config: Mapping[str, Any]) -> None:
        with self._lock:
            made = ObservedVolume(name=name, key=key, project=project, config=dict(config))
            self._volumes.setdefault(name, made)
            self._files.setdefault(name, {})

    def remove_volume(self, project: str, name: str) -> None:
        """Remove a volume that no container has."""
        self._begin("remove volume", name)
        with self._lock:
            for one in self._containers.values():
                if name in one.state.volumes.values():
                    raise Conflict(f"{one.state.name} uses the volume {name}", resource=name, operation="remove volume")
            self._volumes.pop(name, None)
            self._files.pop(name, None)
