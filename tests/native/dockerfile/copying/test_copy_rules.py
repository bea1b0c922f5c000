"""Where things go, under which name, with which mode and owner: the rules of the reference, one row each."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from orchestrator.errors import StackError

from .places import OLD, Stage, make_tree, read_tree

CONTEXT = """
a.txt = a
b.txt = b
run.sh 755 = run
suid 4755 = s
dir/ 700
dir/x 755 = x
dir/sub/ 2751
dir/sub/y 600 7:8 = y
dir/inner -> x
deep/1/b/c.txt = c1
deep/2/b/c.txt = c2
other/sub/z = z
arr[0].txt = arr

link -> a.txt
dlink -> dir
abs -> /dir/sub
up -> ../../../../a.txt
empty/
"""

FILE = ("file", 0o644, 0, 0, "a")
FOLDER = ("dir", 0o755, 0, 0, "")
DIR_IN = {
    "x": ("file", 0o755, 0, 0, "x"),
    "sub": ("dir", 0o2751, 0, 0, ""),
    "sub/y": ("file", 0o600, 0, 0, "y"),
    "inner": ("link", 0o777, 0, 0, "x"),
}


def below(prefix: str, tree: dict[str, object]) -> dict[str, object]:
    """The entries of `tree` moved into a folder that is made for them."""
    return {prefix: FOLDER, **{f"{prefix}/{name}": entry for name, entry in tree.items()}}


CASES: list[tuple[str, dict[str, object]]] = [
    ("COPY a.txt /", {"a.txt": FILE}),
    ("COPY a.txt /new", {"new": FILE}),
    ("COPY a.txt /new/", below("new", {"a.txt": FILE})),
    ("COPY a.txt /p/q/new", {"p": FOLDER, "p/q": FOLDER, "p/q/new": FILE}),
    ("COPY /a.txt /new", {"new": FILE}),
    ("COPY ./dir/../a.txt /new", {"new": FILE}),
    ("COPY ../a.txt /new", {"new": FILE}),
    ("COPY a.txt b.txt /d/", below("d", {"a.txt": FILE, "b.txt": ("file", 0o644, 0, 0, "b")})),
    ("COPY 'with blank' /d/", below("d", {"with blank": ("file", 0o644, 0, 0, "blank")})),
    ("COPY dir /d", below("d", DIR_IN)),
    ("COPY dir/ /d/", below("d", DIR_IN)),
    ("COPY dir/. /d", below("d", DIR_IN)),
    ("COPY dir/sub /d", below("d", {"y": ("file", 0o600, 0, 0, "y")})),
    ("COPY empty /d/e", {"d": FOLDER, "d/e": FOLDER}),
    ("COPY link /l", {"l": FILE}),
    ("COPY link /l/", below("l", {"link": FILE})),
    ("COPY dlink /d", below("d", DIR_IN)),
    ("COPY abs /d", below("d", {"y": ("file", 0o600, 0, 0, "y")})),
    ("COPY up /u", {"u": FILE}),
    ("COPY dlink/sub/y /y", {"y": ("file", 0o600, 0, 0, "y")}),
    ("COPY dir/inner /i", {"i": ("file", 0o755, 0, 0, "x")}),
    ("COPY suid /s", {"s": ("file", 0o4755, 0, 0, "s")}),
    # wildcards
    ("COPY *.txt /d/", below("d", {"a.txt": FILE, "b.txt": ("file", 0o644, 0, 0, "b"), "arr[0].txt": ("file", 0o644, 0, 0, "arr")})),
    ("COPY ?.txt /d/", below("d", {"a.txt": FILE, "b.txt": ("file", 0o644, 0, 0, "b")})),
    ("COPY [^b].txt /d/", below("d", {"a.txt": FILE})),
    ("COPY [a-a].txt /d/", below("d", {"a.txt": FILE})),
    ("COPY arr[[]0].txt /arr", {"arr": ("file", 0o644, 0, 0, "arr")}),
    ("COPY deep/*/b/c.txt /d/", below("d", {"c.txt": ("file", 0o644, 0, 0, "c2")})),
    ("COPY deep/1/* /d/", below("d", {"c.txt": ("file", 0o644, 0, 0, "c1")})),
    ("COPY d?r/su*/y /d/", below("d", {"y": ("file", 0o600, 0, 0, "y")})),
    ("COPY di* /d", below("d", DIR_IN)),
    ("COPY nothing* /d/", {}),
    ("COPY dir/* /d/", below("d", {"x": DIR_IN["x"], "y": DIR_IN["sub/y"], "inner": ("file", 0o755, 0, 0, "x")})),
    # owners and modes
    ("COPY --chown=5:6 a.txt /p/q", {"p": ("dir", 0o755, 5, 6, ""), "p/q": ("file", 0o644, 5, 6, "a")}),
    ("COPY --chown=5 a.txt /q", {"q": ("file", 0o644, 5, 5, "a")}),
    ("COPY --chown=5:6 suid /s", {"s": ("file", 0o4755, 5, 6, "s")}),
    ("COPY --chown=5:6 dir/inner dir/sub /d/", {"d": ("dir", 0o755, 5, 6, ""), "d/inner": ("file", 0o755, 5, 6, "x"), "d/y": ("file", 0o600, 5, 6, "y")}),
    ("COPY --chmod=640 a.txt /q", {"q": ("file", 0o640, 0, 0, "a")}),
    ("COPY --chmod=0755 suid /q", {"q": ("file", 0o755, 0, 0, "s")}),
    ("COPY --chmod=4711 a.txt /q", {"q": ("file", 0o4711, 0, 0, "a")}),
    ("COPY --chmod=750 dir /d", below("d", {"x": ("file", 0o750, 0, 0, "x"), "sub": ("dir", 0o750, 0, 0, ""), "sub/y": ("file", 0o750, 0, 0, "y"), "inner": DIR_IN["inner"]})),
    ("COPY --chmod=u=rwX,go=rX dir /d", below("d", {"x": ("file", 0o755, 0, 0, "x"), "sub": ("dir", 0o2755, 0, 0, ""), "sub/y": ("file", 0o644, 0, 0, "y"), "inner": DIR_IN["inner"]})),
    ("COPY --chmod=a-w,u+x a.txt /q", {"q": ("file", 0o544, 0, 0, "a")}),
    ("COPY --chmod=g=u,o= run.sh /q", {"q": ("file", 0o770, 0, 0, "run")}),
    ("COPY --chmod=+x a.txt /q", {"q": ("file", 0o755, 0, 0, "a")}),
    # exclusions
    ("COPY --exclude=*.txt --exclude=d* . /d", below("d", {
        "run.sh": ("file", 0o755, 0, 0, "run"), "suid": ("file", 0o4755, 0, 0, "s"), "with blank": ("file", 0o644, 0, 0, "blank"),
        "other": FOLDER, "other/sub": FOLDER, "other/sub/z": ("file", 0o644, 0, 0, "z"), "link": ("link", 0o777, 0, 0, "a.txt"),
        "abs": ("link", 0o777, 0, 0, "/dir/sub"), "up": ("link", 0o777, 0, 0, "../../../../a.txt"), "empty": FOLDER})),
    ("COPY --exclude=sub dir /d", below("d", {"x": DIR_IN["x"], "inner": DIR_IN["inner"]})),
    ("COPY --exclude=**/y --exclude=inner dir /d", below("d", {"x": DIR_IN["x"], "sub": DIR_IN["sub"]})),
    ("COPY --exclude=* --exclude=!x dir /d", below("d", {"x": DIR_IN["x"]})),
    ("COPY --exclude=sub --exclude=!sub/y dir /d", below("d", DIR_IN)),
    ("COPY --exclude=b.* *.txt /d/", below("d", {"a.txt": FILE, "arr[0].txt": ("file", 0o644, 0, 0, "arr")})),
    # --parents
    ("COPY --parents deep/1/b/c.txt /d", below("d", {"deep": FOLDER, "deep/1": FOLDER, "deep/1/b": FOLDER, "deep/1/b/c.txt": ("file", 0o644, 0, 0, "c1")})),
    ("COPY --parents deep/./*/b/c.txt /d/", below("d", {"1": FOLDER, "1/b": FOLDER, "1/b/c.txt": ("file", 0o644, 0, 0, "c1"), "2": FOLDER, "2/b": FOLDER, "2/b/c.txt": ("file", 0o644, 0, 0, "c2")})),
    ("COPY --parents **/y **/z /d/", below("d", {"dir": ("dir", 0o700, 0, 0, ""), "dir/sub": DIR_IN["sub"], "dir/sub/y": DIR_IN["sub/y"], "other": FOLDER, "other/sub": FOLDER, "other/sub/z": ("file", 0o644, 0, 0, "z")})),
    ("COPY --parents --exclude=sub dir/ /d/", below("d", {"dir": ("dir", 0o700, 0, 0, ""), "dir/sub": DIR_IN["sub"], "dir/sub/y": DIR_IN["sub/y"], "dir/x": DIR_IN["x"], "dir/inner": DIR_IN["inner"]})),
    ("COPY --parents --exclude=dir/sub dir /d/", below("d", {"dir": ("dir", 0o700, 0, 0, ""), "dir/x": DIR_IN["x"], "dir/inner": DIR_IN["inner"]})),
    ("COPY --parents a.txt /d/", below("d", {"a.txt": FILE})),
]  # fmt: skip


@pytest.mark.parametrize(("step", "expected"), CASES, ids=[step for step, _ in CASES])
def test_a_copy_into_an_empty_stage(stage: Stage, step: str, expected: dict[str, object]) -> None:
    make_tree(stage.context, CONTEXT)
    (stage.context / "with blank").write_text("blank")
    assert stage.copy(step) == expected


STAGE = """
etc/passwd = root:x:0:0::/root:/bin/sh\tweb:x:33:44::/:/bin/sh
bin/ 711 3:4
bin/tool = old
lib -> usr/lib
usr/lib/ 2755 1:2
current -> releases/2
releases/2/
file = file
lost -> nowhere/deep
out -> /../../usr
loop -> loop
"""

OVER: list[tuple[str, dict[str, object]]] = [
    ("COPY a.txt /bin", {"bin/a.txt": FILE, "bin": ("dir", 0o711, 3, 4, "")}),
    ("COPY a.txt /bin/tool", {"bin/tool": FILE}),
    ("COPY dir /bin", {"bin/x": DIR_IN["x"], "bin": ("dir", 0o711, 3, 4, ""), "bin/tool": ("file", 0o644, 0, 0, "old")}),
    ("COPY dir /lib", {"usr/lib/x": DIR_IN["x"], "lib": ("link", 0o777, 0, 0, "usr/lib")}),
    ("COPY a.txt /lib/", {"usr/lib/a.txt": FILE}),
    ("COPY a.txt /current/new/", {"releases/2/new/a.txt": FILE}),
    ("COPY a.txt /lost", {"nowhere": FOLDER, "nowhere/deep": FILE, "lost": ("link", 0o777, 0, 0, "nowhere/deep")}),
    ("COPY a.txt /out/x", {"usr/x": FILE}),
    ("COPY a.txt /file", {"file": FILE}),
    ("COPY dir/sub /usr/lib", {"usr/lib": ("dir", 0o2755, 1, 2, "")}),
    ("COPY other /usr", {"usr/sub/z": ("file", 0o644, 0, 0, "z")}),
    ("COPY --chown=3:4 a.txt /bin/deep/er/", {"bin": ("dir", 0o711, 3, 4, ""), "bin/deep": ("dir", 0o755, 3, 4, "")}),
]  # fmt: skip


@pytest.mark.parametrize(("step", "expected"), OVER, ids=[step for step, _ in OVER])
def test_a_copy_over_what_is_there(stage: Stage, step: str, expected: dict[str, object]) -> None:
    make_tree(stage.context, CONTEXT)
    make_tree(stage.root, STAGE)
    found = stage.copy(step)
    assert {name: found.get(name) for name in expected} == expected


def test_a_nested_directory_takes_the_sources_mode(stage: Stage) -> None:
    make_tree(stage.context, CONTEXT)
    make_tree(stage.root, "d/sub/ 700 9:9\nd/sub/kept = kept")
    found = stage.copy("COPY dir /d")
    assert found["d/sub"] == ("dir", 0o2751, 0, 0, "")
    assert found["d/sub/kept"] == ("file", 0o644, 0, 0, "kept")


FAULTS = [
    ("COPY nothing /", "copy-source-missing", '"/nothing": not found in the build context', ""),
    ("COPY a.text /", "copy-source-missing", "not found", "did you mean a.txt"),
    ("COPY dri/x /", "copy-source-missing", "not found", "did you mean dir"),
    ("COPY dir/subb/y /", "copy-source-missing", "not found", "did you mean dir/sub"),
    ("COPY a.txt/b /", "copy-source-missing", "not found", ""),
    ("COPY ../../secret /", "copy-outside-context", "outside of the build context", "COPY reaches only what is in it"),
    ("COPY --parents dir/none /", "copy-source-missing", '"/dir/none": not found', ""),
    ("COPY ?.txt /one", "copy-needs-directory", "names several files", "/one/"),
    ("COPY --chmod=888 a.txt /", "copy-invalid-mode", "invalid mode '888'", "octal"),
    ("COPY --chmod=u+q a.txt /", "copy-invalid-mode", "invalid mode", ""),
    ("COPY --chown=nobody a.txt /", "copy-unknown-user", "the stage has no user 'nobody'", "number"),
    ("COPY --chown=0:staff a.txt /", "copy-unknown-user", "the stage has no group 'staff'", "number"),
    ("COPY a.txt /file/", "copy-conflict", "/file is not a directory", ""),
    ("COPY a.txt /file/deeper", "copy-conflict", "/file is not a directory", ""),
    ("COPY dir /file", "copy-conflict", "/file is not a directory", ""),
    ("COPY tree /", "copy-conflict", "cannot copy the directory to /file", ""),
    ("COPY tree2 /", "copy-conflict", "cannot replace the directory /bin with a file", ""),
    ("COPY tree3 /", "copy-conflict", "a symbolic link is in its place", "the directory that the link leads to"),
    ("COPY a.txt /loop/x", "copy-failed", "Too many levels of symbolic links", ""),
    ("COPY --exclude=[a . /d", "copy-failed", "malformed pattern '[a'", ""),
]


@pytest.mark.parametrize(("step", "code", "message", "hint"), FAULTS, ids=[one[0] for one in FAULTS])
def test_a_fault_has_its_place_and_a_way_out(stage: Stage, step: str, code: str, message: str, hint: str) -> None:
    make_tree(stage.context, CONTEXT + "tree/file/x\ntree2/bin\ntree3/lib/x\n")
    make_tree(stage.root, STAGE)
    with pytest.raises(StackError) as raised:
        stage.copy(step)
    [diagnostic] = raised.value.diagnostics
    assert str(diagnostic.location) == "Dockerfile:3:1"
    assert (raised.value.code, diagnostic.code) == (code, code)
    assert message in diagnostic.message
    assert hint in diagnostic.hint


def test_a_broken_link_says_where_it_leads(stage: Stage) -> None:
    make_tree(stage.context, "broken -> nowhere")
    with pytest.raises(StackError, match=r"\"/broken\": not found") as raised:
        stage.copy("COPY broken /")
    assert "symbolic link to nowhere" in raised.value.render()


def test_names_of_owners_come_from_the_stage(stage: Stage) -> None:
    make_tree(stage.context, "a = a")
    make_tree(stage.root, "etc/passwd = web:x:33:44::/:/bin/sh\netc/group = staff:x:50:")
    for chown, owner in (("web", (33, 44)), ("web:staff", (33, 50)), ("7:staff", (7, 50)), ("web:9", (33, 9))):
        assert stage.copy(f"COPY --chown={chown} a /f")["f"][2:4] == owner


def test_a_link_layer_takes_names_from_the_stage_and_paths_from_nowhere(stage: Stage, tmp_path: Path) -> None:
    make_tree(stage.context, "a = a")
    make_tree(stage.root, "etc/passwd = web:x:33:44::/:/bin/sh\nlib -> usr/lib\nusr/lib/")
    layer = tmp_path / "layer"
    layer.mkdir()
    plan = stage.plan("COPY --link --chown=web a /lib/")
    assert plan.needs_users
    from orchestrator.engines.native.dockerfile.copying import perform_copy

    perform_copy(plan, layer, link=True, users=stage.root)
    assert read_tree(layer) == {"lib": ("dir", 0o755, 33, 44, ""), "lib/a": ("file", 0o644, 33, 44, "a")}


def test_owners_are_kept_from_stages_and_images(stage: Stage) -> None:
    stage.own = True
    make_tree(stage.context, "f 640 5:6 = f\nd/ 750 7:8\nd/g 600 9:9 = g\nl -> f")
    os.chown(stage.context / "l", 3, 3, follow_symlinks=False)
    found = stage.copy("COPY . /c")
    assert found["c/f"] == ("file", 0o640, 5, 6, "f")
    assert found["c/d"] == ("dir", 0o750, 7, 8, "")
    assert found["c/l"][2:4] == (3, 3)


def test_heredocs_become_files(stage: Stage) -> None:
    make_tree(stage.context, "a = a")
    found = stage.copy("COPY --chmod=700 --chown=3:4 a /d/", inline={"one": "1\n", "two": "ü"})
    assert found["d/one"] == ("file", 0o700, 3, 4, "1\n")
    assert found["d/two"][4] == "ü".encode().decode("latin-1")
    assert found["d/a"] == ("file", 0o700, 3, 4, "a")


def test_times_links_holes_and_attributes_are_kept(stage: Stage) -> None:
    make_tree(stage.context, "d/first = same\nd/other = b")
    os.link(stage.context / "d/first", stage.context / "d/second")
    with (stage.context / "d/sparse").open("wb") as file:
        file.write(b"head")
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"middle")
    os.setxattr(stage.context / "d/first", "user.note", b"kept")
    os.setxattr(stage.context / "d/first", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    os.setxattr(stage.context / "d", "user.folder", b"too")
    os.mkfifo(stage.context / "d/pipe", 0o620)
    (stage.context / "d/pipe").chmod(0o620)
    os.utime(stage.context / "d", (OLD, OLD))
    stage.copy("COPY --chown=5:5 . /c")
    copied = stage.root / "c/d"
    assert (copied / "first").stat().st_ino == (copied / "second").stat().st_ino
    assert (copied / "other").stat().st_mtime == copied.stat().st_mtime == OLD
    assert os.getxattr(copied / "first", "user.note") == b"kept"
    assert os.getxattr(copied / "first", "security.capability")
    assert os.getxattr(copied, "user.folder") == b"too"
    assert stat.S_ISFIFO((copied / "pipe").lstat().st_mode) and stat.S_IMODE((copied / "pipe").lstat().st_mode) == 0o620
    assert (copied / "sparse").read_bytes() == (stage.context / "d/sparse").read_bytes()
    assert (copied / "sparse").stat().st_blocks * 512 < 1 << 20


def test_an_epoch_is_the_time_of_everything(stage: Stage) -> None:
    make_tree(stage.context, "d/x = x\nd/l -> x\nd/e/")
    make_tree(stage.root, "there/")
    stage.copy("COPY d /p/q", "COPY d /there", epoch=1234)
    stage.copy("COPY d /p/q", inline={"in": "line"}, epoch=1234)
    times = {name: (stage.root / name).lstat().st_mtime for name in read_tree(stage.root) if name not in ("there", "p/q")}
    assert set(times.values()) == {1234}
    assert (stage.root / "there").stat().st_mtime == OLD


def test_sockets_are_left_out(stage: Stage) -> None:
    import socket

    make_tree(stage.context, "d/x = x")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(stage.context / "d/sock"))
        assert set(stage.copy("COPY d /d")) == {"d", "d/x"}


IGNORE = "*.txt\n!keep.txt\nnode\n!node/keep/this\nhidden\n"


def test_what_is_ignored_does_not_exist(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ignore=IGNORE)
    make_tree(stage.context, "a.txt\nkeep.txt\nnode/drop/x\nnode/keep/this\nnode/keep/that\nhidden/x\nway -> hidden\nsub/a.txt")
    assert set(stage.copy("COPY . /")) == {"keep.txt", "node", "node/keep", "node/keep/this", "way", "sub", "sub/a.txt"}
    for path in ("a.txt", "hidden", "hidden/x", "node/drop/x"):
        with pytest.raises(StackError, match=r"\.dockerignore excludes it") as raised:
            stage.copy(f"COPY {path} /")
        assert raised.value.code == "copy-source-ignored"
    with pytest.raises(StackError, match="not found"):
        stage.copy("COPY way /")
    assert stage.plan("COPY *.txt /d/").digest == stage.plan("COPY keep.txt /d/").digest
