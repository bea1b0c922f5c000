"""Timelines: the critical path, and how they are drawn."""

from __future__ import annotations

from orchestrator.timeline import Span, Timeline, find_critical_path, render_bars, render_chrome_trace


def span(key: str, began: float, ended: float, *needs: str) -> Span:
    return Span(id=key, verb=key.split()[0], subject=key, began=began, ended=ended, needs=needs)


LINE = Timeline(
    project="app",
    began=100.0,
    ended=110.0,
    converged=True,
    spans=(
        span("net", 100.0, 101.0),
        span("image", 100.0, 105.0),
        span("create", 105.0, 106.0, "net", "image"),
        span("start", 106.0, 110.0, "create"),
        span("other", 101.0, 102.0, "net"),
    ),
)


def test_the_critical_path_goes_through_what_ended_last() -> None:
    assert [one.id for one in find_critical_path(LINE)] == ["image", "create", "start"]


def test_a_second_plan_follows_the_first() -> None:
    later = LINE.replace(ended=120.0, spans=(*LINE.spans, span("again", 111.0, 120.0)))
    assert [one.id for one in find_critical_path(later)] == ["image", "create", "start", "again"]


def test_nothing_at_all() -> None:
    empty = LINE.replace(spans=())
    assert find_critical_path(empty) == ()
    assert list(render_bars(empty, 10)) == []


def test_bars_and_chrome_traces() -> None:
    rows = {key: bar for key, bar, _seconds, _critical in render_bars(LINE, 10)}
    assert rows["image"] == "█████     "
    assert rows["start"] == "      ████"
    assert rows["other"] == " ▒        "
    events = [one for one in render_chrome_trace(LINE)["traceEvents"] if one["ph"] == "X"]
    assert {one["name"]: (one["ts"], one["dur"]) for one in events}["start"] == (6_000_000, 4_000_000)
    assert Timeline.from_json(LINE.to_json()) == LINE
