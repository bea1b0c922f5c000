"""What a supervisor leaves to its successor, and the pipe to a keeper that is its child: closed, broken, missing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.goal import Goal
from orchestrator.model import Stack
from orchestrator.supervision.control import Place, dump_goal, read_goal, write_goal
from orchestrator.supervision.keeping import Keeping
from orchestrator.workers import Workers

ROOT = Path(__file__).resolve().parents[2]

KEEPER = """
import os
from orchestrator.supervision import keeper

def keep_up(record, began):
    null = os.path.samestat(os.fstat(0), os.stat("/dev/null"))
    os.write(1, b"%s %d %d" % (record, null, os.open("/", os.O_RDONLY) > 0))
    return 7

keeper._keep_up, keeper._await_end = keep_up, lambda parent: None
keeper.keep_parent(os.getppid(), 0, b"record")
"""


def run_keeper(said: bytes) -> tuple[int, bytes]:
    done = subprocess.run(
        [sys.executable, "-c", KEEPER], input=said, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert done.stderr == b""
    return done.returncode, done.stdout


def test_a_supervisor_that_ends_without_a_word_has_a_successor_and_nothing_gets_the_number_of_the_pipe() -> None:
    assert run_keeper(b"") == (7, b"record 1 1")


def test_a_supervisor_that_has_said_farewell_has_none() -> None:
    assert run_keeper(b"left\n") == (0, b"")


@pytest.fixture
def keeping() -> Keeping:
    return Keeping({"project": "shop"}, 0, lambda: None)


def test_a_farewell_to_a_keeper_that_has_just_been_killed_is_lost(keeping: Keeping) -> None:
    mine, theirs = keeping._open_farewell()
    keeping._farewell = mine
    os.close(theirs)
    keeping.say_farewell()
    os.close(mine)


def test_a_farewell_does_not_go_to_what_has_the_number_of_an_old_pipe(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine, theirs = keeping._open_farewell()
    keeping._farewell = mine
    os.close(theirs)

    def fail() -> None:
        raise OSError("too many open files")

    monkeypatch.setattr("os.pipe", fail)
    with pytest.raises(OSError, match="too many"):
        keeping._open_farewell()
    other = tmp_path / "other"
    opened = os.open(other, os.O_WRONLY | os.O_CREAT)
    os.dup2(opened, mine)
    try:
        keeping.say_farewell()
        assert other.read_bytes() == b""
    finally:
        os.close(mine)
        if opened != mine:
            os.close(opened)


def test_a_successor_has_the_variables_that_providers_are_run_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = Place(project="shop", run=str(tmp_path / "run"), state=str(tmp_path / "state"))
    monkeypatch.setenv("INHERITED", "of-the-shell")
    monkeypatch.setenv("CHANGED", "before")
    variables = {"INHERITED": "of-the-shell", "CHANGED": "by-dotenv", "ADDED": "by-dotenv"}
    write_goal(place, "native", dump_goal(Goal(stack=Stack(name="shop", environment=variables))))
    kept = read_goal(place)
    assert kept is not None
    assert dict(kept[0].stack.environment) == {"CHANGED": "by-dotenv", "ADDED": "by-dotenv"}
    # What a provider is run with, by this process and by its successor.
    assert {**os.environ, **kept[0].stack.environment} == {**os.environ, **variables}
    assert "of-the-shell" not in Path(place.goal).read_text()
    assert (os.stat(place.goal).st_mode & 0o777, os.stat(place.state).st_mode & 0o777) == (0o600, 0o700)


def test_what_a_start_took_is_given_back_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.supervision import supervisor

    done: list[tuple[str, bool]] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: done.append((name, threading.current_thread() is threading.main_thread()))

    monkeypatch.setattr(supervisor, "refresh_code_cache", note("codes"))
    monkeypatch.setattr(supervisor, "release_memory", note("memory"))
    for stale, expected in ((True, [("codes", False), ("memory", True)]), (False, [("memory", True)])):
        monkeypatch.setattr(supervisor, "is_code_cache_stale", lambda stale=stale: stale)
        done.clear()
        own: Any = SimpleNamespace(loop=SimpleNamespace(reached=True, workers=Workers()), _slimming=True)
        asyncio.run(supervisor.Supervisor._give_back(own))
        assert (done, own._slimming) == (expected, None)
