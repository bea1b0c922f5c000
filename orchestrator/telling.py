"""What a loop tells of a plan besides its operations: what is left alone, waited for, warned of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.events import Event, Phase, Sink

if TYPE_CHECKING:
    from orchestrator.plan import Plan


class Teller:
    """Sends such events to `emit`; `clock` is epoch seconds."""

    def __init__(self, emit: Sink, clock: Callable[[], float]) -> None:
        self._emit = emit
        self._clock = clock

    def warn(self, plan: Plan) -> None:
        """Tell a plan's warnings."""
        for one in plan.warnings:
            self._emit(Event(time=self._clock(), kind="warning", message=one.render(), details={"code": one.code}))

    def tell_left_alone(self, plan: Plan) -> None:
        """Tell of the containers that are as they should be."""
        for verb, found in (("keep container", plan.running), ("rest container", plan.resting)):
            for service, name in found:
                self.tell_container(verb, service, name, "done")

    def tell_container(self, verb: str, service: str, name: str, phase: Phase) -> None:
        """Tell of one container that nothing is done with."""
        action = f"{verb.partition(' ')[0]} {name}"
        self._emit(
            Event(
                time=self._clock(),
                kind="operation",
                subject=name,
                action=action,
                phase=phase,
                verb=verb,
                service=service,
            )
        )

    def tell_converged(self, project: str) -> None:
        """Tell that the goal is reached."""
        self._emit(Event(time=self._clock(), kind="converged", subject=project))
