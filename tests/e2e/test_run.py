"""``run`` and ``attach``: one-off containers, terminals, signals, exit codes."""

from __future__ import annotations

import os
import signal

from .conftest import Project
from .terminals import Typist
from .test_attached import read_until

STACK = """
services:
  web:
    image: busybox
    command: [sh, -c, "echo never"]
    environment: {KEPT: file, CHANGED: file}
    depends_on: {db: {condition: service_healthy}}
    ports: ["127.0.0.1::80"]
    networks: {default: {aliases: [site]}}
  db:
    image: busybox
    init: true
    command: [sh, -c, "touch /ready; exec sleep 1000"]
    healthcheck: {test: [CMD, test, -f, /ready], interval: 100ms}
  alone: {image: busybox, init: true, command: [sleep, "1000"]}
"""


def test_run_has_its_own_word_and_the_containers_exit_code(project: Project) -> None:
    project.write(STACK)
    project.write("FROM_FILE=1\nCHANGED=file2\n", "some.env")
    words = ("-e", "CHANGED=line", "--env-from-file", "some.env", "-u", "7", "-w", "/tmp", "-v", "./:/here:ro")
    ran = project.run(
        "run", "--rm", "-T", *words, "web", "sh", "-c", "id -u; pwd; echo $KEPT $CHANGED $FROM_FILE; ls /here; exit 3"
    )
    assert ran.code == 3, ran.err
    assert ran.out == "7\n/tmp\nfile line 1\ncompose.yaml\nsome.env\n"
    # What it depends on was started before, and nothing else; the container itself is gone.
    assert {name: row["Health"] for name, row in project.containers().items()} == {"db-1": "healthy"}
    # Input ends where ours does; megabytes pass both ways.
    text = "0123456789abcdef" * 65536
    assert project.succeed("run", "--rm", "-T", "--no-deps", "web", "cat", stdin=text) == text
    assert project.succeed("run", "--rm", "-T", "--entrypoint", "echo -n", "web", "said") == "said"
    ran = project.run("run", "--rm", "-T", "web", "nothing-like-it")
    assert ran.code == 1
    assert "nothing-like-it: not found" in ran.err
    assert list(project.containers()) == ["db-1"]


def test_run_in_the_background(project: Project) -> None:
    project.write(STACK)
    one = project.succeed(
        "run", "-d", "--name", "kept", "-l", "a=b", "--no-deps", "--use-aliases", "-P", "web", "sleep", "1000"
    ).strip()
    row = project.containers("--no-trunc")["kept"]
    assert (row["ID"], row["State"]) == (one, "running")
    assert "a=b" in row["Labels"]
    assert row["Publishers"][0]["TargetPort"] == 80
    # Others find it by the service's names only because that was asked for.
    project.succeed("run", "--rm", "-T", "alone", "ping", "-c1", "-W2", "site")
    # An up leaves it alone, and so does rm; kill and down do not.
    project.succeed("up", "-d", "alone")
    project.succeed("rm", "-f")
    assert sorted(project.containers()) == ["alone-1", "kept"]
    project.succeed("kill")
    project.wait_until("it has ended", lambda: project.containers()["kept"]["State"] == "exited")
    # With --rm it goes by itself.
    project.succeed("run", "-d", "--rm", "--name", "brief", "alone", "true")
    project.wait_until("it is gone", lambda: "brief" not in project.containers())
    assert "kept" in project.containers()


def test_run_passes_signals_on(project: Project) -> None:
    project.write(STACK)
    script = 'trap "echo caught; exit 5" INT; echo up; while true; do sleep 0.1; done'
    run = project.popen("run", "--rm", "-T", "alone", "sh", "-c", script)
    read_until(run.stdout, "up")
    run.send_signal(signal.SIGINT)
    out, _err = run.communicate(timeout=60)
    assert (out, run.returncode) == ("caught\n", 5)
    assert project.containers() == {}


def test_run_on_a_terminal_that_is_resized_and_left(project: Project) -> None:
    project.write(STACK)
    with Typist(project, "run", "--name", "shell", "alone", "sh", rows=33, columns=77) as typist:
        typist.type(b"stty size\n")
        typist.read_until(b"33 77")
        typist.resize(40, 80)
        typist.process.send_signal(signal.SIGWINCH)
        typist.type(b"while ! stty size | grep '40 80'; do sleep 0.1; done\n")
        typist.read_until(b"\n40 80")
        typist.type(b"\x10\x11")
        assert typist.wait() == 0
    assert project.containers()["shell"]["State"] == "running"


def test_attach_and_the_exit_code(project: Project) -> None:
    project.write("""
services:
  shell: {image: busybox, tty: true, stdin_open: true, command: [sh]}
  deaf:
    image: busybox
    command: [sh, -c, "trap 'echo bye; exit 4' TERM; while true; do echo tick; sleep 0.1; done"]
""")
    project.succeed("up", "-d")
    with Typist(project, "attach", "--detach-keys", "ctrl-x", "shell") as typist:
        typist.type(b"echo $((6*7))\n")
        typist.read_until(b"\n42")
        typist.type(b"\x18")
        assert typist.wait() == 0
    attach = project.popen("attach", "--no-stdin", "--sig-proxy=false", "deaf")
    read_until(attach.stdout, "tick")
    attach.send_signal(signal.SIGINT)
    attach.communicate(timeout=60)
    assert attach.returncode == 130
    assert {row["State"] for row in project.containers().values()} == {"running"}
    attach = project.popen("attach", "deaf")
    read_until(attach.stdout, "tick")
    attach.send_signal(signal.SIGTERM)
    out, _err = attach.communicate(timeout=60)
    assert out.endswith("bye\n")
    assert attach.returncode == 4
    assert project.run("attach", "deaf").code == 1


def test_a_killed_run_leaves_nothing(project: Project) -> None:
    project.write(STACK)
    run = project.popen("run", "--rm", "-T", "--name", "orphan", "alone", "sh", "-c", "echo up; exec sleep 1000")
    read_until(run.stdout, "up")
    run.kill()
    run.communicate()
    # It goes on, as it would if it had been started in the background, and is removed when it has ended.
    assert project.containers()["orphan"]["State"] == "running"
    project.succeed("kill", "alone")
    project.wait_until("it is gone", lambda: project.containers() == {})
    assert not (project.machine.run_dir / "callers").exists()


def test_a_one_off_container_has_its_health_check(project: Project) -> None:
    project.write(STACK)
    project.succeed("run", "-d", "--name", "probed", "db")
    project.wait_until("it is healthy", lambda: project.containers()["probed"]["Health"] == "healthy")
    assert "probed is running, healthy; it is a one-off container" in project.succeed("why", "db")


def test_run_outlives_its_supervisor(project: Project) -> None:
    project.write(STACK)
    script = "echo up; while [ ! -f /here/go ]; do sleep 0.1; done; echo over; exit 9"
    run = project.popen("run", "--rm", "-T", "-v", "./:/here", "alone", "sh", "-c", script)
    read_until(run.stdout, "up")
    os.kill(project.supervisor(), signal.SIGKILL)
    project.write("", "go")
    out, err = run.communicate(timeout=60)
    assert (out, run.returncode) == ("over\n", 9), err
    assert project.containers() == {}


def test_run_tells_what_has_done_its_work_already(project: Project) -> None:
    project.write(
        "services:\n  job: {image: busybox, command: [echo, work], depends_on: [done]}\n"
        "  done: {image: busybox, command: ['true']}\n"
    )
    project.succeed("up", "done")
    ran = project.run("run", "--rm", "job")
    assert (ran.code, ran.out) == (0, "work\n")
    assert f"Container {project.name}-done-1 Exited" in ran.err
