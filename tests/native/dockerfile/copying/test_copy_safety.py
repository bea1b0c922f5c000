"""What a stage or a context holds leads nothing out of it; what is remembered of contents is never wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.engines.native import host
from orchestrator.engines.native.dockerfile.performing.copying import perform_copy, plan_copy
from orchestrator.engines.native.dockerfile.performing.ownership import ModeChange
from orchestrator.engines.native.dockerfile.sources import hashing
from orchestrator.engines.native.dockerfile.sources.hashing import HashCache, make_key
from orchestrator.engines.native.dockerfile.sources.matching import PathPatterns, compile_match
from orchestrator.engines.native.dockerfile.sources.site import BuildSite, SourceRoot
from orchestrator.errors import StackError

from .places import Stage, make_tree, parse_step, read_tree

ESCAPES = [
    ("way -> {outside}", "COPY evil /way/"),
    ("way -> {outside}", "COPY evil /way"),
    ("way -> ../../../../../../../..{outside}", "COPY evil /way/deep/er"),
    ("a/way -> ../..{outside}", "COPY evil /a/way/"),
    ("one -> two\ntwo -> {outside}", "COPY evil /one/"),
    ("way -> {outside}/new", "COPY evil /way"),
    ("way -> {outside}", "COPY tree /way"),
    ("way -> /proc/self/root{outside}", "COPY evil /way/"),
    ("x/", "COPY evil /x/../../../../../..{outside}/"),
]


@pytest.mark.parametrize(("links", "step"), ESCAPES)
def test_no_link_of_the_stage_leads_out(stage: Stage, tmp_path: Path, links: str, step: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    make_tree(stage.context, "evil = evil\ntree/evil = evil")
    make_tree(stage.root, links.format(outside=outside))
    stage.copy(step.format(outside=outside))
    assert not list(outside.iterdir())
    assert [name for name, entry in read_tree(stage.root).items() if entry[4] == "evil"]


def test_no_link_of_the_context_leads_out(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    text = f"abs -> {tmp_path}/secret\nup -> ../secret\nfolder -> ..\nmagic -> /proc/self/root{tmp_path}/secret\n"
    make_tree(stage.context, text)
    for name in ("abs", "up", "folder/secret", "magic"):
        with pytest.raises(StackError, match="not found"):
            stage.copy(f"COPY {name} /stolen")
    found = stage.copy("COPY . /all")
    assert "secret" not in {entry[4] for entry in found.values() if entry[0] == "file"}


def test_a_link_that_appears_later_is_not_followed(stage: Stage, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("secret")
    make_tree(stage.context, "d/f = mine")
    plan = stage.plan("COPY d /d")
    os.rename(stage.context / "d", stage.context / "gone")
    (stage.context / "d").symlink_to(outside)
    with pytest.raises((StackError, OSError)):
        perform_copy(plan, stage.root)
    assert "secret" not in {entry[4] for entry in read_tree(stage.root).values()}


def test_over_a_stage_of_layers(stage: Stage, tmp_path: Path) -> None:
    make_tree(stage.root, "lib -> usr/lib\nusr/lib/old = old\nusr/lib/folder/x = x")
    make_tree(stage.context, "new = new\nold = over")
    upper, work, merged = tmp_path / "upper", tmp_path / "overlay", tmp_path / "merged"
    for path in (upper, work, merged):
        path.mkdir()
    host.mount_overlay([str(stage.root)], str(merged), upper=str(upper), work=str(work))
    try:
        perform_copy(stage.plan("COPY --chown=3:3 . /lib/"), merged)
        assert (merged / "usr/lib/folder/x").read_text() == "x"
    finally:
        host.unmount(str(merged))
    assert {name: entry[4] for name, entry in read_tree(upper).items() if entry[0] == "file"} == {
        "usr/lib/new": "new",
        "usr/lib/old": "over",
    }


def test_a_changed_file_is_noticed_whatever_its_time_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_RACY", 0)
    stage = Stage(tmp_path)
    make_tree(stage.context, "a = one\nb = same")
    first = stage.plan("COPY . /").digest
    stage.site.close()
    again = Stage(tmp_path)
    assert again.plan("COPY . /").digest == first
    (stage.context / "a").write_text("two")
    os.utime(stage.context / "a", (1_000_000_000, 1_000_000_000))
    assert Stage(tmp_path).plan("COPY . /").digest != first


def test_files_that_change_meanwhile_do_not_pass_for_the_old_ones(stage: Stage) -> None:
    make_tree(stage.context, "a = old")
    plan = stage.plan("COPY . /")
    assert plan.digest
    (stage.context / "a").write_text("new")
    with pytest.raises(StackError, match="changed while they were copied"):
        perform_copy(plan, stage.root)


def test_what_is_remembered_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_RACY", 0)
    stage = Stage(tmp_path)
    make_tree(stage.context, "\n".join(f"d{number % 7}/f{number} = {number}" for number in range(50)))
    first = stage.plan("COPY . /").digest
    stage.site.close()
    from orchestrator.engines.native.dockerfile.sources import views

    monkeypatch.setattr(views, "hash_file", lambda *_args, **_more: pytest.fail("read again"))
    assert Stage(tmp_path).plan("COPY . /").digest == first


def test_a_young_file_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    table = HashCache(tmp_path / "cache").open_table(str(tmp_path))
    table.note(make_key((tmp_path / "f").stat()), b"0" * 32)
    assert table.find(make_key((tmp_path / "f").stat())) is None


def test_a_damaged_table_is_no_table(tmp_path: Path) -> None:
    key = (1, 2, 3, 4, 5)
    cache = HashCache(tmp_path)
    cache.open_table("/r").note(key, b"1" * 32)
    cache.note(b"i" * 32, b"d" * 32)
    cache.save()
    assert HashCache(tmp_path).open_table("/r").find(key) == b"1" * 32
    assert HashCache(tmp_path).recall(b"i" * 32) == b"d" * 32
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert HashCache(tmp_path).open_table("/r").find(key) is None
    assert HashCache(tmp_path).recall(b"i" * 32) is None


def test_layers_that_are_known_are_not_even_opened(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    root = make_tree(tmp_path / "root", "a = a\nb = b")
    step = parse_step("COPY --from=build a /x")
    site = BuildSite(tmp_path / "work", tmp_path / "cache")
    first = plan_copy(step, SourceRoot(root, identity="chain 1"), site).digest
    site.close()

    def refuse() -> Path:
        raise AssertionError("opened")

    again = BuildSite(tmp_path / "work", tmp_path / "cache")
    assert plan_copy(step, SourceRoot(refuse, identity="chain 1"), again).digest == first
    with pytest.raises(AssertionError, match="opened"):
        _ = plan_copy(parse_step("COPY --from=build b /x"), SourceRoot(refuse, identity="chain 1"), again).digest
    assert plan_copy(step, SourceRoot(root, identity="chain 2"), again).digest == first


SAME = ["COPY a /x", "COPY ./a /x", "COPY /a /x"]
DIFFERENT = [
    "COPY a /x/",
    "COPY a /y",
    "COPY b /x",
    "COPY --chown=1 a /x",
    "COPY --chmod=600 a /x",
    "COPY a b /x/",
    "ADD a /x",
]


def test_what_a_key_depends_on(stage: Stage) -> None:
    make_tree(stage.context, "a = a\nb = b")
    first = stage.plan(SAME[0]).digest
    assert {stage.plan(step).digest for step in SAME} == {first}
    different = {step: stage.plan(step).digest for step in DIFFERENT}
    assert len({first, *different.values()}) == len(DIFFERENT) + 1
    (stage.context / "a").chmod(0o600)
    assert stage.plan(SAME[0]).digest != first


MATCHES = [
    ("*.go", "a.go", True),
    ("*.go", "d/a.go", False),
    ("a?c", "abc", True),
    ("a?c", "a/c", False),
    ("[a-c]x", "bx", True),
    ("[^a]x", "bx", True),
    ("[^a]x", "/x", False),
    ("\\*", "*", True),
    ("a[", "a[", None),
    ("[]a]", "]", None),
    ("[b-a]", "b", None),
    ("(x)+", "(x)+", True),
    ("*", "", True),
]


@pytest.mark.parametrize(("pattern", "text", "expected"), MATCHES)
def test_wildcards(pattern: str, text: str, expected: bool | None) -> None:
    rule = compile_match(pattern)
    assert (None if rule is None else rule.match(text) is not None) == expected


LISTS = [
    (["a"], "a/b", True),
    (["a"], "b/a", False),
    (["**/a"], "x/y/a/z", True),
    (["**/a"], "a", True),
    (["a/**"], "a/x", True),
    (["a/**"], "a", False),
    (["a/**/b"], "a/b", True),
    (["a/**/b"], "a/x/y/b", True),
    (["**"], "x", True),
    (["*", "!keep"], "keep", False),
    (["*", "!keep", "keep"], "keep", True),
    (["./a/../b"], "b", True),
    (["**/*-a", "!**/*-c"], "sub-c/file-a", True),
    (["**/*-a", "!**/*-c"], "sub-a/file-c", False),
    (["*", "!sub"], "sub/deep/file", False),
    (["sub", "!sub/keep"], "sub/keep/file", False),
    (["b/"], "b", True),
    (["/b"], "b", False),
    (["*.md", "!README*.md", "README-secret.md"], "README-secret.md", True),
]


@pytest.mark.parametrize(("patterns", "path", "expected"), LISTS)
def test_lists_of_patterns(patterns: list[str], path: str, expected: bool) -> None:
    assert PathPatterns(patterns).matches(path) is expected


MODES = [
    ("644", 0o100777, 0o644),
    ("07777", 0o100000, 0o7777),
    ("u+s", 0o100755, 0o4755),
    ("g-s,o+t", 0o102755, 0o1755),
    ("a=rX", 0o100744, 0o555),
    ("a=rX", 0o100644, 0o444),
    ("go=", 0o100777, 0o700),
    ("ug=rw,o=", 0o100000, 0o660),
    ("o=g", 0o100750, 0o755),
    ("u=rwx,go=u-w", 0o100000, 0o755),
    ("=", 0o100777, 0),
    ("g=", 0o042775, 0o705),
]


@pytest.mark.parametrize(("text", "mode", "expected"), MODES)
def test_modes(text: str, mode: int, expected: int) -> None:
    assert f"{ModeChange(text).apply(mode):o}" == f"{expected:o}"


def test_modes_are_as_chmod_has_them(tmp_path: Path) -> None:
    import subprocess

    target = tmp_path / "f"
    target.write_text("")
    for text in (
        "u+s",
        "g-s,o+t",
        "a=rX",
        "go=",
        "ug=rw,o=",
        "o=g",
        "u=rwx,go=u-w",
        "+x",
        "-w",
        "ug+s,a+r",
        "+t",
        "=rw",
    ):
        for mode in (0o644, 0o755, 0o6750, 0o1777, 0):
            target.chmod(mode)
            subprocess.run(["sh", "-c", 'umask 0; exec chmod "$1" "$2"', "-", text, str(target)], check=True)
            assert f"{ModeChange(text).apply(0o100000 | mode):o}" == f"{target.stat().st_mode & 0o7777:o}", (text, mode)


def test_many_files_and_links_need_few_descriptors(stage: Stage) -> None:
    import resource

    for number in range(60):
        folder = stage.context / f"d{number}"
        folder.mkdir()
        (folder / "f").write_text(str(number))
        os.link(folder / "f", folder / "g")
        (stage.context / f"{number}.txt").write_text("x")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    plan = stage.plan("COPY *.txt /wild/")
    everything = stage.plan("COPY . /all")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 24, before[1]))
    try:
        perform_copy(plan, stage.root)
        perform_copy(everything, stage.root)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(os.listdir(stage.root / "wild")) == 60
    assert (stage.root / "all/d59/f").stat().st_nlink == 2
