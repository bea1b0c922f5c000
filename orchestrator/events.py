"""Progress and lifecycle events, and the sink they go to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol

from orchestrator.record import Record

_NOTHING: Mapping[str, Any] = MappingProxyType({})

Phase = Literal["started", "progress", "done", "failed", "cancelled", "skipped"]


class Event(Record):
    """One thing that happened. `time` is seconds since the epoch."""

    time: float
    kind: Literal["operation", "container", "health", "log", "warning", "error", "converged", "message"]
    subject: str = ""
    """What it is about: a container, network, volume, image or service name."""
    action: str = ""
    """Operations: the operation's id. Containers: start, die, restart, give-up, oom ... Health: the new status."""
    phase: Phase | None = None
    verb: str = ""
    cause: str = ""
    message: str = ""
    service: str = ""
    details: Mapping[str, Any] = _NOTHING

    def to_json(self) -> dict[str, Any]:
        """Plain data for the control socket and for NDJSON output; unset fields are left out."""
        found = {name: value for name, value in self.__dict__.items() if value or value == 0}
        if "details" in found:
            found["details"] = dict(self.details)
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Event:
        """The reverse of :meth:`to_json`."""
        return cls(**{name: value for name, value in data.items() if name in cls._names})


class Sink(Protocol):
    """Takes events; never raises, never blocks."""

    def __call__(self, event: Event, /) -> None:
        """Take one event."""
