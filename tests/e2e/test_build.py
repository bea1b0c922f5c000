"""Stacks that build their images: brought up, changed, interrupted, failing, described, taken down."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import STACK, Project

SLEEP = f"sleep {10**6 + os.getpid()}"
"""A command that no other run of these tests has begun."""

SHOP = """
services:
  web:
    build:
      context: web
      args: {GREETING: hello}
      additional_contexts: {base: "service:base"}
      secrets: [token]
      labels: {made.by: test}
    command: [sh, -c, "cat /page /base; exec sleep 1000"]
    init: true
  db: {image: busybox, init: true, command: [sleep, "1000"]}
  base: {build: base, scale: 0}
secrets:
  token: {environment: BUILD_TOKEN}
"""

WEB = """
FROM base
ARG GREETING
COPY page /page
RUN --mount=type=secret,id=token test "$(cat /run/secrets/token)" = s3cret && echo $GREETING >>/page
"""


def write_shop(project: Project) -> None:
    """A service that is built from another one's image, and one that is not built."""
    project.machine.environment["BUILD_TOKEN"] = "s3cret"
    project.write(SHOP)
    project.write("FROM busybox\nRUN echo base >/base\n", "base/Dockerfile")
    project.write(WEB, "web/Dockerfile")
    project.write("first\n", "web/page")


DORMANT = """
services:
  base:
    profiles: [dormant]
    build:
      dockerfile_inline: |
        FROM busybox
        RUN --mount=type=secret,id=word cp /run/secrets/word /base
      secrets: [word]
  web:
    profiles: [active]
    build:
      additional_contexts: {base: "service:base"}
      dockerfile_inline: |
        FROM base
        CMD ["cat", "/base"]
secrets: {word: {file: word}}
"""


def test_a_service_that_a_profile_keeps_off_can_be_built_from(project: Project) -> None:
    project.write(DORMANT)
    project.write("hello\n", "word")
    web, base = f"{project.name}-web", f"{project.name}-base"
    assert "FROM base" in project.succeed("--profile", "active", "build", "--print")
    ran = project.run("--profile", "active", "up")
    assert ran.code == 0, ran.err
    assert "web-1  | hello" in ran.out
    assert project.succeed("--profile", "active", "config", "--services").split() == ["web"]
    assert set(project.containers()) == {"web-1"}
    project.succeed("down", "-t", "0")
    project.succeed("image", "rm", web, base)
    ran = project.run("--profile", "active", "build")
    assert [line.split()[1] for line in ran.err.splitlines() if line.endswith("Built")] == [base, web]
    project.succeed("image", "rm", web, base)
    project.write(DORMANT.replace("[word]", "[none]"))
    assert "services.base.build.secrets[0]" in project.run("--profile", "active", "up").err
    assert project.run("config", "-q").code == 0


def identify(project: Project) -> dict[str, str]:
    """The id of every container, by its name."""
    return {name: row["ID"] for name, row in project.containers("--no-trunc").items()}


def test_up_builds_and_recreates_only_what_changed(project: Project) -> None:
    write_shop(project)
    planned = project.succeed("plan").split()
    assert planned.index(f"{project.name}-base") < planned.index(f"{project.name}-web"), "in the order of the builds"
    project.succeed("up", "-d")
    project.wait_until("web speaks", lambda: "base" in project.succeed("logs", "web"))
    assert project.succeed("logs", "--no-log-prefix", "web").split() == ["first", "hello", "base"]
    before = identify(project)
    assert before.keys() == {"web-1", "db-1"}
    # Nothing has changed: a build that finds everything in its cache changes no container either.
    project.succeed("up", "-d")
    ran = project.run("--progress", "plain", "up", "-d", "--build")
    assert ran.code == 0, ran.err
    assert "CACHED" in ran.out
    assert "COPY page /page\n" in ran.out
    assert identify(project) == before
    # A file has changed: the service that it belongs to is made anew, and nothing else.
    project.write("second\n", "web/page")
    project.succeed("up", "-d")
    assert identify(project) == before
    ran = project.run("up", "-d", "--build")
    assert ran.code == 0, ran.err
    print(ran.err, project.succeed("ps", "-a", "--no-trunc", "--format", "json"), before)
    after = identify(project)
    assert after["db-1"] == before["db-1"]
    assert after["web-1"] != before["web-1"]
    project.wait_until("web speaks again", lambda: "base" in project.succeed("logs", "web"))
    assert project.succeed("logs", "--no-log-prefix", "web").split() == ["second", "hello", "base"]
    # What was built without a name of its own goes with the project; what was fetched stays.
    project.succeed("down", "-t", "0", "--rmi", "local")
    left = project.succeed("image", "ls", "--format", "{{.Repository}}").split()
    assert f"{project.name}-web" not in left
    assert "busybox" in left


def test_a_failed_build_shows_the_line_the_output_and_the_exit_code(project: Project) -> None:
    project.write("services:\n  bad: {build: .}\n  good: {image: busybox, init: true, command: [sleep, '100']}\n")
    project.write("FROM busybox\nRUN echo the last words; exit 3\nRUN true\n", "Dockerfile")
    for words in (("up", "-d"), ("build",)):
        ran = project.run("--progress", "quiet", *words)
        assert ran.code == 1
        assert "Dockerfile:2:1: error[build-step-failed]: RUN echo the last words; exit 3: exit code 3" in ran.err
        assert ">    2 | RUN echo the last words; exit 3" in ran.err
        assert "    | the last words" in ran.err
    assert project.containers()["good-1"]["State"] == "running", "a failure holds back only what needs it"


def test_ctrl_c_ends_a_build(project: Project) -> None:
    project.write("services:\n  slow: {build: .}\n")
    project.write(f"FROM busybox\nRUN echo begun; {SLEEP}\n", "Dockerfile")
    for words in (("up", "-d"), ("up",), ("build",)):
        process = project.popen("--progress", "plain", *words, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        seen = ""
        while not seen.endswith(" begun\n"):
            line = process.stdout.readline()
            assert line, f"{words} ended before the build began:\n{seen}"
            seen += line
        os.kill(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 130, (words, rest)
        project.wait_until("the command of the build is gone", lambda: not _sleepers())
        assert project.containers() == {}
    assert project.run("image", "inspect", f"{project.name}-slow").code == 1


def _sleepers() -> str:
    return subprocess.run(["pgrep", "-fx", SLEEP], capture_output=True, text=True).stdout


def test_images_are_built_described_exported_and_pruned_by_hand(project: Project) -> None:
    project.write('FROM busybox AS one\nRUN echo 1 >/one\nFROM one\nLABEL a=b\nCMD ["cat", "/one"]\n', "Dockerfile")
    ids = [
        project.succeed("image", "build", "-q", "-t", "hand:1", ".").strip(),
        project.succeed("image", "build", "-q", "-t", "hand:2", "--iidfile", "iid", "--label", "c=d", ".").strip(),
    ]
    assert (project.folder / "iid").read_text() == ids[1]
    assert project.succeed("image", "inspect", "hand:1", "--format", "{{.Id}} {{.Config.Cmd}}") == (
        f"{ids[0]} [cat /one]\n"
    )
    shown = json.loads(project.succeed("image", "inspect", "hand:2"))[0]
    assert (shown["Os"], shown["Config"]["Labels"]) == ("linux", {"a": "b", "c": "d"})
    assert len(shown["RootFS"]["Layers"]) == 2
    history = project.succeed("image", "history", "hand:2", "--no-trunc")
    assert "LABEL a=b" in history
    assert "echo 1 >/one" in history
    listed = project.succeed("image", "ls", "--filter", "label=c", "--format", "{{.Repository}}:{{.Tag}}")
    assert listed.split() == ["hand:2"]
    project.succeed("image", "export", "hand:1", "-o", "root.tar")
    with tarfile.open(project.folder / "root.tar") as archive:
        content = archive.extractfile("one")
        assert content is not None
        assert content.read() == b"1\n"
    # A Dockerfile from standard input has no context; a tar is one.
    text = project.succeed("image", "build", "-q", "--target", "one", "-", stdin="FROM busybox AS one\nRUN true\n")
    assert text.startswith("sha256:")
    archive_bytes = io.BytesIO()
    with tarfile.open(fileobj=archive_bytes, mode="w") as archive:
        for name, data in (("Dockerfile", b"FROM busybox\nCOPY x /x\n"), ("x", b"data")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    done = subprocess.run(
        [*STACK, "image", "build", "-q", "-"],
        cwd=project.folder,
        env=project.machine.environment,
        input=archive_bytes.getvalue(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"sha256:")
    gone = project.succeed("image", "prune", "--filter", "label!=c")
    assert text.strip() in gone
    assert "build steps forgotten" in project.succeed("image", "prune", "--build-cache")
    project.succeed("image", "rm", "hand:1", "hand:2")


def test_what_was_pushed_is_fetched_instead_of_built(project: Project, registry: str) -> None:
    image = f"{registry}/shop/web:1"
    project.write(f"services:\n  web: {{image: '{image}', build: {{context: ., tags: ['{registry}/shop/web:also']}},\n"
                  "    init: true, command: [sh, -c, 'cat /page; exec sleep 1000']}\n")  # fmt: skip
    project.write("FROM busybox\nCOPY page /page\n", "Dockerfile")
    project.write("pushed\n", "page")
    project.succeed("build", "-q", "--push")
    project.succeed("image", "rm", image, f"{registry}/shop/web:also")
    # Another machine would have another page; the registry's counts all the same.
    project.write("mine\n", "page")
    project.succeed("up", "-d")
    project.wait_until("web speaks", lambda: project.succeed("logs", "web") != "")
    assert project.succeed("logs", "--no-log-prefix", "web") == "pushed\n"
    first = identify(project)
    project.succeed("up", "-d", "--pull", "always")
    assert identify(project) == first, "it was fetched again, and is the same"
    # A build that was asked for wins, and what is pushed then is what the next fetch brings.
    project.succeed("up", "-d", "--build")
    project.wait_until("web speaks again", lambda: project.succeed("logs", "web") != "")
    assert project.succeed("logs", "--no-log-prefix", "web") == "mine\n"
    assert identify(project) != first
    pulled = project.succeed("image", "inspect", image, "--format", "{{.Id}}")
    project.succeed("--progress", "quiet", "pull", "web")
    assert project.succeed("image", "inspect", image, "--format", "{{.Id}}") != pulled
    project.succeed("up", "-d")
    project.wait_until("web is the registry's again", lambda: "pushed" in project.succeed("logs", "web"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The host of a registry on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = tmp_path / "registry.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/data}}}}\n"
        f'http: {{addr: "127.0.0.1:{port}"}}\n'
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(settings)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)
