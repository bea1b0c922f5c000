"""Writes down what a supervisor's commands did and when, for ``stack trace``."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from orchestrator.timeline import Span, Timeline

if TYPE_CHECKING:
    from orchestrator.events import Event
    from orchestrator.plan import Plan
    from orchestrator.supervision.control import Place

MOST_SPANS = 20_000
"""What is kept of one command; a stack of some thousand containers has as many."""


class Tracer:
    """Collects the operations of the command under way."""

    def __init__(self) -> None:
        self._began = 0.0
        self._needs: dict[str, tuple[str, ...]] = {}
        self._open: dict[str, float] = {}
        self._spans: list[Span] = []

    def begin(self, issued_at: float) -> None:
        """A new goal: what was collected is dropped."""
        self._began = issued_at
        self._needs.clear()
        self._open.clear()
        self._spans.clear()

    def note_plan(self, plan: Plan) -> None:
        """Remember what waits for what."""
        self._needs.update({one.id: tuple(one.needs) for one in plan})

    def hear(self, event: Event) -> None:
        """Take an event of the executor."""
        if event.kind != "operation":
            return
        if event.phase == "started":
            self._open[event.action] = event.time
        elif event.phase not in ("progress", None) and len(self._spans) < MOST_SPANS:
            began = self._open.pop(event.action, None)
            if began is not None:
                self._spans.append(
                    Span(
                        id=event.action,
                        verb=event.verb,
                        subject=event.subject,
                        began=began,
                        ended=event.time,
                        cause=event.cause,
                        service=event.service,
                        phase=event.phase or "",
                        needs=self._needs.get(event.action, ()),
                    )
                )

    def finish(self, project: str, now: float, *, converged: bool) -> Timeline:
        """The timeline of the command that has ended now."""
        return Timeline(project=project, began=self._began, ended=now, converged=converged, spans=tuple(self._spans))


def write_timeline(place: Place, timeline: Timeline) -> None:
    """Keep a timeline; one without operations leaves the last one there. Raises OSError."""
    if not timeline.spans:
        return
    beside = f"{place.trace}.new"
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644), "w") as file:
        # Not `json.dump`, which goes through Python for every value.
        file.write(json.dumps(timeline.to_json(), separators=(",", ":")))
    os.rename(beside, place.trace)


def read_timeline(place: Place) -> Timeline | None:
    """The last timeline; None if there is none."""
    try:
        with open(place.trace) as file:
            return Timeline.from_json(json.load(file))
    except (OSError, ValueError, KeyError, TypeError):
        return None
