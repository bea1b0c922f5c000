"""The commands of every day on real containers."""

from __future__ import annotations

import json
import socket
import urllib.request

from .conftest import Project
from .pages import await_page

TWO = """
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, "echo serving; exec httpd -f -p 80 -h /srv"]
    depends_on: [db]
    ports: ["127.0.0.1::80"]
    volumes: ["./site:/srv:ro"]
  db:
    image: busybox
    init: true
    command: [sh, -c, "echo ready; echo trouble >&2; exec sleep 1000"]
"""


def test_up_ps_logs_exec_down(project: Project) -> None:
    project.write(TWO)
    project.write("hello\n", "site/index.html")
    # A stack comes up in the background; what was done is told line by line.
    ran = project.run("up", "-d")
    assert ran.code == 0, ran.err
    assert f" Container {project.name}-web-1 Started" in ran.err
    assert f" Network {project.name}_default Created" in ran.err
    assert ran.out == ""
    # ps tells the truth about both.
    shown = project.containers()
    assert {name: row["State"] for name, row in shown.items()} == {"web-1": "running", "db-1": "running"}
    # The port was picked by the engine; the page is there.
    address = project.succeed("port", "web", "80").strip()
    assert address.startswith("127.0.0.1:")
    with urllib.request.urlopen(f"http://{address}/", timeout=5) as page:
        assert page.read() == b"hello\n"
    # Output of both streams, each to its own, each line with its container's name.
    ran = project.run("logs", "db")
    assert (ran.out, ran.err) == ("db-1  | ready\n", "db-1  | trouble\n")
    assert project.succeed("logs", "-n", "0") == ""
    # A command runs inside, with its input, its directory, its variables and its exit code.
    assert project.succeed("exec", "-T", "web", "cat", "/srv/index.html") == "hello\n"
    assert project.succeed("exec", "-T", "web", "cat", stdin="typed\n") == "typed\n"
    assert project.succeed("exec", "-T", "-w", "/tmp", "-e", "A=1", "web", "sh", "-c", "echo $PWD $A") == "/tmp 1\n"
    assert project.run("exec", "-T", "web", "sh", "-c", "exit 7").code == 7
    assert project.run("exec", "-T", "web", "nothing-like-it").code == 127
    # A second up has nothing to do.
    before = project.containers("--no-trunc")
    project.succeed("up", "-d")
    assert {n: r["ID"] for n, r in project.containers("--no-trunc").items()} == {n: r["ID"] for n, r in before.items()}
    assert "nothing to do" in project.succeed("plan")
    # ls knows the project, also from elsewhere; its name alone is enough.
    assert project.name in [row["Name"] for row in json.loads(project.succeed("ls", "--format", "json"))]
    # Down takes everything away.
    project.succeed("down", "-t", "1")
    assert project.containers() == {}
    assert project.run("down").code == 0


def test_names_resolve(project: Project) -> None:
    project.write("""
services:
  one: {image: busybox, init: true, command: [sleep, "1000"]}
  two:
    image: busybox
    init: true
    command: [sleep, "1000"]
    networks: {default: {aliases: [deux]}}
  apart:
    image: busybox
    init: true
    command: [sleep, "1000"]
    networks: [other]
networks: {other: {}}
""")
    project.succeed("up", "-d")
    for name in ("two", "deux", f"{project.name}-two-1", "TWO"):
        project.succeed("exec", "-T", "one", "ping", "-c1", "-W2", name)
    # A service on another network is not found.
    assert project.run("exec", "-T", "one", "ping", "-c1", "-W2", "apart").code != 0


def test_stop_start_restart_leave_the_others_alone(project: Project) -> None:
    project.write(TWO)
    project.write("hello\n", "site/index.html")
    project.succeed("up", "-d", "--scale", "db=2")
    project.succeed("stop", "-t", "1", "web")
    shown = project.containers()
    assert {name: row["State"] for name, row in shown.items()} == {
        "web-1": "exited", "db-1": "running", "db-2": "running",
    }  # fmt: skip
    project.succeed("start", "web")
    assert project.containers()["web-1"]["State"] == "running"
    pid = project.pid("db-1")
    project.succeed("restart", "-t", "1", "db")
    assert project.pid("db-1") != pid
    assert len(project.containers()) == 3
    # rm takes only what does not run.
    project.succeed("stop", "-t", "1", "web")
    project.succeed("rm", "-f")
    assert sorted(project.containers()) == ["db-1", "db-2"]
    assert project.run("start", "web").code == 1


def test_what_has_done_its_work_is_done_again_only_by_name(project: Project) -> None:
    project.write("services: {once: {image: busybox, command: [echo, done]}}")
    project.succeed("up")
    project.succeed("start")
    assert project.succeed("logs") == "once-1  | done\n"
    project.succeed("start", "once")
    project.wait_until("it has run again", lambda: project.succeed("logs") == "once-1  | done\n" * 2)


def test_scale_up_and_down(project: Project) -> None:
    project.write("services: {w: {image: busybox, init: true, command: [sleep, '1000']}}")
    project.succeed("up", "-d", "--scale", "w=3")
    assert sorted(project.containers()) == ["w-1", "w-2", "w-3"]
    project.succeed("scale", "w=1")
    assert sorted(project.containers()) == ["w-1"]
    project.succeed("up", "-d", "--scale", "w=0")
    assert project.containers() == {}


def test_a_volume_outlives_down_but_not_down_v(project: Project) -> None:
    project.write("""
services:
  w: {image: busybox, init: true, command: [sleep, "1000"], volumes: ["data:/data"]}
volumes: {data: {}}
""")
    project.succeed("up", "-d")
    project.succeed("exec", "-T", "w", "sh", "-c", "echo kept > /data/note")
    project.succeed("down", "-t", "0")
    project.succeed("up", "-d")
    assert project.succeed("exec", "-T", "w", "cat", "/data/note") == "kept\n"
    project.succeed("down", "-t", "0", "-v")
    project.succeed("up", "-d")
    assert project.run("exec", "-T", "w", "cat", "/data/note").code == 1


def test_a_service_waits_until_another_is_healthy(project: Project) -> None:
    project.write("""
services:
  db:
    image: busybox
    init: true
    command: [sh, -c, "sleep 1; touch /ready; exec sleep 1000"]
    healthcheck: {test: [CMD, test, -f, /ready], interval: 200ms, retries: 50}
  job:
    image: busybox
    command: [sh, -c, "echo done"]
    depends_on: {db: {condition: service_healthy}}
  web:
    image: busybox
    init: true
    command: [sleep, "1000"]
    depends_on: {job: {condition: service_completed_successfully}}
""")
    ran = project.run("up", "-d", "--wait")
    assert ran.code == 0, ran.err
    shown = project.containers()
    assert shown["db-1"]["Health"] == "healthy"
    assert (shown["job-1"]["State"], shown["job-1"]["ExitCode"]) == ("exited", 0)
    assert shown["web-1"]["State"] == "running"


def test_two_projects_at_once(two_projects: tuple[Project, Project]) -> None:
    for one in two_projects:
        one.write("services: {w: {image: busybox, init: true, command: [sleep, '1000'], ports: ['127.0.0.1::80']}}")
    started = [one.popen("up", "-d") for one in two_projects]
    for process in started:
        _out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    ports = {one.succeed("port", "w", "80") for one in two_projects}
    assert len(ports) == 2
    # The same name in each finds its own.
    for one in two_projects:
        one.succeed("exec", "-T", "w", "ping", "-c1", "-W2", "w")


def test_a_fixed_port_is_reached_on_both_loopbacks(project: Project) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    project.write(f"""
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, "mkdir /srv; echo hi > /srv/index.html; exec httpd -f -p 80 -h /srv"]
    ports: ["{port}:80"]
""")
    project.succeed("up", "-d")
    for host in ("127.0.0.1", "[::1]"):
        assert await_page(f"http://{host}:{port}/") == "hi\n"


def test_the_name_alone_is_enough(project: Project) -> None:
    project.write("services: {w: {image: busybox, init: true, command: [sh, -c, 'echo hi; exec sleep 1000']}}")
    project.succeed("up", "-d", "--scale", "w=2")
    (project.folder / "compose.yaml").rename(project.folder / "kept")
    assert project.run("ps").code == 14
    name = ("-p", project.name)
    assert len(project.succeed(*name, "ps", "-q").split()) == 2
    assert project.succeed(*name, "logs", "--no-log-prefix", "--index", "2", "w") == "hi\n"
    assert project.succeed(*name, "exec", "-T", "--index", "2", "w", "echo", "there") == "there\n"
    project.succeed(*name, "stop", "-t", "0")
    assert project.succeed(*name, "ps", "-q") == ""
    project.succeed(*name, "start")
    assert len(project.succeed(*name, "ps", "-q").split()) == 2
    project.succeed(*name, "down", "-t", "0")
    assert project.succeed(*name, "ps", "-aq") == ""
    assert project.run(*name, "down").code == 0


def test_a_changed_service_is_planned_with_its_cause(project: Project) -> None:
    text = "services: {w: {image: busybox, init: true, command: [sleep, '1000'], environment: {A: '%s'}}}"
    project.write(text % "1")
    project.succeed("up", "-d")
    before = project.containers("--no-trunc")["w-1"]["ID"]
    project.write(text % "2")
    shown = project.succeed("plan")
    assert "environment" in shown
    ran = project.run("up", "-d", "--dry-run")
    assert (ran.out, f" DRY-RUN MODE -  Container {project.name}-w-1 Recreated\n" in ran.err) == ("", True)
    operations = json.loads(project.succeed("plan", "--format", "json"))["operations"]
    assert {one["verb"] for one in operations} >= {"create container", "start container", "remove container"}
    # Looking changes nothing.
    assert project.containers("--no-trunc")["w-1"]["ID"] == before
    project.succeed("up", "-d", "-t", "0")
    after = project.containers("--no-trunc")
    assert list(after) == ["w-1"]
    assert after["w-1"]["ID"] != before
    assert project.succeed("exec", "-T", "w", "sh", "-c", "echo $A") == "2\n"


def test_pause_and_images(project: Project) -> None:
    project.write("services: {w: {image: busybox, init: true, command: [sleep, '1000']}}")
    project.succeed("up", "-d")
    project.succeed("pause", "w")
    assert project.containers()["w-1"]["State"] == "paused"
    assert "is paused" in project.run("exec", "-T", "w", "true").err
    project.succeed("unpause")
    project.succeed("exec", "-T", "w", "true")
    assert project.succeed("images").splitlines()[1].split()[:3] == [f"{project.name}-w-1", "busybox", "latest"]
    ran = project.run("image", "rm", "busybox")
    assert ran.code == 1
    assert "used by a container" in ran.err
