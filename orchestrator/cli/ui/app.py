"""The application: what is on the screen, and what comes in. What keys do stands in ``acting``."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.filter import LineFilter
from textual.message import Message
from textual.widgets import ContentSwitcher, Input, Static

from orchestrator.actions.console.console import Console
from orchestrator.actions.console.rows import Row, arrange_rows, count_totals
from orchestrator.cli.ui.bars import KeyBar, NewsList, PanelBar, Summary
from orchestrator.cli.ui.keys import KEYS
from orchestrator.cli.ui.layout import CSS, HEIGHTS, WIDTHS
from orchestrator.cli.ui.output_view import OutputView
from orchestrator.cli.ui.plain import CharacterFilter
from orchestrator.cli.ui.table import ServiceTable

if TYPE_CHECKING:
    from orchestrator.actions.project import Project
    from orchestrator.actions.usage import UsageRow
    from orchestrator.errors import StackError
    from orchestrator.state import ObservedState

PANELS: Final = (("log", "Output"), ("why", "Why"), ("details", "Details"))

_SAMPLES: Final = 40
"""How much of the past the details show, in looks."""

_WHY_AGAIN: Final = 2.0
"""Seconds until the reasons are asked for again while they are on the screen: probes tell nobody that they ran."""


class Call(Message):
    """Something to be done by the application's own thread."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__()
        self.work = work


class BaseApp(App[None]):
    """The screen and its sources, without the keys. `open_console` is called once there is somebody to listen."""

    CSS = CSS
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", show=False, priority=True),
        *(
            Binding(one.name, one.action, one.label, show=False, priority=one.name.startswith(("tab", "shift+tab")))
            for one in KEYS
        ),
    ]

    def __init__(self, open_console: Callable[[BaseApp], Console], *, encoding: str = "utf-8") -> None:
        super().__init__()
        self._characters = CharacterFilter(encoding)
        self.console_of: Console = open_console(self)
        self.project: Project = self.console_of.project
        self.observed: ObservedState | None = None
        self.supervised = False
        self.busy: list[str] = []
        self.usage: dict[str, deque[UsageRow]] = {}
        self.panel = "log"
        self._shown_output: tuple[str, ...] | None = None
        self._asking = False

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
            with VerticalScroll(id="why", can_focus=False):
                yield Static(id="why-text", markup=False)
            with VerticalScroll(id="details", can_focus=False):
                yield Static(id="details-text", markup=False)
        yield Input(id="search", placeholder="search the output", select_on_focus=False)
        yield Static("events", id="news-title", markup=False)
        yield NewsList(id="news")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        """Begin to look and to listen."""
        self.table.focus()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError):  # not the main thread: somebody else's signals
                loop.add_signal_handler(number, self.exit)
        self.console_of.begin()
        self.set_interval(_WHY_AGAIN, self._ask_again)

    def on_unmount(self) -> None:
        """Let go of everything."""
        self.console_of.close()

    @property
    def fault(self) -> Exception | None:
        """What went wrong in the application itself; the command reports it as every command does."""
        return self._exception

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
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is interested any more
            self.post_message(Call(work))

    def in_thread(self, work: Callable[[], object]) -> None:
        """Do something that takes its time. Nobody waits for it when the interface is left."""
        threading.Thread(target=work, name="operation", daemon=True).start()

    def hear_observed(self, project: Project, observed: ObservedState) -> None:
        """See Listener."""
        self.later(lambda: self.show_observed(project, observed))

    def hear_failed(self, error: StackError) -> None:
        """See Listener."""
        self.later(lambda: self.show_error("", error))

    def hear_output(self) -> None:
        """See Listener."""
        self.later(self._take_output)

    def hear_news(self) -> None:
        """See Listener."""
        self.later(lambda: self.query_one("#news", NewsList).add(self.console_of.take_news()))

    def hear_usage(self, usage: Mapping[str, UsageRow]) -> None:
        """See Listener."""
        self.later(lambda: self.show_usage(usage))

    def hear_supervisor(self, runs: bool) -> None:
        """See Listener."""
        self.later(lambda: self._show_supervisor(runs))

    @on(Call)
    def _do_call(self, message: Call) -> None:
        if self.is_running and self.screen_stack:
            message.work()

    # What is shown

    def show_observed(self, project: Project, observed: ObservedState) -> None:
        """Show what is there now."""
        self.project, self.observed = project, observed
        self.table.show_rows(arrange_rows(project, observed))
        alive = [one for one in observed.containers if one.alive]
        self.console_of.watch.follow_processes(alive)
        self.console_of.sampler.measure(alive)
        self.usage = {key: value for key, value in self.usage.items() if key in {one.id for one in alive}}
        self.console_of.sampler.show(self.table.shows_usage)
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

    def _show_supervisor(self, runs: bool) -> None:
        self.supervised = runs
        self.show_bars()

    def show_error(self, title: str, error: StackError) -> None:
        """Show a message, and the way out where there is one."""
        text = "\n".join(one.render() for one in error.diagnostics[:3]) or error.message
        if error.hint and error.hint not in text:
            text += f"\n{error.hint}"
        self.notify(text, title=title, severity="error", timeout=12, markup=False)

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

    def _take_output(self) -> None:
        found = self.console_of.output.take()
        if found.skipped:
            self.view.add_remark(f"... {found.skipped} lines came too fast and are left out ...")
        if found.lines:
            self.view.append(found.lines)

    def show_panel(self) -> None:
        """Show the panel that was chosen."""
        self.query_one("#panels", ContentSwitcher).current = self.panel
        if self.panel == "why":
            self.ask_why()
        elif self.panel == "details":
            self.show_details()
        self.show_bars()

    def show_details(self) -> None:
        """Show what is known of the chosen row."""
        from orchestrator.actions.console.looking import describe_facts, render_configuration
        from orchestrator.cli.ui.panels import render_details

        row = self.row
        if row is not None:
            use = [(one.name, list(self.usage.get(one.id, ()))) for one in row.containers]
            found = render_details(row, describe_facts(row), render_configuration(self.project, row), use)
            self.query_one("#details-text", Static).update(found)

    def _ask_again(self) -> None:
        if self.panel == "why" and not self._asking:
            self.ask_why()

    def ask_why(self) -> None:
        """Ask why the chosen row is as it is, and show it."""
        from orchestrator.actions.console.looking import Reasons, find_reasons
        from orchestrator.cli.ui.panels import render_reasons
        from orchestrator.errors import StackError

        row, observed, console, project = self.row, self.observed, self.console_of, self.project
        if row is None or observed is None:
            return

        def show(reasons: Reasons) -> None:
            self._asking = False
            if self.row is not None and self.row.key == row.key:
                self.query_one("#why-text", Static).update(render_reasons(reasons, row))

        def ask() -> None:
            status: dict[str, Any] | None = None
            try:
                status = console.query_status(project.name)
                reasons = find_reasons(console.engine, project, row, observed, status)
            except StackError as error:
                reasons = Reasons(service=row.service, sentences=(error.message,))
            self.later(lambda: show(reasons))

        self._asking = True
        self.in_thread(ask)

    @on(events.AppFocus)
    def _look_again(self) -> None:
        # Whoever comes back from an editor has changed the stack file.
        self.console_of.look()

    def on_resize(self, _event: events.Resize) -> None:
        """More or less room."""
        self.console_of.sampler.show(self.table.shows_usage if self.table.is_mounted else False)
        self.call_after_refresh(self.show_bars)
