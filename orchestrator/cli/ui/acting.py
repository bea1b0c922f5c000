"""What the keys do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual import on
from textual.app import SuspendNotSupported
from textual.containers import VerticalScroll
from textual.widgets import Input

from orchestrator.actions.console.operations import Proposal, Whole
from orchestrator.actions.console.rows import Row
from orchestrator.cli.ui.app import PANELS, BaseApp
from orchestrator.cli.ui.dialogs import Help, Question
from orchestrator.engines.base import ExecRequest
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from orchestrator.state import Container

SHELL = ("sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh")
"""The better of two shells."""


class StackApp(BaseApp):
    """The whole application."""

    # The chosen row

    def action_start(self) -> None:
        """Start or create a service."""
        self._work("start", self.console_of.operations.start)

    def action_stop(self) -> None:
        """Stop a service."""
        self._work("stop", self.console_of.operations.stop)

    def action_restart(self) -> None:
        """Restart a service."""
        self._work("restart", self.console_of.operations.restart)

    def action_kill(self) -> None:
        """Kill the containers of a row."""
        self._work("kill", self.console_of.operations.kill)

    def action_pause(self) -> None:
        """Freeze the containers of a row, or thaw them."""
        self._work("pause", self.console_of.operations.pause)

    def action_rebuild(self) -> None:
        """Build the image of a service again."""
        self._work("rebuild", self.console_of.operations.rebuild)

    def action_scale(self, step: int) -> None:
        """One replica more or less."""
        operations = self.console_of.operations

        def scale(row: Row) -> str | None:
            present = 0 if self.observed is None else len(self.observed.of_service(row.service))
            return operations.scale(row.service, present, step)

        self._work("scale", scale)

    def _work(self, verb: str, work: Callable[[Row], str | None]) -> None:
        """Do something to the chosen row in a thread; show that it is under way, and how it ended."""
        row = self.row
        if row is not None:
            self._begin(verb, f"{verb} {row.label}", lambda: work(row))

    def _begin(self, title: str, doing: str, work: Callable[[], str | None]) -> None:
        self.busy.append(doing)
        self.show_bars()

        def run() -> None:
            try:
                done = work()
            except StackError as error:
                failure = error
                self.later(lambda: self._end(doing, title, None, failure))
            except Exception as error:
                fault = error
                self.later(lambda: self.fail(fault))
            else:
                self.later(lambda: self._end(doing, title, done, None))

        self.in_thread(run)

    def _end(self, doing: str, title: str, done: str | None, error: StackError | None) -> None:
        self.busy.remove(doing)
        if error is not None:
            self.show_error(title, error)
        elif done:
            self.notify(done, timeout=4, markup=False)
        self.show_bars()
        self.console_of.look()

    # The whole project

    def action_propose(self, verb: Whole) -> None:
        """Find out what `verb` would do, show it, and do it if it is wanted."""
        operations = self.console_of.operations
        words = {
            "up": "everything is as the stack file says",
            "down": "there is nothing to take down",
            "remove orphans": "there are no orphans",
        }

        def propose() -> str | None:
            proposal = operations.propose(verb)
            if proposal is None:
                return words[verb]
            self.later(lambda: self._ask(proposal))
            return None

        self._begin(verb, f"plan {verb}", propose)

    def _ask(self, proposal: Proposal) -> None:
        def answer(yes: bool | None) -> None:
            if yes:
                operations = self.console_of.operations
                self._begin(proposal.verb, proposal.verb, lambda: operations.perform(proposal))

        self.push_screen(Question(proposal), answer)

    # A shell

    def action_shell(self) -> None:
        """Leave the screen to a shell in the container until it ends."""
        row = self.row
        if row is None:
            return
        running = [one for one in row.containers if one.status == "running"]
        if not running:
            state = "is paused: p lets it go on" if row.paused else "does not run: s starts it"
            self.notify(f"{row.label} {state}", title="shell", severity="error", markup=False)
            return
        self.console_of.sampler.show(False)
        try:
            with self.suspend():
                code = self._run_shell(running[0])
        except SuspendNotSupported:
            self.notify("there is no terminal to give away here", title="shell", severity="error")
            return
        except StackError as error:
            self.show_error("shell", error)
            return
        finally:
            self.show_usage_if_seen()
            self.console_of.look()
        if code in (126, 127):
            self.notify(
                f"{row.label} ended the shell with {code}: there may be no `sh` in its image",
                title="shell",
                severity="warning",
                markup=False,
            )

    def _run_shell(self, container: Container) -> int:
        # On the main thread, and in the way of everything else: only there signals and the terminal's size come in.
        print(f"{container.name}: a shell; its end leads back to `stack ui`", flush=True)
        return self.console_of.engine.exec_attached(container, ExecRequest(command=SHELL, tty=True, stdin=True))

    # Moving, panels

    def action_cursor(self, step: int) -> None:
        """Another row."""
        self.table.move(step)

    def action_panel(self, name: str) -> None:
        """Another panel."""
        self.panel = name
        self.show_panel()

    def action_next_panel(self, step: int) -> None:
        """The panel beside this one."""
        names = [name for name, _ in PANELS]
        self.action_panel(names[(names.index(self.panel) + step) % len(names)])

    def action_zoom(self) -> None:
        """The panel alone."""
        self.screen.toggle_class("-zoomed")
        self.call_after_refresh(self.show_panel)

    def action_follow(self) -> None:
        """Hold the output, or follow it."""
        self.view.follow(not self.view.following)

    def action_times(self) -> None:
        """Times before the lines."""
        self.view.set_timed(not self.view.timed)

    def action_wrap(self) -> None:
        """Whole lines."""
        self.view.set_wraps(not self.view.wraps)

    def action_line(self, step: int) -> None:
        """Scroll the panel by a line."""
        self._scroll(step)

    def action_page(self, step: int) -> None:
        """Scroll the panel by a page."""
        self._scroll(step * max(1, self.query_one("#panels").size.height - 1))

    def action_edge(self, step: int) -> None:
        """Scroll the panel to its beginning or end."""
        self._scroll(step * 1_000_000)

    def _scroll(self, rows: int) -> None:
        if self.panel == "log":
            self.view.move(rows)
        else:
            self.query_one(f"#{self.panel}", VerticalScroll).scroll_relative(y=rows, animate=False)

    # Searching

    def action_search(self) -> None:
        """Ask what is searched for."""
        if self.panel != "log":
            self.action_panel("log")
        search = self.query_one("#search", Input)
        search.add_class("-open")
        search.focus()

    @on(Input.Changed, "#search")
    def _search(self, event: Input.Changed) -> None:
        self.view.search(event.value)

    @on(Input.Submitted, "#search")
    def _close_search(self) -> None:
        search = self.query_one("#search", Input)
        search.set_class(bool(search.value), "-open")
        self.table.focus()

    def action_match(self, step: int) -> None:
        """The next match."""
        if not self.view.step(step) and not self.query_one("#search", Input).value:
            self.action_search()

    def action_escape(self) -> None:
        """Forget the search; then the zoom."""
        search = self.query_one("#search", Input)
        if search.has_class("-open"):
            search.value = ""
            search.remove_class("-open")
            self.view.follow(True)
            self.table.focus()
        elif self.screen.has_class("-zoomed"):
            self.action_zoom()

    def action_help(self) -> None:
        """What the keys do."""
        self.push_screen(Help())

    def find_idle_keys(self) -> frozenset[str]:
        """Actions that would do nothing to the chosen row."""
        row, off = self.row, set[str]()
        if row is None:
            return frozenset({"start", "stop", "restart", "kill", "pause", "scale", "shell", "rebuild"})
        if not row.alive:
            off |= {"stop", "kill", "pause", "shell"}
        elif all(one.status == "running" for one in row.containers):
            off.add("start")
        if not row.containers or row.orphan:
            off.add("restart")
        stack = self.project.stack
        service = stack.services.get(row.service) if stack is not None else None
        if service is None or service.build is None:
            off.add("rebuild")
        if service is None or row.kind == "oneoff":
            off.add("scale")
        if not any(one.orphan for one in self.table.rows):
            off.add("propose('remove orphans')")
        if not any(one.containers for one in self.table.rows):
            off.add("propose('down')")
        return frozenset(off)
