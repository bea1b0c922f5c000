"""What the loop knows of services and images, whether they still stand in the stack file or only in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.health import Check, resolve_check
from orchestrator.model import RestartPolicy, Service, image_reference
from orchestrator.reconcile.providers import is_provided
from orchestrator.spec.bind import bind_service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.control_loop.conditions import Board
    from orchestrator.goal import Goal
    from orchestrator.model import Condition, Stack
    from orchestrator.state import Container, ImageFacts, ObservedState


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

    def list_moved(self, stack: Stack, ran: Mapping[str, str]) -> dict[str, str]:
        """Those of the image identifiers `ran` (by service) that the names in `stack` do not mean any more."""
        moved = {}
        for name, identifier in ran.items():
            service = stack.services.get(name)
            facts = self.images.get(image_reference(stack, service)) if service is not None else None
            if facts is None or facts.id != identifier:
                moved[name] = identifier
        return moved

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
        return self._merge_check(known, image_reference(self._stack, known))

    def find_own_check(self, container: Container) -> Check | None:
        """The health check of a container: its service's, but for a one-off container the one that it was made with."""
        if not container.oneoff:
            return self.find_check(container.service)
        return self._merge_check(bind_service(container.service, container.config, {}), container.image)

    def _merge_check(self, service: Service, reference: str) -> Check | None:
        facts = self.images.get(reference)
        return resolve_check(service.healthcheck, facts.healthcheck if facts else None)

    def choose_conditions(self, goal: Goal) -> dict[str, Condition]:
        """What ``--wait`` waits for, by service."""
        named = [one for one in goal.wait_for if goal.replicas(one) and not is_provided(goal.stack.services[one])]
        return {name: self._choose_condition(goal, name) for name in named}

    def _choose_condition(self, goal: Goal, name: str) -> Condition:
        for other in goal.stack.services.values():
            dependency = other.depends_on.get(name)
            if dependency is not None and dependency.condition == "service_completed_successfully":
                return "service_completed_successfully"
        return "service_healthy" if self.find_check(name) else "service_started"

    def find_policy(self, name: str) -> RestartPolicy:
        """The restart policy of a service."""
        known = self.find_service(name)
        return known.restart if known else RestartPolicy()
