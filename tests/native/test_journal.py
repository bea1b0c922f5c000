"""What has happened, when whoever should have written it down was killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.engines.native import journal
from orchestrator.engines.native.journal import Journal, read_events
from orchestrator.engines.native.layout import Layout

ROW = {"id": "a" * 64, "project": "p", "service": "web", "name": "p-web-1", "image": "busybox", "oneoff": 0}
OTHER = {**ROW, "id": "b" * 64, "name": "p-web-2"}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "run")


def list_actions(layout: Layout) -> list[tuple[str, str]]:
    return [(one.attributes["name"][-1], one.action) for one in read_events(layout, "p", since=0, until=time.time())]


def test_an_end_that_was_not_written_down_is_and_only_then(layout: Layout) -> None:
    book, ended = Journal(layout), {**ROW, "exit_code": 7}
    book.note_lost_end(ended, {})  # type: ignore[arg-type]
    assert list_actions(layout) == []
    for row, action in ((ROW, "create"), (ROW, "start"), (OTHER, "start"), (OTHER, "die")):
        book.note(row, action, {})  # type: ignore[arg-type]
    for _ in range(2):
        book.note_lost_end(ended, {})  # type: ignore[arg-type]
    book.note_lost_end({**OTHER, "exit_code": 0}, {})  # type: ignore[arg-type]
    assert list_actions(layout)[-2:] == [("2", "die"), ("1", "die")]
    assert [one.attributes.get("exitCode") for one in read_events(layout, "p", since=0, until=time.time())][-1] == "7"


def test_the_older_file_is_looked_at_too(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Journal(layout)
    book.note(ROW, "start", {})  # type: ignore[arg-type]
    monkeypatch.setattr(journal, "LONGEST", 1)
    book.note(OTHER, "create", {})  # type: ignore[arg-type]
    monkeypatch.undo()
    book.note_lost_end({**ROW, "exit_code": 0}, {})  # type: ignore[arg-type]
    assert list_actions(layout)[-1] == ("1", "die")
