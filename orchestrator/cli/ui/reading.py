"""The panels that are read: why a service is as it is, and what its containers were made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from orchestrator.actions.console.looking import Reasons, describe_facts, find_reasons, render_configuration
from orchestrator.cli.ui.panels import render_details, render_reasons
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from orchestrator.actions.console.console import Console
    from orchestrator.actions.console.rows import Row
    from orchestrator.actions.project import Project
    from orchestrator.actions.usage import UsageRow
    from orchestrator.state import ObservedState


class ReadingPanel(VerticalScroll, can_focus=False):
    """A text that scrolls."""

    def compose(self) -> ComposeResult:
        """The text."""
        yield Static(id=f"{self.id}-text", markup=False)

    @property
    def text(self) -> Static:
        """What the text is shown by."""
        return self.query_one(Static)


class WhyPanel(ReadingPanel):
    """Why a service is as it is. The supervisor is asked in a thread."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.asking = False

    def prepare(
        self, console: Console, project: Project, row: Row, observed: ObservedState
    ) -> tuple[Callable[[], Reasons], Callable[[Reasons], None]]:
        """Return what finds the reasons, for a thread, and what shows them, for the application's."""
        self.asking = True

        def ask() -> Reasons:
            status: dict[str, Any] | None = None
            try:
                status = console.query_status(project.name)
                return find_reasons(console.engine, project, row, observed, status)
            except StackError as error:
                return Reasons(service=row.service, sentences=(error.message,))

        def show(reasons: Reasons) -> None:
            self.asking = False
            self.text.update(render_reasons(reasons, row))

        return ask, show


class DetailsPanel(ReadingPanel):
    """What is known of the containers of a row."""

    def show(self, project: Project, row: Row, usage: Mapping[str, Sequence[UsageRow]]) -> None:
        """Show it; `usage` is what containers have used lately, by id."""
        use = [(one.name, list(usage.get(one.id, ()))) for one in row.containers]
        self.text.update(render_details(row, describe_facts(row), render_configuration(project, row), use))
