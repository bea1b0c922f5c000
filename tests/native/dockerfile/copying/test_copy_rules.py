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

Entry = tuple[str, int, int, int, str]
Tree = dict[str, Entry]


def a_file(content: str, mode: int = 0o644, uid: int = 0, gid: int = 0) -> Entry:
    return ("file", mode, uid, gid, content)


def a_folder(mode: int, uid: int = 0, gid: int = 0) -> Entry:
    return ("dir", mode, uid, gid, "")


def a_link(target: str) -> Entry:
    return ("link", 0o777, 0, 0, target)


FILE = a_file("a")
FOLDER = a_folder(0o755)
DIR_IN = {
    "x": a_file("x", 0o755),
    "sub": a_folder(0o2751),
    "sub/y": a_file("y", 0o600),
    "inner": a_link("x"),
}


def below(prefix: str, tree: Tree) -> Tree:
    """The entries of `tree` moved into a folder that is made for them."""
    return {prefix: FOLDER, **{f"{prefix}/{name}": entry for name, entry in tree.items()}}


CASES: list[tuple[str, Tree]] = [
    ("COPY a.txt /", {"a.txt": FILE}),
    ("COPY a.txt /new", {"new": FILE}),
    ("COPY a.txt /new/", below("new", {"a.txt": FILE})),
    ("COPY a.txt /p/q/new", {"p": FOLDER, "p/q": FOLDER, "p/q/new": FILE}),
    ("COPY /a.txt /new", {"new": FILE}),
    ("COPY ./dir/../a.txt /new", {"new": FILE}),
    ("COPY ../a.txt /new", {"new": FILE}),
    ("COPY a.txt b.txt /d/", below("d", {"a.txt": FILE, "b.txt": a_file("b")})),
    ("COPY 'with blank' /d/", below("d", {"with blank": a_file("blank")})),
    ("COPY dir /d", below("d", DIR_IN)),
    ("COPY dir/ /d/", below("d", DIR_IN)),
    ("COPY dir/. /d", below("d", DIR_IN)),
    ("COPY dir/sub /d", below("d", {"y": a_file("y", 0o600)})),
    ("COPY empty /d/e", {"d": FOLDER, "d/e": FOLDER}),
    ("COPY link /l", {"l": FILE}),
    ("COPY link /l/", below("l", {"link": FILE})),
    ("COPY dlink /d", below("d", DIR_IN)),
    ("COPY abs /d", below("d", {"y": a_file("y", 0o600)})),
    ("COPY up /u", {"u": FILE}),
    ("COPY dlink/sub/y /y", {"y": a_file("y", 0o600)}),
    ("COPY dir/inner /i", {"i": a_file("x", 0o755)}),
    ("COPY suid /s", {"s": a_file("s", 0o4755)}),
    # wildcards
    ("COPY *.txt /d/", below("d", {"a.txt": FILE, "b.txt": a_file("b"), "arr[0].txt": a_file("arr")})),
    ("COPY ?.txt /d/", below("d", {"a.txt": FILE, "b.txt": a_file("b")})),
    ("COPY [^b].txt /d/", below("d", {"a.txt": FILE})),
    ("COPY [a-a].txt /d/", below("d", {"a.txt": FILE})),
    ("COPY arr[[]0].txt /arr", {"arr": a_file("arr")}),
    ("COPY deep/*/b/c.txt /d/", below("d", {"c.txt": a_file("c2")})),
    ("COPY deep/1/* /d/", below("d", {"c.txt": a_file("c1")})),
    ("COPY d?r/su*/y /d/", below("d", {"y": a_file("y", 0o600)})),
    ("COPY di* /d", below("d", DIR_IN)),
    ("COPY nothing* /d/", {}),
    ("COPY dir/* /d/", below("d", {"x": DIR_IN["x"], "y": DIR_IN["sub/y"], "inner": a_file("x", 0o755)})),
    # owners and modes
    ("COPY --chown=5:6 a.txt /p/q", {"p": a_folder(0o755, 5, 6), "p/q": a_file("a", 0o644, 5, 6)}),
    ("COPY --chown=5 a.txt /q", {"q": a_file("a", 0o644, 5, 5)}),
    ("COPY --chown=5:6 suid /s", {"s": a_file("s", 0o4755, 5, 6)}),
    (
        "COPY --chown=5:6 dir/inner dir/sub /d/",
        {"d": a_folder(0o755, 5, 6), "d/inner": a_file("x", 0o755, 5, 6), "d/y": a_file("y", 0o600, 5, 6)},
    ),
    ("COPY --chmod=640 a.txt /q", {"q": a_file("a", 0o640)}),
    ("COPY --chmod=0755 suid /q", {"q": a_file("s", 0o755)}),
    ("COPY --chmod=4711 a.txt /q", {"q": a_file("a", 0o4711)}),
    (
        "COPY --chmod=750 dir /d",
        {
            "d": a_folder(0o750),
            "d/x": a_file("x", 0o750),
            "d/sub": a_folder(0o750),
            "d/sub/y": a_file("y", 0o750),
            "d/inner": DIR_IN["inner"],
        },
    ),
    ("COPY --exclude=/sub --exclude=x dir/x /d/", below("d", {"x": DIR_IN["x"]})),
    ("COPY --chown=7: a.txt /q", {"q": a_file("a", 0o644, 7, 0)}),
    ("COPY --chmod=777 a.txt /p/", {"p": a_folder(0o777), "p/a.txt": a_file("a", 0o777)}),
    ("COPY --chmod=600 a.txt /p/", {"p": a_folder(0o600), "p/a.txt": a_file("a", 0o600)}),
    (
        "COPY --chmod=u=rwX,go=rX dir /d",
        below("d", {"x": a_file("x", 0o755), "sub": a_folder(0o755), "sub/y": a_file("y"), "inner": DIR_IN["inner"]}),
    ),
    ("COPY --chmod=a-w,u+x a.txt /q", {"q": a_file("a", 0o544)}),
    ("COPY --chmod=g=u,o= run.sh /q", {"q": a_file("run", 0o770)}),
    ("COPY --chmod=+x a.txt /q", {"q": a_file("a", 0o755)}),
    # exclusions
    (
        "COPY --exclude=*.txt --exclude=d* . /d",
        below(
            "d",
            {
                "run.sh": a_file("run", 0o755),
                "suid": a_file("s", 0o4755),
                "with blank": a_file("blank"),
                "other": FOLDER,
                "other/sub": FOLDER,
                "other/sub/z": a_file("z"),
                "link": a_link("a.txt"),
                "abs": a_link("/dir/sub"),
                "up": a_link("../../../../a.txt"),
                "empty": FOLDER,
            },
        ),
    ),
    ("COPY --exclude=sub dir /d", below("d", {"x": DIR_IN["x"], "inner": DIR_IN["inner"]})),
    ("COPY --exclude=**/y --exclude=inner dir /d", below("d", {"x": DIR_IN["x"], "sub": DIR_IN["sub"]})),
    ("COPY --exclude=* --exclude=!x dir /d", below("d", {"x": DIR_IN["x"]})),
    ("COPY --exclude=sub --exclude=!sub/y dir /d", below("d", DIR_IN)),
    ("COPY --exclude=b.* *.txt /d/", below("d", {"a.txt": FILE, "arr[0].txt": a_file("arr")})),
    # --parents
    (
        "COPY --parents deep/1/b/c.txt /d",
        below("d", {"deep": FOLDER, "deep/1": FOLDER, "deep/1/b": FOLDER, "deep/1/b/c.txt": a_file("c1")}),
    ),
    (
        "COPY --parents deep/./*/b/c.txt /d/",
        below(
            "d",
            {
                "1": FOLDER,
                "1/b": FOLDER,
                "1/b/c.txt": a_file("c1"),
                "2": FOLDER,
                "2/b": FOLDER,
                "2/b/c.txt": a_file("c2"),
            },
        ),
    ),
    (
        "COPY --parents **/y **/z /d/",
        below(
            "d",
            {
                "dir": a_folder(0o700),
                "dir/sub": DIR_IN["sub"],
                "dir/sub/y": DIR_IN["sub/y"],
                "other": FOLDER,
                "other/sub": FOLDER,
                "other/sub/z": a_file("z"),
            },
        ),
    ),
    (
        "COPY --parents --exclude=sub dir/ /d/",
        below(
            "d",
            {
                "dir": a_folder(0o700),
                "dir/sub": DIR_IN["sub"],
                "dir/sub/y": DIR_IN["sub/y"],
                "dir/x": DIR_IN["x"],
                "dir/inner": DIR_IN["inner"],
            },
        ),
    ),
    (
        "COPY --parents --exclude=dir/sub dir /d/",
        below("d", {"dir": a_folder(0o700), "dir/x": DIR_IN["x"], "dir/inner": DIR_IN["inner"]}),
    ),
    ("COPY --parents a.txt /d/", below("d", {"a.txt": FILE})),
    ("COPY --parents link /d/", below("d", {"link": a_link("a.txt")})),
    ("COPY --parents dlink/./sub/y /d/", below("d", {"sub": DIR_IN["sub"], "sub/y": DIR_IN["sub/y"]})),
]


@pytest.mark.parametrize(("step", "expected"), CASES, ids=[step for step, _ in CASES])
def test_a_copy_into_an_empty_stage(stage: Stage, step: str, expected: Tree) -> None:
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

OVER: list[tuple[str, Tree]] = [
    ("COPY a.txt /bin", {"bin/a.txt": FILE, "bin": a_folder(0o711, 3, 4)}),
    ("COPY a.txt /bin/tool", {"bin/tool": FILE}),
    ("COPY dir /bin", {"bin/x": DIR_IN["x"], "bin": a_folder(0o711, 3, 4), "bin/tool": a_file("old")}),
    ("COPY dir /lib", {"usr/lib/x": DIR_IN["x"], "lib": a_link("usr/lib")}),
    ("COPY a.txt /lib/", {"usr/lib/a.txt": FILE}),
    ("COPY a.txt /current/new/", {"releases/2/new/a.txt": FILE}),
    ("COPY a.txt /lost", {"nowhere": FOLDER, "nowhere/deep": FILE, "lost": a_link("nowhere/deep")}),
    ("COPY a.txt /out/x", {"usr/x": FILE}),
    ("COPY a.txt /file", {"file": FILE}),
    ("COPY dir/sub /usr/lib", {"usr/lib": a_folder(0o2755, 1, 2)}),
    ("COPY other /usr", {"usr/sub/z": a_file("z")}),
    ("COPY --chown=3:4 a.txt /bin/deep/er/", {"bin": a_folder(0o711, 3, 4), "bin/deep": a_folder(0o755, 3, 4)}),
]


@pytest.mark.parametrize(("step", "expected"), OVER, ids=[step for step, _ in OVER])
def test_a_copy_over_what_is_there(stage: Stage, step: str, expected: Tree) -> None:
    make_tree(stage.context, CONTEXT)
    make_tree(stage.root, STAGE)
    found = stage.copy(step)
    assert {name: found.get(name) for name in expected} == expected


def test_a_nested_directory_takes_the_sources_mode(stage: Stage) -> None:
    make_tree(stage.context, CONTEXT)
    make_tree(stage.root, "d/sub/ 700 9:9\nd/sub/kept = kept")
    found = stage.copy("COPY dir /d")
    assert found["d/sub"] == a_folder(0o2751)
    assert found["d/sub/kept"] == a_file("kept")


FAULTS = [
    ("COPY nothing /", "copy-source-missing", '"/nothing": not found in the build context', ""),
    ("COPY a.text /", "copy-source-missing", "not found", "did you mean a.txt"),
    ("COPY dri/x /", "copy-source-missing", "not found", "did you mean dir"),
    ("COPY dir/subb/y /", "copy-source-missing", "not found", "did you mean dir/sub"),
    ("COPY a.txt/b /", "copy-source-missing", "not found", ""),
    ("COPY ../../secret /", "copy-outside-context", "outside of the build context", "COPY reaches only what is in it"),
    ("COPY --parents dir/none /", "copy-source-missing", '"/dir/none": not found', ""),
    ("COPY --parents dlink/x /", "copy-through-link", "through a symbolic link", ""),
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
    from orchestrator.engines.native.dockerfile.performing.copying import perform_copy

    perform_copy(plan, layer, link=True, users=stage.root)
    assert read_tree(layer) == {"lib": a_folder(0o755, 33, 44), "lib/a": a_file("a", 0o644, 33, 44)}


def test_owners_are_kept_from_stages_and_images(stage: Stage) -> None:
    stage.own = True
    make_tree(stage.context, "f 640 5:6 = f\nd/ 750 7:8\nd/g 600 9:9 = g\nl -> f")
    os.chown(stage.context / "l", 3, 3, follow_symlinks=False)
    found = stage.copy("COPY . /c")
    assert found["c/f"] == a_file("f", 0o640, 5, 6)
    assert found["c/d"] == a_folder(0o750, 7, 8)
    assert found["c/l"][2:4] == (3, 3)


def test_heredocs_become_files(stage: Stage) -> None:
    make_tree(stage.context, "a = a")
    found = stage.copy("COPY --chmod=700 --chown=3:4 a /d/", inline={"one": "1\n", "two": "ü"})
    assert found["d/one"] == a_file("1\n", 0o700, 3, 4)
    assert found["d/two"][4] == "ü".encode().decode("latin-1")
    assert found["d/a"] == a_file("a", 0o700, 3, 4)


def test_times_links_holes_and_attributes_are_kept(stage: Stage) -> None:
    make_tree(stage.context, "d/first = same\nd/other = b")
    os.link(stage.context / "d/first", stage.context / "d/second")
    with (stage.context / "d/sparse").open("wb") as file:
        file.write(b"head")
        file.truncate(8 << 20)
        file.seek(4 << 20)
        file.write(b"middle")
    os.setxattr(stage.context / "d/first", "user.note", b"kept")
    os.setxattr(
        stage.context / "d/first", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000")
    )
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


def test_no_time_is_later_than_an_epoch(stage: Stage) -> None:
    make_tree(stage.context, "d/x = x\nd/l -> x\nd/e/\nd/young = y")
    os.utime(stage.context / "d/young", (OLD + 9, OLD + 9))
    make_tree(stage.root, "there/")
    stage.copy("COPY d /p/q", "COPY d /there", epoch=OLD + 2)
    stage.copy("COPY d /p/q", inline={"in": "line"}, epoch=OLD + 2)
    times = {name: (stage.root / name).lstat().st_mtime - OLD for name in read_tree(stage.root) if name != "p/q"}
    late = {"p", "p/q/in", "p/q/young", "there/young"}
    assert {name: time for name, time in times.items() if time} == dict.fromkeys(late, 2)


def test_sockets_are_left_out(stage: Stage) -> None:
    import socket

    make_tree(stage.context, "d/x = x")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(stage.context / "d/sock"))
        assert set(stage.copy("COPY d /d")) == {"d", "d/x"}


IGNORE = "*.txt\n!keep.txt\nnode\n!node/keep/this\nhidden\n"


def test_what_is_ignored_does_not_exist(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ignore=IGNORE)
    make_tree(
        stage.context,
        "a.txt\nkeep.txt\nnode/drop/x\nnode/keep/this\nnode/keep/that\nhidden/x\nway -> hidden\nsub/a.txt",
    )
    assert set(stage.copy("COPY . /")) == {"keep.txt", "node", "node/keep", "node/keep/this", "way", "sub", "sub/a.txt"}
    for path in ("a.txt", "hidden", "hidden/x", "node/drop/x"):
        with pytest.raises(StackError, match=r"\.dockerignore excludes it") as raised:
            stage.copy(f"COPY {path} /")
        assert raised.value.code == "copy-source-ignored"
    with pytest.raises(StackError, match="not found"):
        stage.copy("COPY way /")
    assert stage.plan("COPY *.txt /d/").digest == stage.plan("COPY keep.txt /d/").digest
