"""Progress: Compose's words, lines elsewhere, a live display on a terminal that leaves the terminal as it was."""

from __future__ import annotations

import io
import json

import pytest

from orchestrator.cli.argv import find_command, will_converge
from orchestrator.cli.diagnostics import render_diagnostic
from orchestrator.cli.progress import JsonScreen, PlainScreen, QuietScreen, leave_out
from orchestrator.cli.quantities import render_duration, render_size
from orchestrator.cli.table import render_table
from orchestrator.errors import Diagnostic
from orchestrator.events import Event, Phase
from orchestrator.source import Location


def event(verb: str, phase: Phase, subject: str = "shop-web-1", **values: object) -> Event:
    return Event(time=1.0, kind="operation", verb=verb, phase=phase, subject=subject, **values)  # type: ignore[arg-type]


EVENTS = [
    event("create network", "started", "shop_default"),
    event("create network", "done", "shop_default"),
    event("pull image", "started", "busybox"),
    event("start container", "started"),
    event("start container", "done"),
    event("wait for", "started", "db", action="wait db healthy"),
    event("wait for", "done", "db", action="wait db healthy"),
    event("stop container", "failed", message="it does not die"),
    Event(time=1.0, kind="warning", message="a limit was lowered"),
    Event(time=1.0, kind="error", message="shown in full in the end"),
    Event(time=1.0, kind="container", action="die"),
]


def test_plain_lines() -> None:
    out = io.StringIO()
    screen = PlainScreen(out)
    for one in EVENTS:
        screen(one)
    assert out.getvalue().splitlines() == [
        " Network shop_default Creating",
        " Network shop_default Created",
        " Image busybox Pulling",
        " Container shop-web-1 Starting",
        " Container shop-web-1 Started",
        " Service db Waiting",
        " Service db Healthy",
        " Container shop-web-1 Error it does not die",
        "warning: a limit was lowered",
    ]


def test_json_lines_and_quiet() -> None:
    out = io.StringIO()
    screen = JsonScreen(out)
    for one in EVENTS:
        screen(one)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert rows[1]["id"] == "Network shop_default"
    assert (rows[1]["text"], rows[1]["status"]) == ("Created", "Done")
    out = io.StringIO()
    quiet = QuietScreen(out)
    for one in EVENTS:
        quiet(one)
    assert out.getvalue() == "warning: a limit was lowered\n"


def test_progress_goes_on_when_nobody_reads_it() -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    screen = PlainScreen(Closed())
    for one in EVENTS:
        screen(one)


def test_hidden_operations_show_little() -> None:
    out = io.StringIO()
    sink = leave_out(PlainScreen(out), ["pull image", "build image"])
    sink(event("pull image", "started", "busybox"))
    sink(event("pull image", "failed", "busybox", message="no"))
    # Of a fetch only the progress is hidden.
    sink(event("build image", "started", "made"))
    assert out.getvalue() == " Image busybox Pulling\n Image busybox Error no\n"


def test_the_live_display_gives_the_terminal_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.cli.live import LiveScreen

    # Whatever this test itself runs on: a dumb terminal has no cursor to give back.
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt), LiveScreen("up", colour=False) as screen:
        for one in EVENTS:
            screen(one)
        raise KeyboardInterrupt
    shown = capsys.readouterr().err
    assert "[+] up 2/4" in shown or "[+] up 3/4" in shown
    assert shown.rstrip().endswith("\x1b[?25h")
    assert "a limit was lowered" in shown


def test_the_live_display_in_ascii_and_below_it_a_line_for_what_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from rich.console import Console

    from orchestrator.cli.live import LiveScreen

    monkeypatch.setenv("TERM", "xterm")
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    monkeypatch.setattr("sys.stderr", terminal)
    with LiveScreen("up", colour=False) as screen:
        for one in EVENTS:
            screen(one)
        drawn = io.StringIO()
        Console(file=drawn, width=60).print(screen)
        # A Ctrl-C is echoed where the cursor is: not behind the last row, which would break.
        assert drawn.getvalue().endswith("\n\n")
    terminal.seek(0)
    assert "\\u" not in terminal.read()


def test_tables_as_docker_prints_them() -> None:
    assert render_table(("NAME", "STATUS"), [("a", "Up"), ("longer-name", "")]) == (
        "NAME          STATUS\na             Up\nlonger-name\n"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (3000, "50 minutes"),
        (3600, "About an hour"), (7200, "2 hours"), (86400 * 3, "3 days"), (86400 * 20, "2 weeks"),
        (86400 * 90, "3 months"), (86400 * 800, "2 years"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert render_duration(seconds) == words


def test_sizes() -> None:
    assert [render_size(n) for n in (0, 999, 1982551, 52428800)] == ["0B", "999B", "1.983MB", "52.43MB"]


def test_an_excerpt_points_at_the_place(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("x") / "compose.yaml"
    path.write_text("services:\n  web:\n    prots: []\n")
    one = Diagnostic("unknown-key", "no such key: prots", Location(str(path), 3, 5), "services.web.prots", "ports?")
    assert render_diagnostic(one, excerpt=True).splitlines() == [
        f"{path}:3:5: error[unknown-key]: no such key: prots",
        "    3 |     prots: []",
        "      |     ^",
        "  services.web.prots",
        "  hint: ports?",
    ]
    assert "\x1b[1;31merror[unknown-key]\x1b[0m" in render_diagnostic(one, colour=True)


@pytest.mark.parametrize(
    ("words", "command", "converges"),
    [
        (["up", "-d"], "up", True),
        (["-f", "up", "ps"], "ps", False),
        (["--project-name", "down", "--ansi=never", "down"], "down", True),
        (["--dry-run", "up"], "up", False),
        (["up", "--help"], "up", False),
        ([], "", False),
    ],
)
def test_a_glance_at_the_command_line(words: list[str], command: str, converges: bool) -> None:
    assert find_command(words) == command
    assert will_converge(words) == converges
