"""``cp``, ``export`` and ``commit``: files out of containers and into them, and nothing beyond."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile

from .conftest import Project

STACK = """
services:
  web:
    image: busybox
    init: true
    command: [sleep, "1000"]
    environment: {COLOUR: red}
    volumes: ["data:/data", "/anonymous"]
  two: {image: busybox, init: true, command: [sleep, "1000"], scale: 2}
volumes: {data: {}}
"""


def test_files_go_both_ways(project: Project) -> None:
    project.write(STACK)
    project.succeed("up", "-d")
    project.write("one\n", "given/file")
    project.write("deep\n", "given/below/file")
    os.link(project.folder / "given/file", project.folder / "given/same")
    os.symlink("file", project.folder / "given/link")
    os.chown(project.folder / "given/file", 1234, 1235)
    # A directory is copied under its name into one that exists, its content where none exists.
    project.succeed("cp", "given", "web:/data")
    project.succeed("cp", "given", "web:/made")
    project.succeed("cp", "given/.", "web:/data")
    out = project.succeed("exec", "-T", "web", "sh", "-c", "find /data /made -type f | sort; stat -c %u:%g:%h /made/f*")
    assert out.split() == [
        "/data/below/file", "/data/file", "/data/given/below/file", "/data/given/file", "/data/given/same",
        "/data/same", "/made/below/file", "/made/file", "/made/same", "1234:1235:2",
    ]  # fmt: skip
    # Owners come back only where that is asked for; links are links unless they are to be followed.
    project.succeed("cp", "web:/made", "plain")
    project.succeed("cp", "-a", "web:/made", "kept")
    found = [os.stat(project.folder / name / "file") for name in ("plain", "kept")]
    assert [one.st_uid for one in found] == [os.geteuid(), 1234]
    project.succeed("cp", "web:/made/link", "as-link")
    project.succeed("cp", "-L", "web:/made/link", "as-file")
    assert os.readlink(project.folder / "as-link") == "file"
    assert (project.folder / "as-file").read_text() == "one\n"
    # Archives, through standard output and input.
    done = project.popen("cp", "web:/made", "-", text=False, stdin=subprocess.DEVNULL)
    archive, _err = done.communicate(timeout=60)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert {"made", "made/file", "made/link", "made/below/file"} <= set(tar.getnames())
    fed = project.popen("cp", "-", "web:/data/below", text=False, stdin=subprocess.PIPE)
    fed.communicate(archive, timeout=60)
    assert project.succeed("exec", "-T", "web", "cat", "/data/below/made/link") == "one\n"
    # Every replica gets it, or the one that is named.
    project.succeed("cp", "given/file", "two:/all")
    project.succeed("cp", "--index", "2", "given/file", "two:/second")
    assert project.succeed("exec", "-T", "--index", "1", "two", "sh", "-c", "ls /all /second; true") == "/all\n"
    assert project.succeed("exec", "-T", "--index", "2", "two", "ls", "/all", "/second") == "/all\n/second\n"
    for words in (("web:/nothing", "x"), ("nothing", "web:/x"), ("web:/made", "as-file"), ("given/file", "web:/no/")):
        ran = project.run("cp", *words)
        assert ran.code == 1, words
        assert "error[" in ran.err


def test_a_stopped_container_has_its_volumes(project: Project) -> None:
    project.write(STACK)
    project.write("late\n", "file")
    project.succeed("up", "-d", "web")
    project.succeed("stop", "-t", "0", "web")
    for place in ("/data/file", "/anonymous/file", "/etc/file"):
        project.succeed("cp", "file", f"web:{place}")
    project.succeed("cp", "web:/data", "back")
    assert (project.folder / "back/file").read_text() == "late\n"
    project.succeed("start", "web")
    assert project.succeed("exec", "-T", "web", "cat", "/data/file", "/anonymous/file", "/etc/file") == "late\n" * 3


def test_hostile_links_lead_nowhere(project: Project) -> None:
    project.write(STACK)
    project.write("mine\n", "file")
    outside = project.folder / "outside"
    outside.mkdir()
    project.succeed("up", "-d", "web")
    script = f"ln -s {outside} /abs; ln -s ../../../../../../../..{outside} /rel; mkdir -p /d{outside}; ln -s / /d/root"
    project.succeed("exec", "-T", "web", "sh", "-c", script)
    # Into the container: a link to a place that only this machine has leads to nothing, or to the container's own.
    for target in ("abs", "rel"):
        assert project.run("cp", "file", f"web:/{target}/got").code == 1
    project.succeed("cp", "file", f"web:/d/root/d{outside}/got")
    assert project.succeed("exec", "-T", "web", "cat", f"/d{outside}/got") == "mine\n"
    # Out of it: what a link in the copy names on this machine is not written through.
    project.succeed("cp", "web:/d", "copy")
    assert os.readlink(project.folder / "copy/root") == "/"
    (project.folder / "trap").mkdir()
    os.symlink(outside, project.folder / "trap/d")
    project.succeed("cp", "web:/d", "trap")
    assert not os.path.islink(project.folder / "trap/d")
    assert list(outside.iterdir()) == []
    # An archive that names files above its own place is refused.
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as tar:
        member = tarfile.TarInfo("../../evil")
        tar.addfile(member, io.BytesIO())
    fed = project.popen("cp", "-", "web:/data", text=False, stdin=subprocess.PIPE)
    _out, err = fed.communicate(evil.getvalue(), timeout=60)
    assert fed.returncode == 1
    assert b"leads out of it" in err


def test_export_and_commit(project: Project) -> None:
    project.write(STACK)
    project.succeed("up", "-d", "web")
    project.succeed("exec", "-T", "web", "sh", "-c", "echo new > /new; rm /bin/wget; echo apart > /data/apart")
    project.succeed("export", "-o", "root.tar", "web")
    with tarfile.open(project.folder / "root.tar") as tar:
        names = set(tar.getnames())
    assert {"new", "data", "bin/sh"} <= names
    assert not names & {"bin/wget", "data/apart"}
    project.succeed("commit", "-a", "me", "-m", "why", "-c", "ENV SIZE=7", "web", "made:1")
    project.succeed("stop", "-t", "0", "web")
    project.succeed("commit", "--pause=false", "web", "made:2")
    try:
        project.write("services: {a: {image: 'made:1'}, b: {image: 'made:2'}}", "other.yaml")
        words = ("-f", "other.yaml", "run", "--rm", "-T")
        script = "cat /new; echo $COLOUR $SIZE; ls /bin/wget /data/apart 2>/dev/null; true"
        assert project.succeed(*words, "a", "sh", "-c", script) == "new\nred 7\n"
        assert project.succeed(*words, "b", "sh", "-c", script) == "new\nred\n"
    finally:
        project.run("image", "rm", "made:1", "made:2")
