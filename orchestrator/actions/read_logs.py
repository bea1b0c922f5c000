"""What containers have written, and what they go on to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from orchestrator.actions.containers import choose_containers, short_name
from orchestrator.actions.project import Project
from orchestrator.engines.base import Engine, LogLine
from orchestrator.record import Record
from orchestrator.state import Container


class LogOptions(Record):
    """What ``logs`` can be asked for; `since` and `until` are seconds since the epoch."""

    services: tuple[str, ...] = ()
    follow: bool = False
    tail: int | None = None
    since: float | None = None
    until: float | None = None
    index: int | None = None


def choose_logs(engine: Engine, project: Project, options: LogOptions) -> tuple[Container, ...]:
    """Return the containers whose logs are meant. Raises NoSuchService."""
    observed = engine.observe(project.name)
    chosen = choose_containers(project, observed, options.services)
    return tuple(one for one in chosen if options.index in (None, one.number))


def read_logs(
    engine: Engine,
    containers: Sequence[Container],
    options: LogOptions,
    *,
    stopped: Callable[[], bool] | None = None,
) -> Iterator[tuple[str, LogLine]]:
    """Yield each line with the short name of its container."""
    names: dict[str, str] = {}
    for one in containers:
        names[one.id] = names[one.name] = short_name(one)
    for line in engine.read_logs(
        containers,
        tail=options.tail,
        since=options.since,
        until=options.until,
        follow=options.follow,
        stopped=stopped,
    ):
        yield names.get(line.container, line.container), line
