"""What the loop knows of services and images, whether they still stand in the stack file or only in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.health import Check, resolve_check
from orchestrator.model import RestartPolicy, Service, image_reference
from orchestrator.spec.bind import bind_service

if TYPE_CHECKING:
    from orchestrator.conditions import Board
    from orchestrator.model import Stack
    from orchestrator.state import ImageFacts, ObservedState


class Catalog:
    """Services by name and images by reference, as they were last heard of."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._services: dict[str, Service] = {}
        self._stack: Stack | None = None
        self.images: dict[str, ImageFacts] = {}

    def learn_stack(self, stack: Stack) -> None:
        """Take over the services of a new goal."""
        self._stack = stack
        self._services.update(stack.services)

    def learn_images(self, observed: ObservedState) -> None:
        """Take over the facts of the images that an observation found."""
        for reference, facts in observed.images.items():
            if facts is not None:
                self.images[reference] = facts

    def find_service(self, name: str) -> Service | None:
        """The service called `name`; one that is not in the stack any more as its container says that it was."""
        known = self._services.get(name)
        if known is None:
            for one in self._board.of_service(name):
                known = self._services[name] = bind_service(name, one.config, {})
        return known

    def find_check(self, name: str) -> Check | None:
        """The health check of a service, its own or its image's; None if it has none."""
        known = self.find_service(name)
        if known is None or self._stack is None:
            return None
        facts = self.images.get(image_reference(self._stack, known))
        return resolve_check(known.healthcheck, facts.healthcheck if facts else None)

    def find_policy(self, name: str) -> RestartPolicy:
        """The restart policy of a service."""
        known = self.find_service(name)
        return known.restart if known else RestartPolicy()
