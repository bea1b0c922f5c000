"""The application: what is on the screen, and what comes in. What keys do stands in ``acting``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.filter import LineFilter
from textual.widgets import ContentSwitcher, Input, Static

from orchestrator.actions.console.console import Console, Listener
from orchestrator.actions.console.rows import Row, arrange_rows, count_totals
from orchestrator.cli.ui.bars import KeyBar, NewsList, PanelBar, Summary
from orchestrator.cli.ui.hearing import Call, Ear
from orchestrator.cli.ui.keys import make_bindings
from orchestrator.cli.ui.layout import CSS, HEIGHTS, WIDTHS
from orchestrator.cli.ui.output_view import OutputView
from orchestrator.cli.ui.plain import CharacterFilter
from orchestrator.cli.ui.reading import DetailsPanel, WhyPanel
from orchestrator.cli.ui.table import ServiceTable

if TYPE_CHECKING:
    from orchestrator.actions.project import Project
    from orchestrator.actions.usage import UsageRow
    from orchestrator.errors import StackError
    from orchestrator.state import ObservedState

PANELS: Final = (("log", "Output"), ("why", "Why"), ("details", "Details"))

_SAMPLES: Final = 40  # looks of the past in the details
_PACE: Final = 0.03
"""Seconds between two helpings of output, at least."""

_WHY_AGAIN: Final = 2.0
"""Seconds until the reasons are asked for again while they are on the screen: probes tell nobody that they ran."""


class BaseApp(App[None]):
    """The screen and its sources, without the keys. `open_console` is called once there is somebody to listen."""

    CSS = CSS
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    BINDINGS: ClassVar[list[BindingType]] = make_bindings()

    def __init__(self, open_console: Callable[[Listener], Console], *, encoding: str = "utf-8") -> None:
        # Textual reads the variable, too, and would make do with shades of grey.
        super().__init__(ansi_color="NO_COLOR" in os.environ or None)
        if self.no_color:
            self.theme = "ansi-dark"
        self._characters = CharacterFilter(encoding)
        self._ear = Ear(self)
        self.console_of: Console = open_console(self._ear)
        self.project: Project = self.console_of.project
        self.observed: ObservedState | None = None
        self.supervised = False
        self.busy: list[str] = []
        self.usage: dict[str, deque[UsageRow]] = {}
        self.panel = "log"
        self._shown_output: tuple[str, ...] | None = None
        self._resting = False

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's, and one for terminals that do not know every character."""
        return [*super().get_line_filters(), self._characters]

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield Summary(id="summary", markup=False)
        yield ServiceTable(id="services")
        yield PanelBar(id="tabs")
        with ContentSwitcher(id="panels", initial="log"):
            yield OutputView(id="log")
            yield WhyPanel(id="why")
            yield DetailsPanel(id="details")
        yield Input(id="search", placeholder="search the output", select_on_focus=False)
        yield Static("events", id="news-title", markup=False)
        yield NewsList(id="news")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        """Begin to look and to listen."""
        self.table.focus()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError):  # not the main thread: somebody else's signals
                asyncio.get_running_loop().add_signal_handler(number, self.exit)
        self.console_of.begin()
        self.set_interval(_WHY_AGAIN, self._ask_again)

    def on_unmount(self) -> None:
        """Let go of everything."""
        self.console_of.close()

    @property
    def fault(self) -> Exception | None:
        """What went wrong in the application itself; the command reports it as every command does."""
        return self._exception

    def fail(self, error: BaseException | None) -> None:
        """End with a fault of ours that has shown in a thread."""
        raise error or RuntimeError("a thread was lost")

    def _fatal_error(self) -> None:
        # Textual would print a traceback.
        self._close_messages_no_wait()

    @property
    def table(self) -> ServiceTable:
        """The list."""
        return self.query_one("#services", ServiceTable)

    @property
    def view(self) -> OutputView:
        """The output."""
        return self.query_one("#log", OutputView)

    @property
    def row(self) -> Row | None:
        """The chosen row."""
        return self.table.chosen

    # From other threads

    def later(self, work: Callable[[], object]) -> None:
        """Have the application's thread do something; from any thread, without waiting."""
        self._ear.pass_on(work)

    def in_thread(self, work: Callable[[], object]) -> None:
        """Do something that takes its time. Nobody waits for it when the interface is left."""
        threading.Thread(target=work, name="operation", daemon=True).start()

    @on(Call)
    def _do_call(self, message: Call) -> None:
        if self.is_running and self.screen_stack:
            message.work()

    # What is shown

    def show_observed(self, project: Project, observed: ObservedState) -> None:
        """Show what is there now."""
        if self.observed is not None and (project, observed) == (self.project, self.observed):
            if self.row is not None:
                # A reader may have been at its end only now, behind a restart that was seen before.
                self.console_of.output.refresh(self.row.containers)
            return
        self.project, self.observed = project, observed
        self.table.show_rows(arrange_rows(project, observed))
        alive = [one for one in observed.containers if one.alive]
        self.console_of.watch.follow_processes(alive)
        self.console_of.sampler.measure(alive)
        self.usage = {key: value for key, value in self.usage.items() if key in {one.id for one in alive}}
        self._show_row()
        self.show_bars()

    def show_usage(self, usage: Mapping[str, UsageRow]) -> None:
        """Show what containers use."""
        for key, value in usage.items():
            self.usage.setdefault(key, deque(maxlen=_SAMPLES)).append(value)
        self.table.show_usage({key: (one[-1].cpu, one[-1].usage.memory) for key, one in self.usage.items()})
        if self.panel == "details":
            self.show_details()
        self.show_bars()

    def show_supervisor(self, runs: bool) -> None:
        """Show whether a supervisor runs."""
        self.supervised = runs
        self.show_bars()

    def show_error(self, title: str, error: StackError) -> None:
        """Show a message, and the way out where there is one."""
        text = error.diagnostics[0].render() if error.diagnostics else error.message
        if len(error.diagnostics) > 1:
            text += f"\n(and {len(error.diagnostics) - 1} more)"
        if error.hint and error.hint not in text:
            text += f"\n{error.hint}"
        if text not in [one.message for one in self._notifications]:
            self.notify(text, title=title, severity="error", timeout=12, markup=False)

    def take_news(self) -> None:
        """Show what has happened."""
        self.query_one("#news", NewsList).add(self.console_of.take_news())

    def show_bars(self) -> None:
        """Show how the project is, and which panel is shown."""
        totals = count_totals(self.table.rows)
        last = [one[-1] for one in self.usage.values() if one]
        use = (sum(one.cpu for one in last), sum(one.usage.memory for one in last)) if last else None
        name = self.project.name
        self.query_one("#summary", Summary).show(name, totals, use, self.supervised, self.busy)
        self.show_panel_bar()
        self.query_one("#keys", KeyBar).show(self.find_idle_keys())

    @on(OutputView.Moved)
    def show_panel_bar(self) -> None:
        """Show which panel is shown, and how its output goes."""
        view, status = self.view, ""
        if self.panel == "log":
            at, count = view.matches
            held = f"held, {view.missed} new" if view.missed else "held"
            status = "following" if view.following else held
            if self.query_one("#search", Input).value:
                status = f"{at}/{count} matches · {status}"
        row = self.row
        self.query_one("#tabs", PanelBar).show(PANELS, self.panel, row.label if row is not None else "", status)

    def find_idle_keys(self) -> frozenset[str]:
        """Actions that would do nothing to the chosen row."""
        return frozenset()

    @on(ServiceTable.Chosen)
    def _show_row(self) -> None:
        """Show the output of the chosen row, and the panel about it."""
        row = self.row
        key = () if row is None else (row.key,)
        containers = () if row is None else row.containers
        if key != self._shown_output:
            self._shown_output = key
            self.view.clear(prefixed=len(containers) > 1)
            self.console_of.output.choose(containers)
            if row is not None and not containers:
                self.view.add_remark(f"{row.label} has no container; s creates and starts it")
        else:
            self.console_of.output.refresh(containers)
        self.show_panel()

    def take_output(self) -> None:
        """Show what has been written."""
        if self._resting:
            return
        began = time.monotonic()
        found = self.console_of.output.take()
        if found.skipped:
            self.view.add_remark(f"... {found.skipped} lines came too fast and are left out ...")
        if found.lines:
            self.view.append(found.lines)
        # A container that never stops talking shall not take all the time there is for keys and the rest.
        self._resting = True
        self.set_timer(max(_PACE, 2 * (time.monotonic() - began)), self._take_on)

    def _take_on(self) -> None:
        self._resting = False
        if self.console_of.output.has_more:
            self.take_output()

    def show_panel(self) -> None:
        """Show the panel that was chosen."""
        self.query_one("#panels", ContentSwitcher).current = self.panel
        if self.panel == "why":
            self.ask_why()
        elif self.panel == "details":
            self.show_details()
        self.show_usage_if_seen()
        self.show_bars()

    def show_details(self) -> None:
        """Show what is known of the chosen row."""
        if self.row is not None:
            self.query_one("#details", DetailsPanel).show(self.project, self.row, self.usage)

    def _ask_again(self) -> None:
        if self.panel == "why" and not self.query_one("#why", WhyPanel).asking:
            self.ask_why()

    def ask_why(self) -> None:
        """Ask why the chosen row is as it is, and show it."""
        row, observed = self.row, self.observed
        if row is None or observed is None:
            return
        ask, show = self.query_one("#why", WhyPanel).prepare(self.console_of, self.project, row, observed)

        def run() -> None:
            reasons = ask()
            self.later(lambda: show(reasons) if self.row is not None and self.row.key == row.key else self.ask_why())

        self.in_thread(run)

    @on(events.AppFocus)
    def _look_again(self) -> None:
        # Whoever comes back from an editor has changed the stack file.
        self.console_of.look()

    @on(ServiceTable.Fitted)
    def show_usage_if_seen(self) -> None:
        """Have containers measured as long as there is room to show it."""
        self.console_of.sampler.show(self.table.shows_usage or self.panel == "details")

    def on_resize(self, _event: events.Resize) -> None:
        """More or less room."""
        self.call_after_refresh(self.show_bars)
