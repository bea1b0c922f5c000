"""What a loop tells of a plan besides its operations: what is left alone, waited for, warned of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.events import Event, Phase, Sink

if TYPE_CHECKING:
    from orchestrator.goal import Goal
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
        told = {"keep container": plan.running, "rest container": plan.resting, "spare container": plan.completed}
        for verb, found in told.items():
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

    def tell_turning_back(self, project: str, back: Goal) -> None:
        """Tell that an update has failed and `back` is the way to what was there before."""
        message = f"the update failed: going back to what {', '.join(sorted(back.wants))} ran before"
        self._emit(Event(time=self._clock(), kind="warning", subject=project, action="rollback", message=message))

    def tell_abort(self, project: str, exit_code: int) -> None:
        """Tell that a container has ended and the others are stopped because of that."""
        message, details = "a container exited, stopping the others", {"exit_code": exit_code}
        event = Event(time=self._clock(), kind="message", subject=project, action="abort", message=message)
        self._emit(event.replace(details=details))
