"""``watch``: what changes here is there at once; services are restarted, told, built again where rules say so."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .conftest import Project
from .terminals import Typist

STACK = """
services:
  web:
    image: busybox
    init: true
    command: [sleep, "1000"]
    scale: 2
    working_dir: /app
    develop:
      watch:
        - {path: src, action: sync, target: /app/src, ignore: [node_modules/, "*.log", "!keep.log"], initial_sync: true}
        - {path: etc, action: sync+restart, target: /etc/web}
        - {path: only, action: sync, target: /only, include: "**/*.py"}
        - path: told
          action: sync+exec
          target: /told
          exec: {command: [sh, -c, "echo $$GREETING >>/heard; cat /told/* >>/heard"], environment: {GREETING: hello}}
  other: {image: busybox, init: true, command: [sleep, "1000"], develop: {watch: [{path: other, action: restart}]}}
"""


class Watch:
    """A running ``watch`` and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def says(self, text: str) -> bool:
        """Whether a line holds `text`."""
        return any(text in line for line in self.lines)

    def end(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        self._reader.join(60)
        return code


@contextmanager
def watching(project: Project, *words: str) -> Iterator[Watch]:
    """Run ``watch`` until the end of the block."""
    process = project.popen(*(words or ("watch",)), stderr=subprocess.STDOUT)
    watch = Watch(process)
    try:
        project.wait_until("watch is on", lambda: watch.says("Watch enabled") or process.poll() is not None, seconds=60)
        assert process.poll() is None, watch.lines
        yield watch
    finally:
        if process.poll() is None:
            watch.end()
        assert process.stdout is not None
        process.stdout.close()


def root(project: Project, container: str) -> Path:
    """A container's root directory."""
    return Path(f"/proc/{project.pid(container)}/root")


def place(project: Project, text: str, name: str) -> None:
    """Write a file that appears at once, as a whole: one change, however slow the machine is."""
    project.write(text, "fresh")
    (project.folder / "fresh").rename(project.folder / name)


def make_folders(project: Project, *names: str) -> None:
    for name in names:
        (project.folder / name).mkdir()


def test_files_follow(project: Project) -> None:
    project.write(STACK)
    make_folders(project, "src", "etc", "only", "told", "other")
    project.write("there before\n", "src/before")
    project.write("no\n", "src/Dockerfile")
    with watching(project) as watch:
        roots = [root(project, name) for name in ("web-1", "web-2")]
        # What is to be there from the beginning is there before anything has changed.
        assert [(one / "app/src/before").read_text() for one in roots] == ["there before\n"] * 2
        assert not (roots[0] / "app/src/Dockerfile").exists()
        # A file, a change of it, a folder with something in it, links, modes.
        project.write("one\n", "src/file")
        script = project.folder / "src/script"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o750)
        os.symlink("file", project.folder / "src/link")
        project.write("deep\n", "src/a/b/c/deep")
        project.wait_until("deep", lambda: all((one / "app/src/a/b/c/deep").exists() for one in roots))
        project.write("two\n", "src/file")
        project.wait_until("two", lambda: all((one / "app/src/file").read_text() == "two\n" for one in roots))
        project.wait_until("mode", lambda: (roots[0] / "app/src/script").stat().st_mode & 0o777 == 0o750)
        project.wait_until("a link", lambda: os.readlink(roots[1] / "app/src/link") == "file")
        # A folder that is moved, one that is removed, one that comes back.
        (project.folder / "src/a").rename(project.folder / "src/moved")
        project.wait_until("moved", lambda: (roots[0] / "app/src/moved/b/c/deep").exists())
        project.wait_until("gone", lambda: not (roots[0] / "app/src/a").exists())
        shutil.rmtree(project.folder / "src/moved")
        project.wait_until("removed", lambda: not any((one / "app/src/moved").exists() for one in roots))
        project.write("again\n", "src/moved/again")
        project.wait_until("again", lambda: all((one / "app/src/moved/again").exists() for one in roots))
        # A file in the place of a folder, and the reverse.
        shutil.rmtree(project.folder / "src/moved")
        project.write("file\n", "src/moved")
        project.wait_until("a file", lambda: (roots[0] / "app/src/moved").is_file())
        (project.folder / "src/moved").unlink()
        project.write("x\n", "src/moved/x")
        project.wait_until("a folder", lambda: (roots[0] / "app/src/moved/x").is_file())
        # What is ignored, what editors keep for themselves, and what is not included.
        for name in ("src/node_modules/m", "src/a.log", "src/.file.swp", "src/file~", "src/4913", "src/.git/HEAD"):
            project.write("no\n", name)
        project.write("no\n", "only/text.txt")
        project.write("yes\n", "only/deep/module.py")
        project.write("yes\n", "src/keep.log")
        project.wait_until("an exception", lambda: (roots[0] / "app/src/keep.log").exists())
        project.wait_until("included", lambda: (roots[0] / "only/deep/module.py").exists())
        project.write("last\n", "src/last")
        project.wait_until("last", lambda: (roots[0] / "app/src/last").exists())
        there = set(os.listdir(roots[0] / "app/src"))
        assert there == {"before", "file", "script", "link", "moved", "keep.log", "last"}
        assert not (roots[0] / "only/text.txt").exists()
        # The whole tree goes and comes back, as when a branch is changed: the target itself stays.
        (project.folder / "src").rename(project.folder / "away")
        project.wait_until("all gone", lambda: os.listdir(roots[0] / "app/src") == [])
        (project.folder / "away").rename(project.folder / "src")
        project.wait_until("all back", lambda: (roots[1] / "app/src/last").exists())
        assert watch.says('Syncing service "web" after ')
        assert watch.end() == 0
        assert watch.lines[-1] == "Watch disabled"
    assert len(project.containers()) == 3, "the services go on"


def test_restarts_and_commands(project: Project) -> None:
    project.write(STACK)
    make_folders(project, "src", "etc", "only", "told", "other")
    project.succeed("up", "-d", "--scale", "web=1")
    with watching(project, "--verbose", "watch", "--no-up") as watch:
        assert watch.says('Watch configuration for service "other":')
        before = {name: project.pid(name) for name in ("web-1", "other-1")}
        project.write("on\n", "etc/settings")
        project.wait_until("web restarted", lambda: watch.says('service(s) ["web"] restarted'))
        assert (root(project, "web-1") / "etc/web/settings").read_text() == "on\n"
        assert project.pid("web-1") != before["web-1"]
        assert project.pid("other-1") == before["other-1"]
        project.write("x\n", "other/file")
        project.wait_until("other restarted", lambda: watch.says('service(s) ["other"] restarted'))
        assert project.pid("other-1") != before["other-1"]
        web = root(project, "web-1")
        place(project, "news\n", "told/file")
        project.wait_until("told", lambda: (web / "heard").exists() and "news" in (web / "heard").read_text())
        assert (web / "heard").read_text() == "hello\nnews\n", "told once"
        assert watch.end() == 0
    assert len(project.containers()) == 2


BUILT = """
services:
  app:
    build: app
    init: true
    command: [sh, -c, "cat /content; exec sleep 1000"]
    develop:
      watch:
        - {path: app/content, action: rebuild}
        - {path: app/live, action: sync, target: /live}
  db: {image: busybox, init: true, command: [sleep, "1000"]}
"""


def list_unnamed(project: Project) -> set[str]:
    return set(project.succeed("image", "ls", "-q", "--no-trunc", "--filter", "dangling=true").split())


def test_images_are_built_again(project: Project) -> None:
    others = list_unnamed(project)
    project.write(BUILT)
    project.write("FROM busybox\nCOPY content /content\n", "app/Dockerfile")
    project.write("hidden\n", "app/.dockerignore")
    project.write("first\n", "app/content")
    make_folders(project, "app/live")
    with watching(project, "up", "--watch") as watch:
        before = {name: row["ID"] for name, row in project.containers("--no-trunc").items()}
        place(project, "second\n", "app/content")
        project.wait_until("built", lambda: watch.says('service(s) ["app"] successfully built'), seconds=60)
        after = {name: row["ID"] for name, row in project.containers("--no-trunc").items()}
        assert after["app-1"] != before["app-1"]
        assert after["db-1"] == before["db-1"]
        project.wait_until("its output is shown", lambda: watch.says("second"))
        project.write("live\n", "app/live/file")
        app = root(project, "app-1")
        project.wait_until("live", lambda: (app / "live/file").exists())
        assert list_unnamed(project) <= others, "what was replaced is gone"
        # A build that fails leaves alone what runs.
        project.write("FROM busybox\nRUN false\n", "app/Dockerfile")
        place(project, "third\n", "app/content")
        project.wait_until("it failed", lambda: watch.says("Failed to rebuild"), seconds=60)
        assert project.containers("--no-trunc")["app-1"]["ID"] == after["app-1"]
        assert watch.end() == 130
    assert {row["State"] for row in project.containers().values()} == {"exited"}


def test_the_end_calls_off_a_build(project: Project) -> None:
    project.write(BUILT)
    project.write("FROM busybox\nCOPY content /content\n", "app/Dockerfile")
    project.write("first\n", "app/content")
    make_folders(project, "app/live")
    with watching(project) as watch:
        before = project.pid("app-1")
        project.write("FROM busybox\nCOPY content /content\nRUN echo now building; sleep 1000\n", "app/Dockerfile")
        place(project, "second\n", "app/content")
        project.wait_until("it is being built", lambda: watch.says("RUN echo now building"), seconds=60)
        assert watch.end() == 0
        assert watch.lines[-1] == "Watch disabled"
    assert project.pid("app-1") == before


def test_a_key_begins_and_ends_a_watch(project: Project) -> None:
    project.write(STACK)
    make_folders(project, "src", "etc", "only", "told", "other")
    with Typist(project, "up", "--menu", "-t", "0") as typist:
        typist.read_until(b"w Watch")
        typist.type(b"w")
        typist.read_until(b"Watch enabled")
        web = root(project, "web-1")
        project.write("x\n", "src/file")
        project.wait_until("it is there", lambda: (web / "app/src/file").exists())
        typist.type(b"w")
        typist.read_until(b"Watch disabled")
        project.write("y\n", "src/file")
        typist.type(b"w")
        typist.read_until(b"Watch enabled")
        # What has changed meanwhile is there by its initial sync.
        project.wait_until("initial sync", lambda: (web / "app/src/file").read_text() == "y\n")
        typist.type(b"d")
        assert typist.wait() == 0


def test_a_dry_run_says_what_would_be_watched(project: Project) -> None:
    project.write(STACK)
    ran = project.run("watch", "--dry-run", "web")
    out = ran.out
    assert f"watch {project.folder}/src for web: sync /app/src\n" in out
    assert f"watch {project.folder}/told for web: sync+exec /told\n" in out
    assert "for other" not in out
    assert f" DRY-RUN MODE -  Container {project.name}-web-1 Created\n" in ran.err
    assert project.containers() == {}


def test_nothing_to_watch_and_impossible_rules(project: Project) -> None:
    project.write("services: {web: {image: busybox}}")
    ran = project.run("watch")
    assert (ran.code, "none of the selected services is configured for watch" in ran.err) == (16, True), ran.err
    assert project.run("up", "--watch").code == 16
    project.write("services:\n  web:\n    image: busybox\n    develop: {watch: [{path: ., action: rebuild}]}\n")
    ran = project.run("watch")
    assert ran.code != 0
    assert "compose.yaml:4" in ran.err
    assert "without a build context" in ran.err
    assert project.containers() == {}
