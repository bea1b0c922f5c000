"""Durations on the screen although somebody sets the clock, and what is told of what is not begun any more."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from orchestrator.actions.converge import tell_interrupted
from orchestrator.cli.elapsed import SteadyClock
from orchestrator.cli.progress import PlainScreen
from orchestrator.events import Event, Phase

Advance = Callable[..., float]


@pytest.fixture
def advance(monkeypatch: pytest.MonkeyPatch) -> Advance:
    """Let seconds pass, and set the clock by some; return what the clock shows."""
    clocks = {"wall": 1_000_000.0, "steady": 500.0}
    monkeypatch.setattr("time.time", lambda: clocks["wall"])
    monkeypatch.setattr("time.monotonic", lambda: clocks["steady"])

    def pass_on(seconds: float = 0.0, *, by: float = 0.0) -> float:
        clocks["wall"] += seconds + by
        clocks["steady"] += seconds
        return clocks["wall"]

    return pass_on


@pytest.mark.parametrize("by", [0.0, 0.5, 3600.0, -3600.0, 30.0, -30.0])
def test_setting_the_clock_changes_no_duration(advance: Advance, by: float) -> None:
    clock = SteadyClock()
    began = clock.place(advance(1))
    advance(2, by=by)
    told = advance(1)
    assert clock.now() - began == pytest.approx(3)
    assert clock.place(told) - began == pytest.approx(3, abs=0.5)
    # It is set back again.
    assert clock.place(advance(1, by=-by)) - began == pytest.approx(4, abs=0.5)


@pytest.mark.parametrize("by", [3600.0, -3600.0])
def test_what_was_written_before_the_clock_was_set_and_read_after_it(advance: Advance, by: float) -> None:
    clock = SteadyClock()
    began = clock.place(advance(1))
    told = advance(2)
    advance(1, by=by)
    assert 0 <= clock.place(told) - began <= 3


def test_what_was_read_late_counts_as_of_when_it_was_written(advance: Advance) -> None:
    clock = SteadyClock()
    began, told = advance(1), advance(2)
    advance(60)
    assert clock.place(told) - clock.place(began) == pytest.approx(2)


def make_event(verb: str, phase: Phase, moment: float = 0.0, *, subject: str = "web-1", action: str = "") -> Event:
    return Event(time=moment, kind="operation", subject=subject, verb=verb, phase=phase, action=action, message="why")


@pytest.mark.parametrize("by", [0.0, 3600.0, -3600.0])
def test_the_live_display_shows_what_has_passed(advance: Advance, by: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from orchestrator.cli.live import LiveScreen

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", io.StringIO())
    drawn = io.StringIO()
    with LiveScreen("up", colour=False) as screen:
        screen(make_event("start container", "started", advance(1)))
        screen(make_event("start container", "started", advance(), subject="db-1"))
        screen(make_event("start container", "done", advance(2, by=by)))
        advance(3)
        Console(file=drawn, width=60).print(screen)
    seconds = {line.split()[-1] for line in drawn.getvalue().splitlines() if "-1" in line}
    assert seconds == {"2.0s", "5.0s"}


def test_what_is_not_begun_any_more_is_told_once_and_as_the_users_doing() -> None:
    out = io.StringIO()
    sink = tell_interrupted(PlainScreen(out))
    for verb in ("create container", "start container"):
        sink(make_event(verb, "cancelled"))
    sink(make_event("start container", "cancelled", subject="api-1"))
    sink(make_event("wait for", "cancelled", subject="db", action="wait db healthy"))
    sink(make_event("keep container", "done", subject="db-1"))
    assert out.getvalue().splitlines() == [
        " Container web-1 Not created interrupted",
        " Container api-1 Not started interrupted",
        " Service db Not healthy yet interrupted",
        " Container db-1 Running",
    ]
