"""``watch`` beside an attached ``up``, and the goals that it asks for: plain lines, failures in full."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from orchestrator.cli.converging import report_failures
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from orchestrator.actions.project import Project
    from orchestrator.actions.watch import Watcher
    from orchestrator.cli.invocation import Invocation
    from orchestrator.cli.progress import Screen
    from orchestrator.events import Event
    from orchestrator.goal import Goal


class Converger:
    """Brings the project to a goal; with `quiet` nothing of builds is shown. From any thread."""

    def __init__(self, invocation: Invocation, *, quiet: bool) -> None:
        self._invocation, self._quiet = invocation, quiet
        self._lock = threading.Lock()
        self._screens: list[Screen] = []
        self._calls = 0

    def __call__(self, goal: Goal, title: str) -> bool:
        """Whether the goal was reached. Raises StackError where no supervisor can be had.

        A call while another one is at work calls that off: it goes on with its lines, and what it did not reach is no
        failure.
        """
        from orchestrator.actions.converge import converge_goal
        from orchestrator.cli.progress import LEFT_ALONE, PlainScreen, QuietScreen, leave_out

        with self._lock:
            self._calls += 1
            number = self._calls
            quiet = self._invocation.progress == "quiet"
            screen = self._screens[-1] if self._screens else QuietScreen() if quiet else PlainScreen()
            self._screens.append(screen)

        def show(event: Event, /) -> None:
            with self._lock:
                screen(event)

        try:
            hidden = (*LEFT_ALONE, *(("build image",) if self._quiet else ()))
            outcome = converge_goal(self._invocation.limit(goal), leave_out(show, hidden))
        finally:
            with self._lock:
                self._screens.pop()
        if not outcome.converged and number == self._calls:
            report_failures(outcome.failures, goal.stack)
        return outcome.converged


class Companion:
    """A watch in a thread of its own, which a key can end and begin again.

    Raises (on creation, if `enabled`) NothingToWatch and ModelError; a watch that is begun later says them.
    """

    def __init__(
        self,
        invocation: Invocation,
        project: Project,
        services: Sequence[str],
        *,
        enabled: bool,
        build: bool,
        quiet: bool,
    ) -> None:
        self._invocation, self._project, self._services = invocation, project, tuple(services)
        self._enabled, self._build, self._quiet = enabled, build, quiet
        self._say: Callable[[str], None] = lambda _text: None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        # Before anything is built: what changes meanwhile counts.
        self._watcher = self._open() if enabled else None

    def begin(self, say: Callable[[str], None]) -> None:
        """Watch from now on, if that was asked for; `say` takes what is to be told."""
        self._say = say
        with self._lock:
            if self._watcher is not None:
                self._start(self._watcher)

    def toggle(self) -> None:
        """End the watch, or begin one. For a key; says what is in the way."""
        with self._lock:
            if self._watcher is not None:
                self._end()
                return
            try:
                self._watcher = self._open()
            except StackError as error:
                self._say(error.render())
                return
            self._start(self._watcher)

    def end(self) -> None:
        """End the watch, if there is one."""
        with self._lock:
            self._end()

    def _open(self) -> Watcher:
        from orchestrator.actions.watch import Watcher
        from orchestrator.actions.watch_rules import list_watch_rules

        assert self._project.stack is not None
        rules = list_watch_rules(self._project.stack, self._services, self._invocation.warn, build=self._build)
        return Watcher(
            self._invocation.engine(),
            self._project,
            rules,
            say=lambda text: self._say(text),
            converge=Converger(self._invocation, quiet=self._quiet),
        )

    def _start(self, watcher: Watcher) -> None:
        self._thread = threading.Thread(target=self._run, args=(watcher,), name="watch", daemon=True)
        self._thread.start()

    def _run(self, watcher: Watcher) -> None:
        try:
            watcher.run()
        except StackError as error:
            self._say(error.render())

    def _end(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is None:
            return
        watcher.stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        watcher.close()
