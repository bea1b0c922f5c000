"""One project, as a full-screen interface needs it: all its sources together, and what can be done to it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.actions.console.news import News
from orchestrator.actions.console.observing import Observer
from orchestrator.actions.console.operations import Operations
from orchestrator.actions.console.output import OutputTail
from orchestrator.actions.console.sampling import UsageSampler
from orchestrator.actions.console.watch import ProjectWatch
from orchestrator.actions.project import Project, ProjectOptions
from orchestrator.errors import FileMissing, StackError

if TYPE_CHECKING:
    from orchestrator.actions.usage import UsageRow
    from orchestrator.engines.base import Engine
    from orchestrator.goal import Goal
    from orchestrator.state import ObservedState
    from orchestrator.supervision.client import Outcome


class Listener(Protocol):
    """Who is told. Called from many threads; must neither block nor raise."""

    def hear_observed(self, project: Project, observed: ObservedState) -> None:
        """The project, and what is there of it."""

    def hear_failed(self, error: StackError) -> None:
        """The files, or the engine, could not be read."""

    def hear_output(self) -> None:
        """There is output to take."""

    def hear_news(self) -> None:
        """There is news to take."""

    def hear_usage(self, usage: Mapping[str, UsageRow]) -> None:
        """What containers use, by id."""

    def hear_supervisor(self, runs: bool) -> None:
        """Whether a supervisor runs."""


class Console:
    """The sources and operations of one project.

    `load` loads its files again (quickly, if they are as they were), for some services or for all. `converge` brings it
    to a goal, `query_status` asks its supervisor; tests have their own.
    """

    def __init__(
        self,
        engine: Engine,
        project: Project,
        listener: Listener,
        *,
        load: Callable[[Sequence[str]], Project],
        own: Callable[[Project], None],
        converge: Callable[[Goal], Outcome],
        query_status: Callable[[str], dict[str, Any] | None],
    ) -> None:
        self.engine, self.project = engine, project
        self.query_status = query_status
        self._listener = listener
        self._news: deque[News] = deque(maxlen=500)
        self._news_lock = threading.Lock()
        self.operations = Operations(engine, load, own, converge)
        self._observer = Observer(engine, project, lambda: load(()), listener.hear_observed, listener.hear_failed)
        self.output = OutputTail(engine, listener.hear_output, self._observer.look)
        self.sampler = UsageSampler(engine, listener.hear_usage)
        self.watch = ProjectWatch(
            engine,
            project.name,
            on_change=self._observer.look,
            on_news=self._hear_news,
            on_supervisor=listener.hear_supervisor,
        )

    def begin(self) -> None:
        """Begin to look and to listen."""
        self._observer.begin()
        self.watch.begin()

    def look(self) -> None:
        """Look at the project now: it may have changed without telling anybody."""
        self._observer.look()

    def take_news(self) -> list[News]:
        """What has happened since the last call."""
        with self._news_lock:
            found = list(self._news)
            self._news.clear()
        return found

    def close(self) -> None:
        """End everything; idempotent."""
        self.watch.close()
        self.output.close()
        self.sampler.close()
        self._observer.close()

    def _hear_news(self, news: News) -> None:
        with self._news_lock:
            first = not self._news
            self._news.append(news)
        if first:
            self._listener.hear_news()


def load_for_console(options: ProjectOptions, named: Project) -> Callable[[Sequence[str]], Project]:
    """Return what loads the project anew. One that is known by its name alone, or whose files went away, stays that."""
    from orchestrator.actions.project import load_again

    def load(services: Sequence[str]) -> Project:
        if named.stack is None:
            return named
        try:
            project = load_again(options, services)
        except FileMissing:
            return Project(name=named.name)
        # A file that is given another name meanwhile is another project.
        return project if project.name == named.name else Project(name=named.name)

    return load


def converge_apart(goal: Goal) -> Outcome:
    """Bring a project to `goal` from a process with threads; a new supervisor is an interpreter of its own."""
    from orchestrator.actions.console.spawning import Spawned
    from orchestrator.supervision.client import Session

    with Session(goal.stack.name, prepared=Spawned()) as session:
        outcome = session.converge(goal, lambda _event: None)
        session.finish()
        return outcome
