"""Rules of ``develop.watch``, trees that are watched, and files that are made the same: without containers."""

from __future__ import annotations

import errno
import os
import random
import select
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.engines.base import FileSync
from orchestrator.engines.native import host
from orchestrator.engines.native.dockerfile.sources.dockerignore import load_ignore
from orchestrator.engines.native.files.syncing import sync_tree
from orchestrator.errors import Conflict, Unavailable
from orchestrator.model import Hook
from orchestrator.watching.rules import WatchRule, compile_patterns, is_bind_mounted, is_temporary, sort_changes
from orchestrator.watching.trees import TreeWatcher


def make_rule(**fields: object) -> WatchRule:
    given = {"service": "web", "index": 0, "action": "sync", "path": "/p/src", "target": "/app", **fields}
    for name in ("ignore", "include"):
        if name in given:
            given[name] = compile_patterns(given[name], given["path"])
    return WatchRule(**given)


@pytest.mark.parametrize(
    ("fields", "matching", "others"),
    [
        ({}, ["/p/src/a", "/p/src/a/b"], ["/p/srcs", "/p", "/p/other/a", "/p/src/.git/HEAD", "/p/src/x/a~"]),
        ({"ignore": ["node_modules/"]}, ["/p/src/a/node_modules/b"], ["/p/src/node_modules", "/p/src/node_modules/b"]),
        ({"ignore": ["**/node_modules"]}, ["/p/src/a"], ["/p/src/a/node_modules/b"]),
        ({"ignore": ["*.log", "!keep.log"]}, ["/p/src/keep.log", "/p/src/a/x.log"], ["/p/src/x.log"]),
        ({"ignore": ["/p/src/here", "/there"]}, ["/p/src/a"], ["/p/src/here/a", "/p/src/there"]),
        ({"include": ["*.py"]}, ["/p/src/a.py"], ["/p/src/a/b.py", "/p/src/a.txt", "/p/src"]),
        ({"include": ["**/*.py"], "ignore": ["tests"]}, ["/p/src/a/b.py"], ["/p/src/tests/c.py"]),
        ({"path": "/p/file", "is_folder": False, "include": ["*.no"]}, ["/p/file"], ["/p/file2", "/p"]),
        (
            {"context": "/p", "shared": load_ignore("src/gen\n**/*.o\n!src/gen/keep\n")},
            ["/p/src/a", "/p/src/gen/keep"],
            ["/p/src/gen/a", "/p/src/deep/x.o"],
        ),
    ],
)
def test_what_a_rule_matches(fields: dict[str, object], matching: list[str], others: list[str]) -> None:
    rule = make_rule(**fields)
    assert [one for one in matching if not rule.matches(one)] == []
    assert [one for one in others if rule.matches(one)] == []


def test_folders_that_need_not_be_watched() -> None:
    rule = make_rule(ignore=["node_modules", "gen", "!gen/keep"])
    pruned = ["/p/src/node_modules", "/p/src/.git", "/elsewhere"]
    assert [rule.is_pruned(one) for one in pruned] == [True] * 3
    assert not any(rule.is_pruned(one) for one in ("/p/src", "/p", "/p/src/gen", "/p/src/a"))


def test_what_editors_keep_for_themselves() -> None:
    theirs = ["4913", "a~", ".a.swp", ".a.swx", ".#a", "#a#", "x___jb_tmp___", "x___jb_old___", ".idea/workspace.xml"]
    assert [one for one in theirs if not is_temporary(f"deep/{one}")] == []
    assert not any(is_temporary(one) for one in ("a", ".env", "49130", "a.swp", "#a", "git/HEAD", ".gitignore"))


def test_a_batch_asks_for_each_thing_once() -> None:
    hook = Hook(command=("true",))
    rules = [
        make_rule(),
        make_rule(index=1, action="sync+exec", path="/p", target="/all", hook=hook),
        make_rule(service="db", action="sync+restart", path="/p/src"),
        make_rule(service="app", action="rebuild"),
        make_rule(service="app", index=1, action="restart"),
    ]
    batch = sort_changes(rules, ["/p/src/b", "/p/src/a", "/p/src/b"])
    assert [(one.source, one.target) for one in batch.syncs["web"]] == [
        ("/p/src/a", "/app/a"),
        ("/p/src/a", "/all/src/a"),
        ("/p/src/b", "/app/b"),
        ("/p/src/b", "/all/src/b"),
    ]
    assert (batch.rebuild, batch.restart, batch.hooks) == (("app",), ("db",), (rules[1],))
    assert sort_changes(rules, ["/elsewhere"]).syncs == {}


def test_definitions_and_bind_mounts() -> None:
    rule = make_rule(dockerfile="Containerfile")
    names = ("Dockerfile", "Containerfile", "compose.yaml", "docker-compose.override.yml")
    assert all(rule.is_definition(f"/p/src/{name}") for name in names)
    assert not rule.is_definition("/p/src/composer.yaml")
    assert is_bind_mounted("/p/src", ["/p"])
    assert not is_bind_mounted("/p/src", ["/p/s", "/p/src/below"])


@contextmanager
def watch(*roots: Path, prune: tuple[str, ...] = ()) -> Iterator[TreeWatcher]:
    watcher = TreeWatcher(map(str, roots), lambda folder: os.path.basename(folder) in prune)
    try:
        yield watcher
    finally:
        watcher.close()


def settle(watcher: TreeWatcher) -> set[str]:
    """What has changed. inotify tells of everything before the call that changed it returns."""
    poll = select.poll()
    poll.register(watcher.fileno(), select.POLLIN)
    poll.poll(2000)
    watcher.read()
    return set(watcher.take())


def test_what_changes_in_a_tree(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "skip").mkdir(parents=True)
    (root / "old").write_text("x")
    with watch(root, prune=("skip",)) as watcher:
        assert watcher.take() == (), "what is there from the beginning is no change"
        (root / "a/b").mkdir(parents=True)
        (root / "a/b/c").write_text("x")
        (root / "skip/x").write_text("x")
        assert settle(watcher) == {f"{root}/{one}" for one in ("a", "a/b", "a/b/c")}
        (root / "a").rename(root / "z")
        moved = {f"{root}/{top}{rest}" for top in "az" for rest in ("", "/b", "/b/c")}
        assert settle(watcher) == moved
        (root / "z/b/c").write_text("y")
        assert settle(watcher) == {f"{root}/z/b/c"}
        shutil.rmtree(root / "z")
        assert settle(watcher) == {f"{root}/{one}" for one in ("z", "z/b", "z/b/c")}
        (root / "old").chmod(0o600)
        assert settle(watcher) == {f"{root}/old"}
        with open(root / "old", "a") as file:
            file.write("more")
            file.flush()
            settle(watcher)
            (root / "new").write_text("x")
            settle(watcher)
            file.write("more")
            file.flush()
            watcher.read()
            assert watcher.being_written
        shutil.rmtree(root)
        assert f"{root}/old" in settle(watcher)
        (root / "back").mkdir(parents=True)
        assert settle(watcher) == {f"{root}/back"}


def test_roots_that_come_later(tmp_path: Path) -> None:
    folder, single = tmp_path / "deep/er/folder", tmp_path / "deep/file"
    with watch(folder, single) as watcher:
        folder.mkdir(parents=True)
        (folder / "x").write_text("x")
        single.write_text("x")
        assert settle(watcher) == {f"{folder}/x", str(single)}
        (tmp_path / "deep").rename(tmp_path / "away")
        assert settle(watcher) == {f"{folder}/x", str(single)}
        (tmp_path / "away").rename(tmp_path / "deep")
        assert settle(watcher) == {f"{folder}/x", str(single)}
        (folder / "x").write_text("y")
        assert settle(watcher) == {f"{folder}/x"}


def test_lost_events_lead_to_a_look_at_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a/gone").write_text("x")
    (root / "a/same").write_text("x")
    with watch(root) as watcher:
        (root / "a/gone").unlink()
        (root / "a/new/er").mkdir(parents=True)
        list(watcher._inotify.read())
        overflow = iter([[host.FileEvent(-1, host.IN_Q_OVERFLOW, "")], []])
        monkeypatch.setattr(watcher._inotify.__class__, "read", lambda _self: iter(next(overflow)))
        watcher.read()
        assert set(watcher.take()) == {f"{root}/a/{one}" for one in ("gone", "new", "new/er")}


def describe(root: Path) -> dict[str, object]:
    """Names, kinds, modes and contents."""
    return {
        str(one.relative_to(root)): os.readlink(one)
        if one.is_symlink()
        else (one.lstat().st_mode, None if one.is_dir() else one.read_bytes())
        for one in root.rglob("*")
    }


def change_at_random(dice: random.Random, root: Path) -> None:
    inner = sorted(root.rglob("*"))
    folders = [root, *(one for one in inner if one.is_dir() and not one.is_symlink())]
    place = dice.choice(folders) / dice.choice("abcde")
    victim = dice.choice(inner) if inner else None
    kind = dice.randrange(6)
    if kind < 3 and not place.is_dir() and not place.is_symlink():
        place.write_text(str(dice.random()))
    elif kind == 3 and not place.exists() and not place.is_symlink():
        (place / "deep/er").mkdir(parents=True)
    elif kind == 4 and victim is not None:
        shutil.rmtree(victim) if victim.is_dir() and not victim.is_symlink() else victim.unlink()
    elif kind == 5 and victim is not None and not place.exists() and victim not in place.parents:
        victim.rename(place)


@pytest.mark.parametrize("seed", range(8))
def test_a_copy_stays_the_same_whatever_happens(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    rule = make_rule(path=str(source), target="/")
    root = os.open(target, os.O_PATH | os.O_DIRECTORY)
    try:
        with watch(source) as watcher:
            for step in range(120):
                change_at_random(dice, source)
                if dice.random() < 0.4 or step == 119:
                    watcher.read()
                    sync_tree(root, sort_changes([rule], watcher.take()).syncs.get("web", ()))
                    assert describe(target) == describe(source), f"seed {seed}, step {step}"
    finally:
        os.close(root)


def test_a_copy_leads_nowhere_else(tmp_path: Path) -> None:
    inside, outside, source = tmp_path / "in", tmp_path / "out", tmp_path / "source"
    for one in (inside, outside):
        one.mkdir()
    source.write_text("x")
    os.symlink("../out", inside / "link")
    os.symlink("/", inside / "top")
    os.symlink("file", inside / "last")
    os.chown(inside, 1234, 1235)
    root = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    try:
        sync_tree(root, [FileSync(source=str(source), target="/top/made/file")])
        assert (inside / "made/file").stat().st_uid == 1234, "new things belong to whom the folder belongs"
        with pytest.raises(Conflict):
            sync_tree(root, [FileSync(source=str(source), target="/made/file/x")])
        sync_tree(root, [FileSync(source=str(source), target="/last")])
        assert not (inside / "last").is_symlink()
        os.chown(inside / "last", 7, 8)
        source.write_text("y")
        assert sync_tree(root, [FileSync(source=str(source), target="/last")]) == 1
        assert (inside / "last").stat().st_uid == 7, "what is there keeps its owner"
        assert sync_tree(root, [FileSync(source=str(source), target="/last")], changed_only=True) == 0
        assert list(outside.iterdir()) == []
        assert sorted(one.name for one in inside.iterdir() if one.name.startswith(".")) == []
    finally:
        os.close(root)


def test_too_many_watchers_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(host.Inotify, "add", refuse)
    with pytest.raises(Unavailable, match="no further watches") as told:
        TreeWatcher([str(tmp_path)], lambda _folder: False)
    assert "max_user_watches" in told.value.hint
