"""The full-screen interface: its rows, its panels, its keys, on the fake engine."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from plan_runner import Runner
from rich.console import Console as Printer
from textual.pilot import Pilot
from textual.widgets import Input, Static

from orchestrator.actions.console.console import Console
from orchestrator.actions.console.looking import HIDDEN, list_needs, render_configuration
from orchestrator.actions.console.news import tell_container_event, tell_supervisor_event
from orchestrator.actions.console.operations import Operations
from orchestrator.actions.console.output import GAP, OutputTail
from orchestrator.actions.console.rows import Row, arrange_rows, count_totals, describe_short_ports, describe_state
from orchestrator.actions.project import Project, ProjectOptions, load_project
from orchestrator.cli.ui.acting import StackApp
from orchestrator.cli.ui.ansi import LineDecoder
from orchestrator.cli.ui.bars import KeyBar, Summary
from orchestrator.cli.ui.dialogs import Help, Question
from orchestrator.cli.ui.keys import KEYS
from orchestrator.cli.ui.output_view import SCROLLBACK, break_line
from orchestrator.cli.ui.plain import replace_characters
from orchestrator.control_loop.failures import Failure
from orchestrator.engines.base import ContainerEvent, LogLine
from orchestrator.engines.fake import FakeEngine
from orchestrator.errors import Conflict, EngineError, UsageError
from orchestrator.events import Event
from orchestrator.goal import Goal
from orchestrator.model import Stack
from orchestrator.state import Binding, ObservedState
from orchestrator.supervision.client import Outcome

from .conftest import Ran, make_container

SHOP = {
    "db": {"command": "sh -c 'echo ready; sleep infinity'", "healthcheck": {"test": ["CMD", "true"]}, "init": True},
    "web": {
        "command": "sh -c 'echo serving; sleep infinity'",
        "depends_on": {"db": {"condition": "service_healthy"}},
        "init": True,
        "ports": ["8080:80"],
        "environment": {"API_TOKEN": "geheim", "COLOUR": "blue"},
    },
}


class Shop:
    """A project on a fake engine, without a supervisor: goals are reached in the calling thread."""

    def __init__(self, services: dict[str, Any] | None = None) -> None:
        self.options = ProjectOptions(files=(os.path.join(os.environ["STACK_STATE_DIR"], "compose.yaml"),), name="shop")
        self.write(services or SHOP)
        self.runner = Runner()
        self.runner.clock = time.time  # type: ignore[assignment]
        self.engine = self.runner.engine = FakeEngine()
        for name in services or SHOP:
            self.engine.publish_image(name)
        self.status: dict[str, Any] | None = None
        self.goals: list[Goal] = []
        self.lock = threading.Lock()

    def write(self, services: dict[str, Any]) -> None:
        """Write the stack file."""
        path = Path(self.options.files[0])
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"services": {name: {"image": name, **one} for name, one in services.items()}}))

    @property
    def project(self) -> Project:
        """The project as its file has it now."""
        return load_project(self.options)

    @property
    def stack(self) -> Stack:
        """The same as a stack."""
        stack = self.project.stack
        assert stack is not None
        return stack

    def converge(self, goal: Goal) -> Outcome:
        """Reach a goal."""
        with self.lock:
            self.goals.append(goal)
            self.runner.converge(goal)
            failures = tuple(
                Failure(code=one.code, message=one.message, hint=one.hint) for one in self.runner.failed.values()
            )
            return Outcome(converged=not failures, failures=failures)

    def open(self, app: Any) -> Console:
        """The console of the application."""
        return Console(
            self.engine,
            self.project,
            app,
            load=lambda _services: self.project,
            own=lambda _project: None,
            converge=self.converge,
            query_status=lambda _project: self.status,
        )

    def up(self) -> None:
        """Bring everything up, as another terminal would."""
        wants = dict.fromkeys(self.stack.services, "running")
        self.converge(Goal(stack=self.stack, wants=wants, issued_at=time.time()))  # type: ignore[arg-type]

    def states(self) -> dict[str, str]:
        """Status by container name without the project."""
        return {one.name.removeprefix("shop-"): one.status for one in self.engine.observe("shop").containers}


class Screen:
    """The running application, and the words to say what is on it."""

    def __init__(self, app: StackApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    async def until(self, true: Callable[[], object], sentence: str = "") -> None:
        """Wait until something is true."""
        end = time.monotonic() + 20
        while not true():
            if self.app.fault is not None:
                raise self.app.fault
            assert time.monotonic() < end, f"in vain: {sentence}\n{self.table()}\n{self.notes()}"
            await self.pilot.pause(0.02)

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self.pilot.press(*keys)

    def table(self) -> str:
        """What the list shows."""
        table = self.app.table
        return "\n".join(table.render_line(y).text.rstrip() for y in range(table.size.height))

    def output(self) -> str:
        """What the panel of the output shows."""
        view = self.app.view
        return "\n".join(view.render_line(y).text.rstrip() for y in range(view.size.height))

    def text(self, name: str) -> str:
        """What a panel of text says."""
        shown = self.app.query_one(name, Static).visual
        found = getattr(shown, "_renderable", shown)
        printer = Printer(file=io.StringIO(), width=200)
        printer.print(str(found) if not hasattr(found, "__rich_console__") else found)
        return printer.file.getvalue()  # type: ignore[attr-defined]

    def notes(self) -> str:
        """The notifications that are shown."""
        return "\n".join(one.message for one in self.app._notifications)

    async def choose(self, label: str) -> None:
        """Put the cursor on a row."""
        await self.until(lambda: label in [one.label for one in self.app.table.rows], f"there is a row {label}")
        labels = [one.label for one in self.app.table.rows]
        self.app.table.move(labels.index(label) - [one.key for one in self.app.table.rows].index(self.row.key))
        await self.pilot.pause()

    @property
    def row(self) -> Row:
        """The chosen row."""
        assert self.app.row is not None
        return self.app.row


def drive(
    shop: Shop, script: Callable[[Screen], Awaitable[None]], size: tuple[int, int] = (100, 30), encoding: str = "utf-8"
) -> None:
    """Run the application without a terminal, and the script with it."""

    async def run() -> None:
        app = StackApp(shop.open, encoding=encoding)
        async with app.run_test(size=size, notifications=True) as pilot:
            screen = Screen(app, pilot)
            await screen.until(lambda: app.observed is not None, "the project was observed")
            await pilot.pause()
            await script(screen)
        if app.fault is not None:
            raise app.fault

    asyncio.run(run())


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """State and run directories of the test's own."""
    monkeypatch.setenv("STACK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACK_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_up_and_down_show_their_plan_and_ask() -> None:
    shop = Shop()

    async def script(screen: Screen) -> None:
        assert "○ db" in screen.table() and screen.table().count("not created") == 2
        await screen.press("d")
        await screen.until(lambda: "nothing to take down" in screen.notes(), "nothing is there")
        await screen.press("u")
        await screen.until(lambda: isinstance(screen.app.screen, Question), "it asks")
        body = str(screen.app.screen.query_one("#dialog-body Static", Static).visual)
        assert "+ create container shop-web-1" in body
        await screen.press("n")
        await screen.until(lambda: not isinstance(screen.app.screen, Question), "it does not ask any more")
        assert shop.goals == []
        await screen.press("u")
        await screen.until(lambda: isinstance(screen.app.screen, Question), "it asks again")
        await screen.press("y")
        await screen.until(lambda: "shop is up" in screen.notes(), "it is up")
        await screen.until(lambda: "healthy" in screen.table() and "running" in screen.table(), "both are shown")
        assert "8080→80" in screen.table()
        await screen.until(lambda: "2/2 running" in screen.text("#summary"), "the summary counts them")
        await screen.press("u")
        await screen.until(lambda: "everything is as the stack file says" in screen.notes(), "nothing is left to do")
        await screen.press("d")
        await screen.until(lambda: isinstance(screen.app.screen, Question), "it asks before it takes down")
        await screen.press("enter")
        await screen.until(lambda: screen.table().count("not created") == 2, "all are gone")

    drive(shop, script)
    assert shop.states() == {}


def test_keys_act_on_the_chosen_row() -> None:
    shop = Shop()
    shop.up()

    async def script(screen: Screen) -> None:
        await screen.choose("web")
        for key, state in (("x", "exited"), ("s", "running"), ("p", "paused"), ("p", "running"), ("K", "exited")):
            await screen.press(key)
            await screen.until(lambda state=state: shop.states()["web-1"] == state, f"{key} makes it {state}")  # type: ignore[misc]
            await screen.until(lambda state=state: screen.row.containers[0].status == state, "and the list shows it")  # type: ignore[misc]
        started = shop.engine.observe("shop").of_service("db")[0].started_at
        await screen.choose("db")
        await screen.press("r")
        await screen.until(lambda: shop.engine.observe("shop").of_service("db")[0].started_at > started, "r restarts")
        await screen.until(lambda: "db was restarted" in screen.notes(), "and says so")
        assert shop.states()["web-1"] == "exited"

    drive(shop, script)


def test_a_service_without_containers_is_created_with_what_it_needs() -> None:
    shop = Shop()

    async def script(screen: Screen) -> None:
        await screen.choose("web")
        assert "web has no container" in screen.output()
        await screen.press("s")
        await screen.until(lambda: shop.states() == {"db-1": "running", "web-1": "running"}, "s creates both")
        await screen.until(lambda: "serving" in screen.output(), "its output follows")

    drive(shop, script)


def test_scaling_shows_replicas_and_takes_every_key() -> None:
    shop = Shop({"api": {"command": "sleep infinity", "init": True}, "job": {"command": "true"}})
    shop.up()

    async def script(screen: Screen) -> None:
        await screen.choose("api")
        await screen.press("plus", "plus", "plus", "minus")
        await screen.until(lambda: len(shop.engine.observe("shop").of_service("api")) == 3, "three replicas")
        await screen.until(lambda: "└ api-3" in screen.table() and "api: 3 replicas" in screen.notes(), "are shown")
        assert "3 running" in screen.table()
        await screen.choose("api-2")
        await screen.press("K")
        await screen.until(lambda: shop.states()["api-2"] == "exited", "one of them is killed")
        assert shop.states()["api-1"] == shop.states()["api-3"] == "running"
        await screen.until(lambda: "2/3 running" in screen.table(), "the service says so")
        await screen.choose("api-3")
        await screen.press("minus", "minus")
        await screen.until(lambda: list(shop.states()) == ["job-1", "api-1"] or len(shop.states()) == 2, "one is left")
        await screen.until(lambda: screen.row.label == "api", "the cursor falls back to its service")

    drive(shop, script)


def test_output_keeps_colours_is_held_and_searched() -> None:
    command = (
        "echo '\x1b[31mred\x1b[0m alert'; echo plain; echo needle one; echo other; echo needle two; sleep infinity"
    )
    shop = Shop({"web": {"command": ["sh", "-c", command], "init": True}})
    shop.up()

    async def script(screen: Screen) -> None:
        view = screen.app.view
        await screen.until(lambda: "needle two" in screen.output(), "the output is there")
        first = view.render_line(0)
        assert first.text.rstrip() == "red alert"
        shades = [one.style.color.number for one in first if one.text == "red" and one.style and one.style.color]
        assert shades == [1]
        assert view.following
        await screen.press("slash", *"needle")
        assert view.matches == (2, 2) and not view.following
        await screen.press("enter", "n")
        assert view.matches == (1, 2)
        await screen.press("N")
        assert view.matches == (2, 2)
        assert "2/2 matches" in screen.text("#tabs")
        await screen.press("escape")
        assert view.matches == (0, 0) and view.following
        assert not screen.app.query_one("#search", Input).has_class("-open")
        await screen.press("f")
        view.append([("web-1", "stdout", "2026-11-23T10:11:12.131415", f"line {number}") for number in range(100)])
        assert view.missed == 100 and view.render_line(0).text.startswith("red")
        await screen.until(lambda: "held, 100 new" in screen.text("#tabs"), "it says what is missed")
        await screen.press("end")
        assert view.following and "line 99" in screen.output()
        await screen.press("home")
        assert not view.following and view.render_line(0).text.startswith("red")
        await screen.press("t", "f")
        assert "10:11:12.131 line 99" in screen.output()
        view.append([("web-1", "stdout", "", f"more {number}") for number in range(SCROLLBACK)])
        assert view.count <= SCROLLBACK and f"more {SCROLLBACK - 1}" in screen.output()
        await screen.press("t")
        view.append([("web-1", "stdout", "", "x" * 250)])
        assert [len(line) for line in screen.output().splitlines()[-3:]] == [99, 99, 52]
        await screen.press("w")
        assert screen.output().splitlines()[-2:] == [f"more {SCROLLBACK - 1}", "x" * 99]

    drive(shop, script)


def test_why_and_details() -> None:
    shop = Shop()
    shop.up()
    shop.status = {
        "failures": [],
        "running": [],
        "pending": {"start web-1": ["wait db healthy"]},
        "restarts": [],
        "wants": {},
        "health": {
            "shop-db-1": {
                "failing_streak": 2,
                "log": [{"start": 1.0, "end": 2.0, "success": False, "output": "no \x1b[2Jroute\nto host"}],
            }
        },
    }

    async def script(screen: Screen) -> None:
        await screen.choose("db")
        await screen.press("2")
        await screen.until(lambda: "failed, 2 in a row: no" in screen.text("#why-text"), "why tells of the probe")
        text = screen.text("#why-text")
        assert "needed by" in text and "web" in text
        assert "no route" in text and "to host" in text and "\x1b" not in text
        await screen.choose("web")
        await screen.until(lambda: "start web-1 waits for wait db healthy" in screen.text("#why-text"), "and of waits")
        assert "✓ db is healthy" in screen.text("#why-text")
        await screen.press("tab")
        text = screen.text("#details-text")
        assert "shop-web-1" in text and "8080→80" in text and "COLOUR: blue" in text
        assert HIDDEN in text and "geheim" not in text
        await screen.until(lambda: "processes" in screen.text("#details-text"), "what it uses is measured")
        await screen.press("tab")
        assert screen.app.panel == "log"

    drive(shop, script)


def test_mistakes_and_failures_are_messages() -> None:
    shop = Shop()
    shop.up()

    def refuse(operation: str, resource: str) -> None:
        if operation == "start":
            raise EngineError(f"{resource} will not start", hint="look [here]")

    async def script(screen: Screen) -> None:
        await screen.choose("web")
        await screen.press("b")
        await screen.until(lambda: "web has no build" in screen.notes(), "there is nothing to build")
        await screen.press("o")
        await screen.until(lambda: "there are no orphans" in screen.notes(), "there are no orphans")
        await screen.press("x")
        await screen.until(lambda: shop.states()["web-1"] == "exited", "it stops")
        await screen.until(lambda: not screen.row.alive, "that is shown")
        await screen.press("e")
        await screen.until(lambda: "web does not run" in screen.notes(), "no shell in what does not run")
        shop.engine.before = refuse
        await screen.press("s")
        await screen.until(lambda: "shop-web-1 will not start\nlook [here]" in screen.notes(), "the failure is told")
        assert screen.app.busy == []

    drive(shop, script)


def test_another_terminal_changes_the_project() -> None:
    shop = Shop()

    async def script(screen: Screen) -> None:
        shop.up()
        await screen.until(lambda: "healthy" in screen.table(), "what came up is shown")
        await screen.until(lambda: "db-1" in screen.text("#news") and "started" in screen.text("#news"), "and told")
        await screen.choose("db")
        await screen.until(lambda: "ready" in screen.output(), "with its output")
        one = shop.engine.observe("shop").of_service("db")[0]
        shop.engine.exit(one.id, 3)
        await screen.until(lambda: "exited (3)" in screen.table(), "its end is shown")
        await screen.until(lambda: "exited with code 3" in screen.text("#news"), "and told")
        await screen.until(lambda: "1 failed" in screen.text("#summary"), "and counted")
        shop.write({"web": {**SHOP["web"], "depends_on": {}}})
        screen.app.console_of.look()
        await screen.until(lambda: "db (orphan)" in screen.table(), "who leaves the file is an orphan")
        await screen.choose("db")
        await screen.press("s")
        await screen.until(lambda: "db cannot be started" in screen.notes(), "which cannot be started")
        await screen.press("o")
        await screen.until(lambda: isinstance(screen.app.screen, Question), "it asks")
        await screen.press("y")
        await screen.until(lambda: list(shop.states()) == ["web-1"], "the orphan is removed, the other stays")

    drive(shop, script)


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (40, 12), (20, 5), (2, 2)])
def test_every_size_of_the_terminal(size: tuple[int, int]) -> None:
    shop = Shop()
    shop.up()

    async def script(screen: Screen) -> None:
        await screen.press("j", "2", "3", "1", "z", "z", "question_mark")
        assert isinstance(screen.app.screen, Help)
        await screen.press("escape", "end", "pageup", "slash", "a", "escape")
        assert screen.app.query_one("#panels").size.height >= 1 or size[1] < 5
        if size == (80, 24):
            bar = screen.text("#keys")
            assert all(one.label in bar for one in KEYS if one.label)
            assert screen.app.query_one("#log").size.height >= 6
            assert screen.app.query_one("#news").display
        elif size[0] >= 20:
            await screen.pilot.resize_terminal(80, 24)
            await screen.until(lambda: "q quit" in screen.text("#keys"), "the keys come back")

    drive(shop, script, size)


def test_a_terminal_that_knows_no_unicode_and_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shop = Shop()
    shop.up()

    async def script(screen: Screen) -> None:
        await screen.until(lambda: "healthy" in screen.table())
        await screen.pilot.pause()
        segments = []
        for line in screen.app.screen._compositor.render_strips():
            for one in screen.app.get_line_filters():
                line = line.apply_filter(one, screen.app.screen.background_colors[1])
            segments += list(line)
        shown = "".join(one.text for one in segments)
        assert shown.isascii() and "* db" in shown
        styles = [one.style for one in segments if one.style is not None]
        assert not any(colour and not colour.is_default for one in styles for colour in (one.color, one.bgcolor))
        assert any(one.reverse for one in styles)

    drive(shop, script, encoding="ascii")
    for text in ("│─╭●○◐▲✓✗→…", "日本", "Ärger"):
        plain = replace_characters(text, "ascii")
        assert plain.isascii()
    assert replace_characters("日本", "ascii") == "????"
    assert replace_characters("Ärger ●", "iso-8859-1") == "Ärger *"


def test_it_needs_a_terminal(stack: Callable[..., Ran]) -> None:
    ran = stack("ui")
    assert (ran.code, ran.out) == (16, "")
    assert "`stack ui` needs a terminal" in ran.err and "`stack ps`" in ran.err


def test_textual_is_imported_by_nothing_else() -> None:
    code = (
        "import sys, orchestrator.cli.commands.ui, orchestrator.cli.app, orchestrator.actions.console.console\n"
        "assert not {'textual', 'rich', 'asyncio'} & set(sys.modules), sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True)


def test_rows_and_what_they_say() -> None:
    binding = Binding(host_ip="0.0.0.0", host_port=8080, container_port=80)
    containers = (
        make_container("web", 1, bindings=(binding, binding.replace(host_ip="::"))),
        make_container("web", 2, health="unhealthy"),
        make_container("db", 1, status="exited", exit_code=137, hold=True),
        make_container("old", 1, status="exited", exit_code=1),
        make_container("web", 1, oneoff=True, id="f" * 64, name="shop-web-run-ab"),
    )
    project = Project(name="shop", services=("db", "job", "web"), disabled=("tools",))
    rows = arrange_rows(project, ObservedState(project="shop", containers=containers))
    assert [(one.label, describe_state(one)) for one in rows] == [
        ("db", ("stopped", "off")),
        ("job", ("not created", "off")),
        ("web", ("1/2 unhealthy", "bad")),
        ("web-1", ("running", "good")),
        ("web-2", ("unhealthy", "bad")),
        ("old", ("exited (1)", "bad")),
        ("web-run-ab", ("running", "good")),
        ("tools", ("profile off", "off")),
    ]
    assert [one.label for one in rows if one.orphan] == ["old"]
    assert describe_short_ports(rows[2].containers) == "8080→80"
    totals = count_totals(rows)
    assert (totals.services, totals.running, totals.unhealthy, totals.failed, totals.orphans) == (3, 2, 1, 1, 1)


def test_needs_of_a_service_and_its_secrets() -> None:
    project = Shop().project
    observed = ObservedState(project="shop", containers=(make_container("db", health="starting"),))
    need = list_needs(project, "web", observed)[0]
    assert (need.service, need.condition, need.holds, need.state) == ("db", "is healthy", False, "starting")
    shown = render_configuration(project, Row(key="web/", kind="service", service="web", label="web"))
    assert "geheim" not in shown and "COLOUR: blue" in shown


def test_what_containers_write_cannot_move_the_screen() -> None:
    decode = LineDecoder().decode
    assert decode("\x1b[2J\x1b[1;1Ha\x07b\x9b5mc\x08").plain == "a·b·5mc·"
    assert decode("10%\r50%\r100%\r").plain == "100%"
    assert decode("a\tb").plain == "a       b"
    assert decode("\x1b]0;title\x1b\\x").plain == "x"
    assert "\x1b" not in decode("cut \x1b[").plain
    decoder = LineDecoder()
    decoder.decode("\x1b[32mgreen")
    assert decoder.decode("still").spans[0].style.color.number == 2  # type: ignore[union-attr]
    assert len(decoder.decode("x" * 100_000).plain) < 10_000


def test_lines_are_broken_by_width() -> None:
    assert break_line("", 5) == [(0, 0)]
    assert break_line("abcdefg", 3) == [(0, 3), (3, 6), (6, 7)]
    assert break_line("日本語x", 4) == [(0, 2), (2, 4)]
    assert break_line("日", 1) == [(0, 1)]


def test_news_says_each_thing_once() -> None:
    def happened(action: str, **attributes: str) -> str | None:
        event = ContainerEvent(
            time=5 * 10**9,
            service="web",
            container="c1",
            action=action,
            attributes={"name": "shop-web-1", **attributes},
        )
        news = tell_container_event(event, "shop")
        return f"{news.subject} {news.text}" if news is not None else None

    assert happened("die", exitCode="3") == "web-1 exited with code 3"
    assert happened("kill", signal="15") == "web-1 was sent SIGTERM"
    assert happened("health_status: unhealthy") == "web-1 is unhealthy"
    assert happened("exec_start: sh") == "web-1 runs sh"
    # It makes room for another one.
    assert happened("die", exitCode="0", name="0123456789ab_shop-web-1") == "web-1 exited with code 0"
    assert [happened(one) for one in ("stop", "exec_die", "rename")] == [None, None, None]

    def operation(verb: str, phase: Any, message: str = "") -> str | None:
        event = Event(time=1.0, kind="operation", subject="x", verb=verb, phase=phase, message=message)
        news = tell_supervisor_event(event)
        return news.text if news is not None else None

    assert operation("start container", "done") is None
    assert operation("start container", "failed", "no such file") == "no such file"
    assert operation("pull image", "started") == "pull image ..."
    assert operation("pull image", "done") == "image fetched"
    assert operation("create network", "started") is None


def test_output_that_comes_too_fast_is_counted() -> None:
    shop = Shop(
        {"web": {"command": ["sh", "-c", "".join(f"echo {n};" for n in range(50)) + "sleep infinity"], "init": True}}
    )
    shop.up()
    woken = threading.Event()
    tail = OutputTail(shop.engine, woken.set, lambda: None, limit=20)
    tail.choose(shop.engine.observe("shop").containers)
    found: Sequence[tuple[str, str, str, str]] = ()
    skipped, end = 0, time.monotonic() + 20
    try:
        while "49" not in [line[3] for line in found]:
            assert woken.wait(20) and time.monotonic() < end
            took = tail.take()
            found, skipped = (*found, *took.lines), skipped + took.skipped
    finally:
        tail.close()
    assert len(found) + skipped == 50
    assert {line[0] for line in found} == {"web-1"}


def test_a_writer_that_is_too_fast_is_followed_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.actions.console.output.LATE", -60.0)
    begun: list[int] = []

    class Chatty:
        """Never stops the first time; says one thing the second."""

        def read_logs(self, _containers: object, **_options: object) -> Iterator[LogLine]:
            begun.append(len(begun))
            for number in range(1, 1 << 40) if len(begun) == 1 else [60_000_000]:
                moment = datetime.now(UTC) + timedelta(microseconds=number)
                yield LogLine(
                    container="shop-web-1", service="web", stream="stdout", time=moment.isoformat(), text=str(number)
                )

    ended = threading.Event()
    tail = OutputTail(Chatty(), lambda: None, ended.set, limit=10_000)  # type: ignore[arg-type]
    tail.choose([make_container("web")])
    assert ended.wait(20)
    found = [text for _name, _stream, _time, text in tail.take().lines]
    tail.close()
    assert found[-2:] == [GAP, "60000000"]
    assert found[:2] == ["1", "2"] and begun == [0, 1]


def test_a_scale_below_nothing_is_refused_and_a_failure_forgets_the_keys() -> None:
    shop = Shop()
    failing = True

    def converge(goal: Goal) -> Outcome:
        if failing:
            return Outcome(converged=False, failures=(Failure(code="x", message="broken", service="db"),))
        return shop.converge(goal)

    operations = Operations(shop.engine, lambda _services: shop.project, lambda _project: None, converge)
    with pytest.raises(UsageError, match="no replica that could go"):
        operations.scale("db", 0, -1)
    with pytest.raises(Exception, match="db: broken"):
        operations.scale("db", 0, 1)
    failing = False
    assert operations.scale("db", 0, 2) == "db: 2 replicas"
    with pytest.raises(Conflict, match="does not run"):
        operations.stop(Row(key="web/", kind="service", service="web", label="web"))
    assert isinstance(KeyBar(id="k"), Static) and isinstance(Summary(), Static)
