"""Which of the fetched stacks are removed, and which are not."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from orchestrator.actions.checkouts import KEPT, hold_checkouts, note_use, prune_checkouts
from orchestrator.engines.native.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "run")


def make_checkout(folder: Path, name: str, *, age: float) -> Path:
    """A checkout that was made, and used last, `age` seconds ago; its files are as old as this test."""
    place = folder / name
    (place / "shop/.git").mkdir(parents=True)
    (place / "shop/compose.yaml").write_text("services: {}")
    (place / ".origins").write_text("here\n")
    assert note_use(str(place))
    assert not note_use(str(place))
    used = (place / ".used").stat().st_mtime - age
    os.utime(place / ".used", (used, used))
    return place


def test_what_nobody_uses_goes(layout: Layout, tmp_path: Path) -> None:
    folder = tmp_path / "stacks"
    old = KEPT + 1
    names = ("unused", "written", "goal", "container", "young", "newest")
    places = {
        name: make_checkout(folder, f"git-{name}", age=0 if name in ("young", "newest") else old) for name in names
    }
    (places["written"] / "shop/data").mkdir()
    later = (places["unused"] / ".made").stat().st_mtime + 1
    # A change after the moment that it was made in; within that moment none can be told from the making.
    made = (places["written"] / ".made").stat().st_mtime - 1
    os.utime(places["written"] / ".made", (made, made))
    for name in ("unused", "goal", "container"):
        os.utime(places[name] / ".made", (later, later))
    (layout.state / "projects/shop").mkdir(parents=True)
    (layout.state / "projects/shop/goal.json").write_text(f'{{"directory": "{places["goal"]}/shop"}}')
    from orchestrator.engines.native.store import Store

    store = Store(layout.database)
    with store.writing() as connection:
        connection.execute(
            "INSERT INTO containers (id, name, project, service, number, oneoff, image, image_id, config_hash, spec, "
            "created_at) VALUES ('1', 'a', 'p', 's', 1, 0, 'i', 'i', '', ?, 0)",
            (f'{{"source": "{places["container"]}/shop/data"}}',),
        )
    store.close()
    (folder / ".gone-half").mkdir()
    assert prune_checkouts(layout, str(folder), str(places["newest"])) == [".gone-half", "git-unused"]
    left = {one.name for one in folder.iterdir()} - {".lock"}
    assert left == {f"git-{name}" for name in names if name != "unused"}


def test_nothing_goes_while_somebody_fetches(layout: Layout, tmp_path: Path) -> None:
    folder = tmp_path / "stacks"
    place = make_checkout(folder, "git-old", age=KEPT + 1)
    newest = make_checkout(folder, "git-new", age=0)
    later = (place / ".made").stat().st_mtime + 1
    os.utime(place / ".made", (later, later))
    with hold_checkouts(str(folder)):
        assert prune_checkouts(layout, str(folder), str(newest)) == []
        # Others may fetch meanwhile.
        with open(folder / ".lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert prune_checkouts(layout, str(folder), str(newest)) == ["git-old"]


def test_a_store_that_cannot_be_read_says_nothing_of_use(layout: Layout, tmp_path: Path) -> None:
    folder = tmp_path / "stacks"
    place = make_checkout(folder, "git-old", age=KEPT + 1)
    newest = make_checkout(folder, "git-new", age=0)
    later = (place / ".made").stat().st_mtime + 1
    os.utime(place / ".made", (later, later))
    layout.state.mkdir(parents=True)
    layout.database.write_text("no database" * 100)
    assert prune_checkouts(layout, str(folder), str(newest)) == []
    layout.database.unlink()
    assert prune_checkouts(layout, str(folder), str(newest)) == ["git-old"]
