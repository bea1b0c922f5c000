"""Lifecycle hooks: what runs in a container after its start and before its stop."""

from __future__ import annotations

from .conftest import Project

WEB = """
services:
  web:
    image: busybox
    init: true
    command: [sleep, '1000']
    environment: {WHO: web}
    volumes: [./out:/out]
    post_start:
      - command: [sh, -c, 'echo "$$WHO $$EXTRA $$(id -u) $$PWD" >> /out/started']
        user: "1"
        working_dir: /tmp
        environment: {EXTRA: more}
    pre_stop:
      - command: sh -c 'echo one >> /out/stopping'
      - command: [sh, -c, "echo two >> /out/stopping"]
  after:
    image: busybox
    command: [cat, /out/started]
    volumes: [./out:/out]
    depends_on: [web]
"""


def test_hooks_run_after_the_start_and_before_the_stop(project: Project) -> None:
    project.write(WEB)
    out = project.folder / "out"
    out.mkdir()
    out.chmod(0o777)
    project.succeed("up", "-d")
    assert (out / "started").read_text() == "web more 1 /tmp\n"
    project.wait_until("a dependent starts after the hooks", lambda: "web more" in project.succeed("logs", "after"))
    project.succeed("restart", "-t", "0", "web")
    assert (out / "stopping").read_text() == "one\ntwo\n"
    assert len((out / "started").read_text().splitlines()) == 2
    project.succeed("down", "-t", "0")
    assert (out / "stopping").read_text() == "one\ntwo\n" * 2


def test_a_hook_that_fails(project: Project) -> None:
    text = """
services:
  web:
    image: busybox
    init: true
    command: [sleep, '1000']
    WHEN:
      - command: [sh, -c, "echo dear me; exit 17"]
  next: {image: busybox, command: [sleep, '1000'], init: true, depends_on: [web]}
"""
    project.write(text.replace("WHEN", "post_start"))
    ran = project.run("up", "-d")
    assert ran.code == 1
    assert "web hook exited with status 17" in ran.err
    assert "post_start[0]" in ran.err
    states = {name: row["State"] for name, row in project.containers().items()}
    assert states == {"web-1": "exited", "next-1": "created"}
    project.write(text.replace("WHEN", "pre_stop"))
    project.succeed("up", "-d")
    # What is only to stop goes on, because the hook said no; what is to go goes, and the failure is told.
    ran = project.run("stop", "-t", "0")
    assert ran.code == 1
    assert "`stack kill web` ends its containers without these commands" in ran.err
    states = {name: row["State"] for name, row in project.containers().items()}
    assert states == {"web-1": "running", "next-1": "exited"}
    ran = project.run("down", "-t", "0")
    assert ran.code == 1
    assert "web hook exited with status 17" in ran.err
    assert project.containers() == {}
    project.succeed("down")
    assert project.succeed("ls", "-a", "-q").split() == []


INIT = """
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, "cat /data/list /private/mark; sleep 1000"]
    environment: {WHO: web}
    volumes: [data:/data, /private]
    scale: SCALE
    pre_start:
      - command: [sh, -c, 'echo "$$WHO $$MORE" >> /data/list; echo here > /private/mark']
        environment: {MORE: first}
      - command: [sh, -c, 'echo second VERSION >> /data/list; exit CODE']
        image: busybox
  next: {image: busybox, init: true, command: [sleep, "1000"], depends_on: [web]}
volumes: {data: {}}
"""


def render_init(version: int = 1, scale: int = 1, code: int = 0) -> str:
    return INIT.replace("VERSION", str(version)).replace("SCALE", str(scale)).replace("CODE", str(code))


def test_pre_start_containers_run_once_before_the_first_start(project: Project) -> None:
    project.write(render_init())

    def listed() -> list[str]:
        return project.succeed("exec", "-T", "web", "cat", "/data/list").splitlines()

    project.succeed("up", "-d")
    assert listed() == ["web first", "second 1"]
    assert project.succeed("exec", "-T", "web", "cat", "/private/mark") == "here\n"
    assert sorted(project.containers()) == ["next-1", "web-1"]
    # Neither an unchanged `up`, nor a restart, nor a further replica runs them again; a change of theirs does.
    project.succeed("up", "-d")
    project.succeed("restart", "-t", "0", "web")
    project.write(render_init(scale=2))
    project.succeed("up", "-d")
    assert listed() == ["web first", "second 1"]
    project.write(render_init(version=2))
    project.succeed("up", "-d")
    assert listed()[2:] == ["web first", "second 2"]


def test_a_pre_start_container_that_fails(project: Project) -> None:
    project.write(render_init(code=17))
    ran = project.run("up", "-d")
    assert ran.code == 1
    assert "pre_start[1] exited with code 17" in ran.err
    states = {name: row["State"] for name, row in project.containers().items()}
    assert (states["web-1"], states["next-1"]) == ("created", "created")
    project.write(render_init(code=0))
    project.succeed("up", "-d")
    assert sorted(project.containers()) == ["next-1", "web-1"]
