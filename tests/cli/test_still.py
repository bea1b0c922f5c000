"""The picture that is drawn without the live display is the one that the live display would leave."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from orchestrator.cli.again import _WORDS
from orchestrator.cli.live import LiveScreen
from orchestrator.cli.progress import PlainScreen
from orchestrator.cli.still import render_still
from orchestrator.cli.wording import describe_operation
from orchestrator.events import Event


def keep(name: str) -> Event:
    return Event(time=5.0, kind="operation", subject=name, verb="keep container", action=f"keep {name}", phase="done")


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("names", [("shop-web-1",), ("shop-db-1", "shop-frontend-10", "a")])
def test_it_is_the_live_displays_last(width: int, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = LiveScreen("up", colour=True)
    monkeypatch.setattr(screen, "_take_terminal", lambda: None)
    written = io.StringIO()
    screen._console = Console(file=written, width=width, height=24, force_terminal=True, highlight=False)
    for name in names:
        screen(keep(name))
    screen._console.print(screen)
    assert render_still("up", {f"Container {name}": "Running" for name in names}, width, 24) == written.getvalue()


def test_what_finds_no_room_is_left_to_the_live_display() -> None:
    many = {f"Container shop-web-{one}": "Running" for one in range(30)}
    assert not render_still("up", many, 80, 24)
    assert not render_still("up", {"Container " + 60 * "a": "Running"}, 80, 24)
    assert not render_still("up", {}, 80, 24)


def test_its_words_are_those_of_every_display() -> None:
    for (verb, phase), word in _WORDS.items():
        event = Event(time=5.0, kind="operation", subject="x", verb=verb, phase=phase)  # type: ignore[arg-type]
        line = describe_operation(event)
        assert line is not None
        assert (line.id, line.text) == ("Container x", word)
        written = io.StringIO()
        PlainScreen(written)(event)
        assert written.getvalue() == f" Container x {word}\n"
