"""The timeline of a command: when each operation ran, what it waited for, and which chain the whole took its time from.

Pure. Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.record import Record


class Span(Record):
    """One operation as it ran. `phase` is done, failed, cancelled or skipped; what never ran has no span."""

    id: str
    verb: str
    subject: str
    began: float
    ended: float
    cause: str = ""
    service: str = ""
    phase: str = "done"
    needs: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.ended - self.began


class Timeline(Record):
    """One command of one project, from its goal to the goal's end."""

    project: str
    began: float
    ended: float
    converged: bool
    spans: tuple[Span, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**self.__dict__, "spans": [{**one.__dict__, "needs": list(one.needs)} for one in self.spans]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Timeline:
        """The reverse of :meth:`to_json`."""
        spans = tuple(Span(**{**one, "needs": tuple(one["needs"])}) for one in data["spans"])
        return cls(**{**data, "spans": spans})


def find_critical_path(timeline: Timeline) -> tuple[Span, ...]:
    """The chain of operations that the whole took its time from, in the order in which they ran.

    From the operation that ended last, each step goes to the prerequisite that ended last: nothing else would have let
    it begin earlier. Operations of an earlier plan of the same command count as prerequisites of a later plan's first.
    """
    by_id = {one.id: one for one in timeline.spans}
    current = max(timeline.spans, key=lambda one: (one.ended, one.id), default=None)
    path: list[Span] = []
    while current is not None and current not in path:
        path.append(current)
        needs = [by_id[need] for need in current.needs if need in by_id]
        if not needs:
            began = current.began
            needs = [one for one in timeline.spans if one.ended <= began and one not in path]
        current = max(needs, key=lambda one: (one.ended, one.id), default=None)
    return tuple(reversed(path))


def render_chrome_trace(timeline: Timeline) -> dict[str, Any]:
    """The timeline in the Trace Event Format that browsers' tracing pages and Perfetto read; one row per subject."""
    critical = {one.id for one in find_critical_path(timeline)}
    rows = {subject: index for index, subject in enumerate(dict.fromkeys(one.subject for one in timeline.spans), 1)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": 0, "name": "process_name", "args": {"name": f"stack {timeline.project}"}},
        *(
            {"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": name}}
            for name, tid in rows.items()
        ),
    ]
    for one in timeline.spans:
        events.append(
            {
                "ph": "X",
                "pid": 1,
                "tid": rows[one.subject],
                "ts": round((one.began - timeline.began) * 1e6),
                "dur": round(one.seconds * 1e6),
                "name": one.verb,
                "cat": "critical" if one.id in critical else "operation",
                "args": {"id": one.id, "cause": one.cause, "phase": one.phase, "needs": list(one.needs)},
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def render_bars(timeline: Timeline, width: int) -> Sequence[tuple[str, str, float, bool]]:
    """Each operation as (id, bar of `width` columns, seconds, whether it is on the critical path), by its beginning."""
    total = max(timeline.ended - timeline.began, 1e-9)
    critical = {one.id for one in find_critical_path(timeline)}
    rows = []
    for one in sorted(timeline.spans, key=lambda span: (span.began, span.ended, span.id)):
        start = min(width - 1, max(0, int((one.began - timeline.began) / total * width)))
        length = max(1, min(width - start, round(one.seconds / total * width)))
        bar = " " * start + ("█" if one.id in critical else "▒") * length
        rows.append((one.id, bar.ljust(width), one.seconds, one.id in critical))
    return rows
