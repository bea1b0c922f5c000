"""What is shown over everything else: a question before something large, and the help."""

from __future__ import annotations

from typing import ClassVar

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from orchestrator.actions.console.operations import Proposal
from orchestrator.cli.ui.keys import KEYS

_SCROLLING: list[BindingType] = [
    Binding("up", "scroll(-1)"),
    Binding("down", "scroll(1)"),
    Binding("pageup", "scroll(-10)"),
    Binding("pagedown,space", "scroll(10)"),
    Binding("ctrl+c", "app.quit"),
]


class _Dialog(ModalScreen[bool]):
    """A frame with something to read and a line of keys."""

    def __init__(self, title: str, body: RenderableType, keys: str) -> None:
        super().__init__()
        self._title, self._body, self._keys = title, body, keys

    def compose(self) -> ComposeResult:
        """Title in the frame, body, keys."""
        with Vertical(id="dialog") as frame:
            frame.border_title = self._title
            with VerticalScroll(id="dialog-body", can_focus=False):
                yield Static(self._body)
            yield Static(self._keys, id="dialog-keys", markup=False)

    def action_scroll(self, rows: int) -> None:
        """Move what does not fit."""
        self.query_one("#dialog-body", VerticalScroll).scroll_relative(y=rows, animate=False)


class Question(_Dialog):
    """Asks whether a proposal shall be carried out; shows its plan."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *_SCROLLING,
        Binding("y,enter", "answer(True)"),
        Binding("n,escape,q", "answer(False)"),
    ]

    def __init__(self, proposal: Proposal) -> None:
        project = proposal.goal.stack.name
        count = len(proposal.plan.operations)
        title = f"{proposal.verb} {project}: {count} operation{'' if count == 1 else 's'}"
        super().__init__(title, render_proposal(proposal), "y Enter: do it   n Escape: leave it   ↑ ↓: read on")

    def action_answer(self, yes: bool) -> None:
        """Close, with the answer."""
        self.dismiss(yes)


def render_proposal(proposal: Proposal) -> Text:
    """The plan with its causes; a cause that all operations share stands there once."""
    from orchestrator.cli.plans import render_plan

    shades = {"+": "green", "-": "red", "~": "yellow"}
    lines = render_plan(proposal.plan, proposal.goal.stack.name).splitlines()[2:]
    causes = [line for line in lines if line.startswith("      ")]
    shared = causes[0] if len(causes) > 1 and len(set(causes)) == 1 else None
    text = Text(f"{shared.strip()}:\n" if shared else "", style="")
    for line in lines:
        if line != shared:
            text.append(f"{line.removeprefix('  ')}\n", style=shades.get(line[2], "dim"))
    text.rstrip()
    return text


class Help(_Dialog):
    """What the keys do."""

    BINDINGS: ClassVar[list[BindingType]] = [*_SCROLLING, Binding("question_mark,escape,enter,q", "close")]

    def __init__(self) -> None:
        body = Table.grid(padding=(0, 2, 0, 0))
        body.add_column(style="bold", no_wrap=True)
        body.add_column()
        for one in KEYS:
            if one.text:
                body.add_row(one.shown, one.text)
        super().__init__("keys", body, "? Escape: back")

    def action_close(self) -> None:
        """Back."""
        self.dismiss(False)
