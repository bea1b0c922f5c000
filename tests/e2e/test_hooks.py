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


LIKE_THE_SERVICE = """
services:
  web:
    image: busybox
    init: true
    command: [sleep, "1000"]
    env_file: [service.env]
    environment: {OWN: service}
    extra_hosts: ["one:192.0.2.1", "both:192.0.2.2"]
    volumes: ["data:/data:ro", "more:/more:ro"]
    pre_start:
      - command: [sh, -c, 'test "$$FILE $$OWN $$SHARED" = "service service service" && grep -q one /etc/hosts']
      - command:
          - sh
          - -ec
          - |
            test "$$FILE $$OWN $$SHARED $$HOOK $$PASSED" = "service service hook hook here"
            grep "192.0.2.2.*both" /etc/hosts
            grep "192.0.2.3.*both" /etc/hosts
            test -d /more
            cat /run/secrets/key
            echo seen > /data/seen
            ls -d /only
        env_file: [hook.env]
        environment: [HOOK=hook, PASSED]
        extra_hosts: ["both:192.0.2.3"]
        volumes: ["data:/data", "only:/only"]
        secrets: [key]
        networks: [apart]
      - command: [sh, -ec, 'test "$$(ls /sys/class/net)" = lo; hostname']
        image: busybox
        network_mode: none
        hostname: apart
networks: {apart: {}}
volumes: {data: {}, more: {}, only: {}}
secrets: {key: {file: hook.env}}
"""


def test_pre_start_containers_are_like_the_service_and_have_what_they_say_themselves(project: Project) -> None:
    project.write("FILE=service\nSHARED=service\n", "service.env")
    project.write("SHARED=hook\n", "hook.env")
    project.write("PASSED=here\n", ".env")
    project.write(LIKE_THE_SERVICE)
    command = project.popen("up")
    project.wait_until("it runs", lambda: project.containers().get("web-1", {}).get("State") == "running")
    assert project.succeed("exec", "-T", "web", "cat", "/data/seen") == "seen\n"
    assert project.run("exec", "-T", "web", "touch", "/data/other").code != 0
    assert "env_file" not in project.succeed("config")
    project.succeed("stop", "-t", "0")
    shown = [line.split() for line in command.communicate(timeout=60)[0].splitlines()]
    said = [line[4:] for line in shown if line[:2] == ["web", "pre_start[1]"]]
    assert said == [["192.0.2.2", "both"], ["192.0.2.3", "both"], ["SHARED=hook"], ["/only"]]
    assert ["web", "pre_start[2]", "->", "|", "apart"] in shown


def test_what_pre_start_containers_cannot_have(project: Project) -> None:
    project.write("""
services:
  web:
    image: busybox
    pre_start:
      - command: [date]
        per_replica: true
        storage_opt: {size: 1G}
      - {command: [date], volumes: ["nowhere:/x"], secrets: [none]}
""")
    ran = project.run("up", "-d")
    assert "services.web.pre_start[1].volumes[0]" in ran.err
    assert "services.web.pre_start[1].secrets[0]" in ran.err
    project.write("services: {web: {image: busybox, pre_start: [{command: [date], per_replica: true}]}}")
    assert "per_replica is not supported" in project.run("config").err
    ran = project.run("up", "-d")
    assert "compose.yaml:1:77: error[not-supported]: per_replica is not supported" in ran.err
    project.write("services: {web: {image: busybox, pre_start: [{command: [date], storage_opt: {size: 1G}}]}}")
    ran = project.run("up", "-d")
    assert "storage_opt is not supported" in ran.err
    assert "services.web.pre_start[0].storage_opt" in ran.err
