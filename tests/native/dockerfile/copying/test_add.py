"""ADD: archives by their content, files from the web, git repositories."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from orchestrator.errors import StackError

from .places import OLD, Stage, digest_of, make_tar, make_tree
from .repositories import git, make_repository
from .web import Web

HOST = "git://repositories.invalid"

MEMBERS = [
    ("p/", "dir", "", 0o711, 3),
    ("p/f", "file", "hello", 0o640, 4),
    ("implied/q", "file", "q", 0o644, 5),
    ("p/s", "link", "f", 0o777, 6),
    ("p/h", "hard", "p/f", 0o640, 4),
    ("./top", "file", "t", 0o4755, 7),
]
UNPACKED = {
    "t": ("dir", 0o755, 0, 0, ""),
    "t/p": ("dir", 0o711, 3, 3, ""),
    "t/p/f": ("file", 0o640, 4, 4, "hello"),
    "t/p/h": ("file", 0o640, 4, 4, "hello"),
    "t/p/s": ("link", 0o777, 6, 6, "f"),
    "t/implied": ("dir", 0o755, 0, 0, ""),
    "t/implied/q": ("file", 0o644, 5, 5, "q"),
    "t/top": ("file", 0o4755, 7, 7, "t"),
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("packer", PACKERS)
def test_archives_are_known_by_their_content(stage: Stage, packer: str) -> None:
    plain = make_tar(stage.work / "t.tar", MEMBERS).read_bytes()
    (stage.context / "no-name").write_bytes(PACKERS[packer](plain))
    assert stage.copy("ADD no-name /t") == UNPACKED
    assert (stage.root / "t/p/f").stat().st_ino == (stage.root / "t/p/h").stat().st_ino
    assert (stage.root / "t/p/f").stat().st_mtime == OLD


def test_what_is_no_archive_is_copied(stage: Stage) -> None:
    plain = make_tar(stage.work / "t.tar", MEMBERS).read_bytes()
    for name, data in (
        ("text.tar", b"text"),
        ("zeros.tar", bytes(1024)),
        ("x.gz", gzip.compress(b"x")),
        ("e.tar", b""),
    ):
        (stage.context / name).write_bytes(data)
    (stage.context / "cut.tar.gz").write_bytes(gzip.compress(plain)[:30])
    found = stage.copy("ADD . /d/", "ADD text.tar zeros.tar x.gz e.tar cut.tar.gz /t/")
    assert {name for name in found if name.startswith("t/")} == {
        "t/text.tar",
        "t/zeros.tar",
        "t/x.gz",
        "t/e.tar",
        "t/cut.tar.gz",
    }


def test_when_an_archive_stays_one(stage: Stage) -> None:
    make_tar(stage.context / "t.tar", MEMBERS)
    for step in ("COPY t.tar /t/", "ADD --unpack=false t.tar /t/"):
        assert set(stage.copy(step)) == {"t", "t/t.tar"}
    make_tree(stage.context, "folder/")
    os.rename(stage.context / "t.tar", stage.context / "folder/t.tar")
    assert "d/t.tar" in stage.copy("ADD folder /d")


def test_an_owner_is_for_all_members(stage: Stage) -> None:
    make_tar(stage.context / "t.tar", MEMBERS)
    found = stage.copy("ADD --chown=8:9 t.tar /t/")
    assert {entry[2:4] for name, entry in found.items() if name != "t/implied"} == {(8, 9)}
    assert found["t/implied"] == ("dir", 0o755, 0, 0, "")


def test_members_replace_and_merge(stage: Stage, tmp_path: Path) -> None:
    make_tree(
        stage.root,
        "a = old\nmerged/ 700 5:5\nmerged/kept = kept\nfolder/x\nfile = file\nway -> real\nreal/\nout -> /real",
    )
    members = [
        ("a", "file", "new", 0o600, 9),
        ("merged/", "dir", "", 0o705, 9),
        ("merged/more", "file", "more", 0o644, 9),
        ("folder", "file", "was a folder", 0o644, 9),
        ("file/", "dir", "", 0o755, 9),
        ("file/in", "file", "in", 0o644, 9),
        ("way/through", "file", "through", 0o644, 9),
        ("out/deep/er", "file", "deep", 0o644, 9),
    ]
    make_tar(stage.context / "t.tar", members)
    found = stage.copy("ADD t.tar /")
    assert found["a"] == ("file", 0o600, 9, 9, "new")
    assert found["merged"] == ("dir", 0o705, 9, 9, "")
    assert found["merged/kept"][4] == "kept" and found["merged/more"][4] == "more"
    assert found["folder"][4] == "was a folder" and "folder/x" not in found
    assert found["file"][0] == "dir" and found["file/in"][4] == "in"
    assert found["way"][0] == "link" and found["real/through"][4] == "through"
    assert found["real/deep"] == ("dir", 0o755, 0, 0, "") and found["real/deep/er"][4] == "deep"


def test_links_in_the_destination_are_followed_within_the_stage(stage: Stage) -> None:
    make_tree(stage.root, "var/run -> /run\nrun/kept = kept")
    make_tar(stage.context / "t.tar", [("run/f", "file", "f", 0o644, 0)])
    found = stage.copy("ADD t.tar /var")
    assert found["run/f"][4] == "f"
    assert found["var/run"][0] == "link"


def test_the_same_comes_out_in_place_and_beside(stage: Stage, tmp_path: Path) -> None:
    """An empty directory is unpacked into directly; one that holds something is not."""
    members = [*MEMBERS, ("./", "dir", "", 0o700, 9), ("other/h", "hard", "implied/q", 0o644, 5)]
    make_tar(stage.context / "t.tar", members)
    direct = stage.copy("ADD t.tar /direct")
    make_tree(stage.root, "beside/there = there")
    found = stage.copy("ADD t.tar /beside")
    assert direct["direct"] == found["beside"] == ("dir", 0o755, 0, 0, "")
    names = [name.partition("/")[2] for name in direct if "/" in name]
    assert {name: direct[f"direct/{name}"] for name in names} == {name: found[f"beside/{name}"] for name in names}
    for top in ("direct", "beside"):
        assert (stage.root / top / "implied/q").stat().st_ino == (stage.root / top / "other/h").stat().st_ino
    with_epoch = stage.copy("ADD t.tar /late", epoch=OLD - 5)
    assert {(stage.root / name).lstat().st_mtime for name in with_epoch if name.startswith("late/")} == {OLD - 5}


HOSTILE = {
    "climbs": [("../evil", "file", "x", 0o644, 0)],
    "climbs by a link": [("l", "link", "../..", 0o777, 0), ("l/evil", "file", "x", 0o644, 0)],
    "absolute link": [("l", "link", "/tmp", 0o777, 0), ("l/evil", "file", "x", 0o644, 0)],
    "hard link out": [("h", "hard", "/etc/passwd", 0o644, 0)],
    "deletes": [(".wh.etc", "file", "", 0o644, 0)],
    "hides what is below": [(".wh..wh..opq", "file", "", 0o644, 0)],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused(stage: Stage, kind: str) -> None:
    make_tar(stage.context / "t.tar", HOSTILE[kind])
    with pytest.raises(StackError, match=r"t\.tar cannot be unpacked") as raised:
        stage.copy("ADD t.tar /d/")
    assert raised.value.diagnostics[0].location is not None


def test_an_archive_follows_links_of_the_stage_only_inside(stage: Stage, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    make_tree(stage.root, f"data -> {outside}\nup -> ../../../../..{outside}")
    make_tar(stage.context / "t.tar", [("data/evil", "file", "x", 0o644, 0), ("up/evil2", "file", "x", 0o644, 0)])
    stage.copy("ADD t.tar /")
    assert not list(outside.iterdir())
    assert (stage.root / str(outside).lstrip("/") / "evil").read_text() == "x"


# -- the web ---------------------------------------------------------------------------------------------------------


def test_a_file_from_the_web(stage: Stage, web: Web) -> None:
    web.files["/f/app%20.bin"] = web.files["/f/app .bin"] = b"data"
    web.files["/plain"] = b"no times"
    web.bare.add("/plain")
    found = stage.copy(
        f"ADD {web.address}/f/app%20.bin /d/",
        f"ADD {web.address}/plain /named",
        f"ADD --chmod=755 --chown=3:4 {web.address}/plain?x=1 /d/",
    )
    assert found["d/app .bin"] == ("file", 0o600, 0, 0, "data")
    assert found["named"] == ("file", 0o600, 0, 0, "no times")
    assert found["d/plain"] == ("file", 0o755, 3, 4, "no times")
    assert (stage.root / "d/app .bin").stat().st_mtime == OLD
    assert (stage.root / "named").stat().st_mtime == 0


def test_a_download_is_asked_for_again_but_not_fetched_again(stage: Stage, web: Web, tmp_path: Path) -> None:
    web.files["/f"] = b"one"
    step = f"ADD {web.address}/f /f"
    first = stage.plan(step).digest
    again = Stage(tmp_path)
    assert again.plan(step).digest == first
    assert [condition != "" for _, condition in web.seen] == [False, True]
    web.files["/f"] = b"two"
    changed = Stage(tmp_path)
    assert changed.plan(step).digest != first
    assert changed.copy(step)["f"][4] == "two"
    assert len(web.seen) == 3  # within one build it is one thing


def test_a_checksum_holds_and_saves_the_way(stage: Stage, web: Web, tmp_path: Path) -> None:
    web.files["/f"] = b"data"
    step = f"ADD --checksum={digest_of(b'data')} {web.address}/f /f"
    assert stage.copy(step)["f"][4] == "data"
    assert Stage(tmp_path).copy(step)["f"][4] == "data"
    assert len(web.seen) == 1
    with pytest.raises(StackError, match="digest mismatch") as raised:
        stage.copy(f"ADD --checksum={digest_of(b'other')} {web.address}/f /g")
    assert digest_of(b"data") in raised.value.render() and "Dockerfile:3:1" in raised.value.render()
    with pytest.raises(StackError, match="invalid --checksum"):
        stage.copy(f"ADD --checksum=md5:aa {web.address}/f /g")


def test_archives_from_the_web_are_unpacked_on_demand(stage: Stage, web: Web) -> None:
    web.files["/t.tar.gz"] = gzip.compress(make_tar(stage.work / "t.tar", MEMBERS).read_bytes())
    assert set(stage.copy(f"ADD {web.address}/t.tar.gz /as/")) == {"as", "as/t.tar.gz"}
    found = stage.copy(f"ADD --unpack=true {web.address}/t.tar.gz /t/")
    assert {name: found[name] for name in UNPACKED} == UNPACKED


WEB_FAULTS = [
    ("/missing", "answers 404 Not Found", "check the address"),
    ("/secret", "answers 403 Forbidden", "login"),
    ("/short", "broke off after|cannot be fetched", ""),
    ("/", "has no file name", "a file name"),
]


@pytest.mark.parametrize(("path", "message", "hint"), WEB_FAULTS)
def test_faults_of_the_web(stage: Stage, web: Web, path: str, message: str, hint: str) -> None:
    web.files["/short"] = web.files["/"] = b"data"
    web.short.add("/short")
    web.statuses["/secret"] = 403
    with pytest.raises(StackError, match=message) as raised:
        stage.copy(f"ADD {web.address}{path} /d/")
    assert "Dockerfile:3:1" in raised.value.render()
    assert hint in raised.value.diagnostics[0].hint


def test_a_dead_server_is_named(stage: Stage) -> None:
    with pytest.raises(StackError, match=r"127\.0\.0\.1:1 cannot be reached: connection refused") as raised:
        stage.copy("ADD http://127.0.0.1:1/f /f")
    assert "registry" not in raised.value.render()


# -- repositories ----------------------------------------------------------------------------------------------------


@pytest.fixture
def repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the repositories in `tmp_path`; only the user's own settings of git know where it leads."""
    rules = f'[url "file://{tmp_path}/"]\n\tinsteadOf = {HOST}/\n[protocol "file"]\n\tallow = always\n'
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(rules)
    monkeypatch.setenv("HOME", str(home))
    return HOST


def test_a_repository_of_this_machine_is_out_of_reach(stage: Stage, tmp_path: Path) -> None:
    make_repository(tmp_path / "repo.git")
    for address in (f"file://{tmp_path}/repo.git", f"FILE://{tmp_path}/repo.git#main", "file:///etc/passwd"):
        with pytest.raises(StackError, match="is outside of the build context") as raised:
            stage.copy(f"ADD {address} /r")
        assert raised.value.code == "copy-outside-context"


def test_a_repository(stage: Stage, tmp_path: Path, repositories: str) -> None:
    commits = make_repository(tmp_path / "repo.git")
    address = f"{repositories}/repo.git"
    found = stage.copy(f"ADD {address} /main", f"ADD {address}#v1:sub /v1", f"ADD --chown=5:6 {address}#side /side")
    assert found["main/sub/tool"] == ("file", 0o755, 0, 0, "tool 2")
    assert found["main/way"][4] == "sub/tool"
    assert "main/.git" not in found
    assert {name for name in found if name.startswith("v1/")} == {"v1/tool"}
    assert found["v1/tool"][4] == "tool 1"
    assert found["side/only-here"] == ("file", 0o644, 5, 6, "side")
    assert stage.plan(f"ADD {address}#{commits['first']} /x").digest == stage.plan(f"ADD {address}#v1 /x").digest
    assert stage.copy(f"ADD --exclude=sub {address} /less").keys().isdisjoint({"less/sub"})


def test_a_repository_with_its_history(stage: Stage, tmp_path: Path, repositories: str) -> None:
    commits = make_repository(tmp_path / "repo.git")
    stage.copy(f"ADD --keep-git-dir=true {repositories}/repo.git#v1 /r")
    assert git(stage.root / "r", "rev-parse", "HEAD") == commits["first"]
    assert git(stage.root / "r", "status", "--porcelain") == ""
    assert git(stage.root / "r", "config", "remote.origin.url") == f"{repositories}/repo.git"


def test_a_commit_is_checked(stage: Stage, tmp_path: Path, repositories: str) -> None:
    commits = make_repository(tmp_path / "repo.git")
    address = f"{repositories}/repo.git"
    assert stage.copy(f"ADD --checksum={commits['main'][:12]} {address}#main /ok")["ok/sub/tool"][4] == "tool 2"
    with pytest.raises(StackError, match=f"is at commit {commits['main']}"):
        stage.copy(f"ADD --checksum={commits['side']} {address}#main /bad")


def test_submodules_come_along(stage: Stage, tmp_path: Path, repositories: str) -> None:
    make_repository(tmp_path / "inner.git")
    make_repository(tmp_path / "repo.git")
    git(tmp_path / "repo.git", "submodule", "add", "-q", f"file://{tmp_path}/inner.git", "vendor")
    git(tmp_path / "repo.git", "commit", "-q", "-m", "with a submodule")
    found = stage.copy(f"ADD {repositories}/repo.git /with", f"ADD {repositories}/repo.git?submodules=false /without")
    assert found["with/vendor/sub/tool"][4] == "tool 2"
    assert not [name for name in found if name.endswith(".git")]
    assert "without/vendor/sub" not in found


def test_a_repository_behind_a_simple_web_server(stage: Stage, web: Web, tmp_path: Path) -> None:
    """Such a server can neither give single commits nor cut the history."""
    make_repository(tmp_path / "repo")
    git(tmp_path, "clone", "-q", "--bare", f"file://{tmp_path}/repo", "served.git")
    git(tmp_path / "served.git", "update-server-info")
    web.folder = tmp_path
    assert stage.copy(f"ADD {web.address}/served.git#side /s")["s/only-here"][4] == "side"


GIT_FAULTS = [
    ("#none", "has no branch, tag or commit 'none'", "whole commit"),
    ("#main:nowhere", "has no folder 'nowhere'", ""),
    ("#main:../..", "leads out of the repository", ""),
    ("?branch=a&tag=b", "a branch and a tag at once", ""),
    ("?depth=1", "unknown query 'depth'", "known are"),
    (".missing", "cannot be fetched: git ls-remote failed", ""),
]


@pytest.mark.parametrize(("end", "message", "hint"), GIT_FAULTS)
def test_faults_of_repositories(
    stage: Stage, tmp_path: Path, repositories: str, end: str, message: str, hint: str
) -> None:
    make_repository(tmp_path / "repo.git")
    with pytest.raises(StackError, match=message) as raised:
        stage.copy(f"ADD {repositories}/repo.git{end} /r")
    assert "Dockerfile:3:1" in raised.value.render()
    assert hint in raised.value.diagnostics[0].hint


def test_without_git_it_says_what_is_missing(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match="the program git is not installed"):
        stage.copy("ADD git://example.invalid/repo.git /r")
