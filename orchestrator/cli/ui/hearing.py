"""What comes from other threads, handed to the application's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from orchestrator.actions.project import Project
    from orchestrator.actions.usage import UsageRow
    from orchestrator.cli.ui.app import BaseApp
    from orchestrator.errors import StackError
    from orchestrator.state import ObservedState


class Call(Message):
    """Something to be done by the application's own thread."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__()
        self.work = work


class Ear:
    """Listens for an application; see ``actions.console.console.Listener``."""

    def __init__(self, app: BaseApp) -> None:
        self._app = app

    def hear_observed(self, project: Project, observed: ObservedState) -> None:
        """The project, and what is there of it."""
        self.pass_on(lambda: self._app.show_observed(project, observed))

    def hear_failed(self, error: StackError) -> None:
        """The files, or the engine, could not be read."""
        self.pass_on(lambda: self._app.show_error("", error))

    def hear_output(self) -> None:
        """There is output to take."""
        self.pass_on(self._app.take_output)

    def hear_news(self) -> None:
        """There is news to take."""
        self.pass_on(self._app.take_news)

    def hear_usage(self, usage: Mapping[str, UsageRow]) -> None:
        """What containers use, by id."""
        self.pass_on(lambda: self._app.show_usage(usage))

    def hear_supervisor(self, runs: bool) -> None:
        """Whether a supervisor runs."""
        self.pass_on(lambda: self._app.show_supervisor(runs))

    def pass_on(self, work: Callable[[], object]) -> None:
        """Have the application's thread do something; without waiting for it."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            self._app.post_message(Call(work))
