"""``up`` in the foreground: progress, output of the containers, Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from orchestrator.actions.attach import Attachment
from orchestrator.actions.names import select_services
from orchestrator.actions.plan import check_stack
from orchestrator.actions.up import AttachedUp, choose_attached
from orchestrator.cli.converging import report_failures
from orchestrator.cli.logview import LogView
from orchestrator.cli.progress import QuietScreen, Screen, leave_out
from orchestrator.reconcile.providers import is_provided
from orchestrator.record import Record
from orchestrator.supervision.client import Session, query_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.cli.invocation import Invocation
    from orchestrator.cli.menu import Menu
    from orchestrator.cli.watching import Companion
    from orchestrator.engines.base import LogLine
    from orchestrator.events import Event
    from orchestrator.goal import Goal


class AttachOptions(Record):
    """Whose output is shown, and how."""

    services: tuple[str, ...] = ()
    attach: tuple[str, ...] = ()
    no_attach: tuple[str, ...] = ()
    dependencies: bool = False
    exit_code_from: str = ""
    colour: bool = False
    prefix: bool = True
    timestamps: bool = False
    hide: tuple[str, ...] = ()
    menu: bool = False


class _Display:
    """The present screen: that of starting, none while the containers speak, that of stopping."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self.screen: Screen = invocation.screen("up")

    def __call__(self, event: Event, /) -> None:
        self.screen(event)

    def rest(self) -> None:
        self.screen.close()
        self.screen = QuietScreen()

    def stopping(self) -> None:
        self.screen.close()
        self.screen = self._invocation.screen("stop")


def run_attached(invocation: Invocation, goal: Goal, options: AttachOptions, companion: Companion | None = None) -> int:
    """Bring the goal about and stay until the services have ended; return the exit code. Raises StackError.

    `companion` watches files meanwhile.
    """
    before = signal.signal(signal.SIGUSR2, _tell_reader_gone)
    try:
        return _stay_with_keys(invocation, goal, options, companion)
    except _ReaderGone:
        raise BrokenPipeError from None
    finally:
        signal.signal(signal.SIGUSR2, before)


class _ReaderGone(BaseException):
    """Nobody reads the output any more. No OSError: whoever waits for a supervisor takes those for its end."""


def _tell_reader_gone(_number: int, _frame: object) -> NoReturn:
    raise _ReaderGone


def _stay_with_keys(invocation: Invocation, goal: Goal, options: AttachOptions, companion: Companion | None) -> int:
    if not options.menu:
        return _stay(invocation, goal, options, companion)
    from orchestrator.cli.menu import LeftRunning, Menu, leave_running, raise_left_running

    before = signal.signal(signal.SIGUSR1, raise_left_running)
    try:
        keys: dict[str, tuple[str, Callable[[], None]]] = {"d": ("Detach", leave_running)}
        if companion is not None:
            keys["w"] = ("Watch", companion.toggle)
        with Menu(keys) as menu:
            return _stay(invocation, goal, options, companion, menu)
    except LeftRunning:
        return 0
    finally:
        signal.signal(signal.SIGUSR1, before)


def _stay(
    invocation: Invocation,
    goal: Goal,
    options: AttachOptions,
    companion: Companion | None = None,
    menu: Menu | None = None,
) -> int:
    goal = invocation.limit(goal)
    stack = goal.stack
    shown = choose_attached(
        stack,
        tuple(goal.wants),
        options.services,
        attach=options.attach,
        no_attach=options.no_attach,
        dependencies=options.dependencies,
    )
    if options.exit_code_from:
        select_services([options.exit_code_from], stack.services)
    engine = invocation.engine()
    engine.require_access(starting=True)
    check_stack(engine, goal)
    view = LogView(colour=options.colour, prefix=options.prefix, timestamps=options.timestamps)
    names = _expected_names(goal, shown)
    view.announce(names)
    attachment = Attachment(
        engine,
        stack.name,
        since=time.time(),
        write=partial(_write_line, view),
        remark=view.write_remark,
        wanted=shown.__contains__,
    )
    display = _Display(invocation)
    progress = leave_out(display, options.hide)

    def rest() -> None:
        display.rest()
        if menu is not None:
            menu.begin(view.write_remark)

    def accompany() -> None:
        if companion is not None:
            companion.begin(view.write_remark)

    def stop() -> None:
        if companion is not None:
            companion.end()
        display.stopping()

    def hear(event: Event, /) -> None:
        progress(event)
        attachment(event)

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Session(stack.name, prepared=invocation.prepared) as session:
            if names:
                view.write_remark(f"Attaching to {', '.join(names)}")
            attachment.follow_running()
            up = AttachedUp(
                session,
                goal,
                sink=hear,
                watched=frozenset(options.services or goal.wants),
                remark=view.write_remark,
                query_status=query_status,
                observe=lambda: engine.observe(stack.name).containers,
                exit_code_from=options.exit_code_from,
                on_ready=rest,
                on_converged=accompany,
                on_stopping=stop,
            )
            result = up.run()
            attachment.close()
            session.finish()
    finally:
        display.screen.close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not result.outcome.converged and not result.interrupted:
        raise report_failures(result.outcome.failures, goal.stack)
    return result.exit_code


def _write_line(view: LogView, name: str, line: LogLine) -> None:
    try:
        view.write_line(name, line, flush=True)
    except BrokenPipeError:
        # In the main thread, wherever it waits: the command ends as any does whose reader has gone.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
        raise


def _expected_names(goal: Goal, shown: frozenset[str]) -> list[str]:
    names = []
    for name in sorted(shown & goal.wants.keys()):
        service = goal.stack.services[name]
        if is_provided(service):
            continue
        if service.container_name:
            names.append(service.container_name)
        else:
            names += [f"{name}-{number}" for number in range(1, goal.replicas(name) + 1)]
    return names


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
