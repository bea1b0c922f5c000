"""``top``, ``stats``, ``events``, ``volumes``, ``wait``, and what ``ps`` says of a container that is to start again."""

from __future__ import annotations

import json
import time

from .conftest import Project
from .test_attached import read_until

STACK = """
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, "sleep 1000 & exec sleep 2000"]
    labels: {colour: red}
    mem_limit: 64m
    volumes: ["data:/data"]
  db: {image: busybox, init: true, command: [sleep, "1000"], volumes: ["other:/data", "/anonymous"]}
volumes: {data: {}, other: {}}
"""


def test_processes_and_use(project: Project) -> None:
    project.write(STACK)
    project.succeed("up", "-d")
    shown = project.succeed("top")
    first, second = shown.strip().split("\n\n")
    assert first.splitlines()[0] == f"{project.name}-db-1"
    assert first.splitlines()[1].split() == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert {line.split(None, 7)[7] for line in second.splitlines()[2:]} >= {"sleep 1000", "sleep 2000"}
    assert str(project.pid("web-1")) in [line.split()[1] for line in second.splitlines()[2:]]
    rows = [json.loads(line) for line in project.succeed("stats", "--no-stream", "--format", "json").splitlines()]
    assert [row["Name"] for row in rows] == [f"{project.name}-db-1", f"{project.name}-web-1"]
    assert rows[1]["MemUsage"].endswith(" / 64MiB")
    assert int(rows[1]["PIDs"]) >= 3
    assert rows[1]["CPUPerc"].endswith("%")
    live = project.popen("stats", "--format", "{{.Name}}", "web")
    for _look in range(2):
        assert live.stdout.readline() == f"{project.name}-web-1\n"
    live.kill()
    live.communicate()
    project.succeed("stop", "-t", "0", "db")
    assert project.succeed("stats", "--no-stream", "--format", "{{.PIDs}}", "-a", "db") == "0\n"
    assert project.succeed("stats", "--no-stream", "--format", "{{.PIDs}}", "db") == ""


def test_volumes(project: Project) -> None:
    project.write(STACK)
    project.succeed("up", "-d")
    assert project.succeed("volumes", "-q") == f"{project.name}_data\n{project.name}_other\n"
    assert project.succeed("volumes", "-q", "web") == f"{project.name}_data\n"
    row = json.loads(project.succeed("volumes", "--format", "json", "web"))
    assert (row["Name"], row["Driver"], row["Scope"]) == (f"{project.name}_data", "local", "local")
    assert project.succeed("volumes").splitlines()[0].split() == ["DRIVER", "VOLUME", "NAME"]


def test_events_are_kept_and_followed(project: Project) -> None:
    project.write(STACK)
    began = time.time() - 0.001
    followed = project.popen("events", "--json", "web")
    # Whatever happens before it has begun to follow is asked for again below.
    project.wait_until("somebody writes events", lambda: (project.machine.state / "events").is_dir())
    project.succeed("up", "-d")
    project.succeed("pause", "web")
    project.succeed("unpause", "web")
    project.succeed("kill", "-s", "KILL", "web")
    text = read_until(followed.stdout, '"die"')
    followed.kill()
    followed.communicate()
    seen = [json.loads(line) for line in text.splitlines()]
    assert {one["service"] for one in seen} == {"web"}
    assert seen[-1]["attributes"] == {
        "colour": "red", "exitCode": "137", "image": "busybox", "name": f"{project.name}-web-1",
    }  # fmt: skip
    project.succeed("down", "-t", "0", "-v")
    told = project.succeed("events", "--since", str(began), "--until", str(time.time()), "--json", "web")
    actions = [json.loads(line)["action"] for line in told.splitlines()]
    assert actions == ["create", "start", "pause", "unpause", "kill", "die", "destroy"]
    lines = project.succeed("events", "--since", str(began), "--until", str(time.time())).splitlines()
    started = next(line for line in lines if f" container start {seen[-1]['id']} (" in line)
    assert f"colour=red, image=busybox, name={project.name}-web-1)" in started
    assert any("name=" + f"{project.name}-db-1" in line for line in lines)


def test_a_container_that_waits_for_its_restart(project: Project) -> None:
    project.write("""
services:
  w:
    image: busybox
    command: [sh, -c, "exit 3"]
    deploy: {restart_policy: {condition: any, delay: 1h}}
""")
    project.succeed("up", "-d")
    project.wait_until("it waits", lambda: "w-1" in project.succeed("ps", "--status", "restarting"))
    row = project.containers()["w-1"]
    assert row["State"] == "restarting"
    assert row["Status"].startswith("Restarting (3) ")
    # It is not listed among what has ended, and a stop ends the waiting.
    assert project.succeed("ps", "-q", "--status", "exited") == ""
    assert "restarting(1)" in project.succeed("ls", "--filter", f"name={project.name}")
    project.succeed("stop")
    assert project.containers()["w-1"]["State"] == "exited"


def test_wait_takes_the_project_down(project: Project) -> None:
    project.write("""
services:
  job: {image: busybox, command: [sh, -c, "while [ ! -f /go ]; do sleep 0.1; done; exit 3"]}
  other: {image: busybox, init: true, command: [sleep, "1000"]}
""")
    project.succeed("up", "-d")
    waiting = project.popen("wait", "--down-project", "job")
    project.succeed("exec", "-T", "job", "touch", "/go")
    out, _err = waiting.communicate(timeout=60)
    assert (out, waiting.returncode) == ("3\n", 3)
    assert project.containers() == {}


def test_dry_run_of_what_acts_at_once(project: Project) -> None:
    project.write(STACK)
    project.succeed("up", "-d")
    before = project.containers("--no-trunc")
    name = f"{project.name}-web-1"
    project.write("x", "file")
    for words, told in (
        (("kill", "web"), "Killed"),
        (("pause", "web"), "Paused"),
        (("stop", "web"), "Stopped"),
        (("restart", "web"), "Started"),
        (("down", "--rmi", "all"), "Removed"),
        (("exec", "-T", "web", "touch", "/x"), "Executed"),
        (("attach", "web"), "Attached"),
        (("cp", "file", "web:/x"), "Copied"),
        (("commit", "web", "made"), "Committed"),
        (("export", "-o", "tar", "web"), "Exported"),
        (("wait", "web"), "Exited"),
    ):
        ran = project.run("--dry-run", *words)
        assert (ran.code, f" DRY-RUN MODE -  Container {name} {told}\n" in ran.err) == (0, True), ran.err
        assert all(line.startswith(" DRY-RUN MODE - ") for line in ran.err.splitlines())
    assert f"DRY-RUN MODE -  Container {project.name}-web-run-" in project.run("--dry-run", "run", "web", "true").err
    assert not (project.folder / "tar").exists()
    after = project.containers("--no-trunc")
    assert {n: (r["ID"], r["State"]) for n, r in after.items()} == {n: (r["ID"], r["State"]) for n, r in before.items()}
    assert project.run("exec", "-T", "web", "ls", "/x").code == 1
