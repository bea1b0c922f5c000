"""Waiting for dependencies: which operations a start has to come after, and the shared WaitFor nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.graph import resolve_dependencies
from orchestrator.model import image_reference
from orchestrator.plan import WaitFor

if TYPE_CHECKING:
    from orchestrator.model import Condition, Service
    from orchestrator.reconcile.draft import Draft

_WORDS: dict[Condition, str] = {
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "completed",
}


class Waits:
    """The gates of one plan. Services are asked for in the order of their dependencies."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def gates(self, service: Service) -> tuple[str, ...]:
        """The operations that a start of `service` has to come after, because of what it depends on."""
        draft = self._draft
        if not any(one.starts for one in draft.replicas[service.name]) or draft.want(service.name) != "running":
            return ()
        return self.prerequisites(service)

    def prerequisites(self, service: Service) -> tuple[str, ...]:
        """The operations that any container of `service` has to come after, because of what it depends on."""
        draft = self._draft
        needs: set[str] = set()
        for dependency in resolve_dependencies(service).values():
            # What this command leaves alone is not waited for either (--no-deps).
            if draft.want(dependency.service) != "running" or dependency.service not in draft.stack.services:
                continue
            starts = self._starts(dependency.service)
            if self._holds(dependency.service, dependency.condition, starts):
                continue
            if dependency.condition == "service_healthy" and dependency.required:
                self._warn_unchecked(service.name, dependency.service)
            if dependency.condition == "service_started" and dependency.required:
                needs.update(starts)
            else:
                needs.add(self._wait(dependency.service, dependency.condition, starts, required=dependency.required))
        return tuple(sorted(needs))

    def _starts(self, name: str) -> tuple[str, ...]:
        draft = self._draft
        verbs = ("start", "restart", "post_start")
        ids = [f"{verb} {one.label}" for one in draft.replicas.get(name, ()) for verb in verbs]
        return draft.present(ids)

    def _wait(self, name: str, condition: Condition, starts: tuple[str, ...], *, required: bool) -> str:
        suffix = "" if required else " (optional)"
        # Every container that is there is looked at, so those that are to go have to be gone: an old one, too, that
        # goes on until the new one is well (`order: start-first`).
        going = self._draft.present(f"remove {one.label}" for one in self._draft.replicas.get(name, ()))
        return self._draft.add(
            WaitFor(
                id=f"wait {name} {_WORDS[condition]}{suffix}",
                subject=name,
                cause=self._cause(name, condition, required),
                needs=(*starts, *going),
                service=name,
                condition=condition,
                required=required,
                watched=tuple(one.name for one in self._draft.replicas.get(name, ()) if not one.ends),
            )
        )

    def _cause(self, name: str, condition: Condition, required: bool) -> str:
        draft = self._draft
        waiting = []
        for other in draft.graph.needed_by[name]:
            found = resolve_dependencies(draft.stack.services[other]).get(name)
            starting = draft.want(other) == "running" and any(one.starts for one in draft.replicas[other])
            if starting and found is not None and (found.condition, found.required) == (condition, required):
                waiting.append(other)
        if not waiting:
            return "a one-off container waits for it"
        return f"{', '.join(waiting)} {'waits' if len(waiting) == 1 else 'wait'} for it"

    def _holds(self, name: str, condition: Condition, starts: tuple[str, ...]) -> bool:
        """True when the condition is met now and nothing in the plan touches it."""
        if starts:
            return False
        containers = [one.container for one in self._draft.replicas.get(name, ()) if not one.ends and one.container]
        if condition == "service_started":
            return all(one.started_at for one in containers)
        if condition == "service_healthy":
            return all(one.alive and one.health == "healthy" for one in containers)
        return all(one.status == "exited" and one.exit_code == 0 for one in containers)

    def _has_check(self, name: str) -> bool | None:
        """Whether a service has a health check; None while its image is not here to tell."""
        service = self._draft.stack.services[name]
        probe = service.healthcheck
        if probe is not None and (probe.disable or probe.test == ("NONE",)):
            return False
        if probe is not None and probe.test:
            return True
        facts = self._draft.observed.images.get(image_reference(self._draft.stack, service))
        return None if facts is None else facts.has_healthcheck

    def _warn_unchecked(self, dependent: str, name: str) -> None:
        if self._has_check(name) is False:
            self._draft.warn(
                "health-check-missing",
                f"{dependent} waits for {name} to be healthy, but {name} has no health check",
                ("services", dependent, "depends_on", name, "condition"),
                hint=f"give {name} a healthcheck, or wait for service_started",
            )
