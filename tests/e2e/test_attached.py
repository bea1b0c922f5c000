"""``up`` in the foreground: output, Ctrl-C, the end of all containers, exit codes."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
import time

from .conftest import Project

TALKER = """
services:
  talker:
    image: busybox
    init: true
    command: [sh, -c, "echo first; sleep 1000"]
  stubborn:
    image: busybox
    command: [sh, -c, "trap '' TERM; echo here; while true; do sleep 1; done"]
    stop_grace_period: 60s
"""


def read_until(stream: object, word: str, limit: float = 20) -> str:
    """Read what comes until `word` is in it; return all of it. In vain after `limit` seconds."""
    descriptor = stream.fileno()  # type: ignore[attr-defined]
    deadline = time.monotonic() + limit
    text = ""
    while word not in text:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"no {word!r} in {text!r}"
        part = os.read(descriptor, 65536)
        assert part, f"no {word!r} in {text!r}"
        text += part.decode()
    return text


def test_up_returns_when_all_have_ended(project: Project) -> None:
    project.write("""
services:
  a: {image: busybox, command: [sh, -c, "echo from a"]}
  b: {image: busybox, command: [sh, -c, "echo from b; exit 3"]}
""")
    ran = project.run("up")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "Attaching to a-1, b-1"
    assert "a-1  | from a" in lines
    assert "b-1  | from b" in lines
    assert lines.index("b-1 exited with code 3") > lines.index("b-1  | from b")
    assert project.run("up", "--exit-code-from", "b").code == 3
    assert project.run("up", "--abort-on-container-failure").code == 3
    assert "from a" not in project.run("up", "--no-attach", "a").out


def test_ctrl_c_stops_in_order_and_a_second_one_kills(project: Project) -> None:
    project.write(TALKER)
    up = project.popen("up")
    read_until(up.stdout, "stubborn-1  | here")
    up.send_signal(signal.SIGINT)
    read_until(up.stdout, "Gracefully stopping... (press Ctrl+C again to force)")
    project.wait_until("the obedient one has stopped", lambda: project.containers()["talker-1"]["State"] == "exited")
    assert project.containers()["stubborn-1"]["State"] == "running"
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=60)
    assert up.returncode == 130
    assert {row["State"] for row in project.containers().values()} == {"exited"}


def test_sigterm_is_a_ctrl_c(project: Project) -> None:
    project.write("services: {a: {image: busybox, init: true, command: [sh, -c, 'echo up; exec sleep 1000']}}")
    up = project.popen("up")
    read_until(up.stdout, "a-1  | up")
    up.terminate()
    out, _err = up.communicate(timeout=60)
    assert up.returncode == 130
    assert "a-1 exited with code 143" in out
    assert project.containers()["a-1"]["State"] == "exited"


def test_what_others_stop_is_told_of(project: Project) -> None:
    sleeper = "image: busybox, init: true, command: [sh, -c, 'echo here; exec sleep 1000']"
    project.write(f"services:\n  a: {{{sleeper}}}\n  b: {{{sleeper}, depends_on: [a]}}\n")
    up = project.popen("up")
    read_until(up.stdout, "b-1  | here")
    project.succeed("stop", "a")
    read_until(up.stdout, "a-1 exited with code 143")
    project.succeed("start", "a")
    read_until(up.stdout, "a-1  | here")
    project.succeed("stop", "a", "b")
    out, _err = up.communicate(timeout=60)
    assert sorted(out.splitlines()) == ["a-1 exited with code 143", "b-1 exited with code 143"]
    assert up.returncode == 0


def test_ctrl_c_in_the_background_begins_nothing_more(project: Project) -> None:
    project.write("""
services:
  db:
    image: busybox
    init: true
    command: [sleep, "1000"]
    healthcheck: {test: [CMD, "false"], interval: 100ms, start_period: 600s}
  web:
    image: busybox
    init: true
    command: [sleep, "1000"]
    depends_on: {db: {condition: service_healthy}}
""")
    up = project.popen("up", "-d")
    read_until(up.stderr, "db-1 Waiting")
    up.send_signal(signal.SIGINT)
    _out, err = up.communicate(timeout=60)
    assert up.returncode == 130
    assert "Container db-1 Not healthy yet interrupted" in err.replace(f"{project.name}-", "")
    assert "error[interrupted]: interrupted; running: db (not healthy yet); not started: web\n" in err
    assert "goal" not in err
    # What runs goes on, and web does not come later.
    assert project.containers()["db-1"]["State"] == "running"
    assert project.containers().get("web-1", {"State": "created"})["State"] != "running"
    assert "running" not in project.succeed("why", "web")


def test_logs_follow_until_the_end(project: Project) -> None:
    project.write("services: {a: {image: busybox, init: true, command: [sh, -c, 'echo one; sleep 1; echo two']}}")
    project.succeed("up", "-d")
    logs = project.popen("logs", "-f")
    out, err = logs.communicate(timeout=60)
    assert (out, err, logs.returncode) == ("a-1  | one\na-1  | two\n", "", 0)


def test_logs_follow_what_starts_later(project: Project) -> None:
    project.write(
        "services:\n  first: {image: busybox, init: true, command: [sh, -c, 'echo one; sleep 1000']}\n"
        "  later: {image: busybox, command: [printf, 'two\\nthree\\n']}\n"
    )
    project.succeed("up", "-d", "first")
    logs = project.popen("logs", "-f")
    read_until(logs.stdout, "one")
    project.succeed("up", "-d")
    shown = read_until(logs.stdout, "three")
    assert [line.split("| ")[1] for line in shown.splitlines()] == ["two", "three"]
    project.succeed("down", "-t", "0")
    assert logs.wait(timeout=60) == 0


def test_lines_of_one_write_and_both_streams_arrive(project: Project) -> None:
    project.write("services: {a: {image: busybox, command: [sh, -c, 'printf \"one\\ntwo\\n\"; echo three >&2']}}")
    ran = project.run("up", "--menu=false")
    assert [line for line in ran.out.splitlines() if "|" in line] == ["a-1  | one", "a-1  | two"]
    assert "a-1  | three" in ran.err.splitlines()


def test_ctrl_c_leaves_what_was_only_depended_on(project: Project) -> None:
    sleeper = "image: busybox, init: true, command: [sh, -c, 'echo here; sleep 1000']"
    project.write(f"services:\n  web: {{{sleeper}, depends_on: [db]}}\n  db: {{{sleeper}}}\n")
    up = project.popen("up", "--menu=false", "web")
    read_until(up.stdout, "here")
    up.send_signal(signal.SIGINT)
    assert up.wait(timeout=60) == 130
    assert {name: row["State"] for name, row in project.containers().items()} == {"web-1": "exited", "db-1": "running"}


def test_exec_has_a_terminal_where_we_have_one(project: Project) -> None:
    project.write("services: {a: {image: busybox, init: true, command: [sleep, '1000']}}")
    project.succeed("up", "-d")
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    inside = project.popen("exec", "a", "sh", stdin=slave, stdout=slave, stderr=slave)
    os.write(master, b"stty size; exit 9\n")
    shown = b""
    while b"33 77" not in shown:
        shown += os.read(master, 4096)
    assert inside.wait(timeout=60) == 9
    # The terminal is as it was.
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_a_closed_reader_is_no_trouble(project: Project) -> None:
    project.write("services: {a: {image: busybox, command: [sh, -c, 'seq 1 20000']}}")
    project.run("up", "-d")
    project.wait_until("a has ended", lambda: project.containers()["a-1"]["State"] == "exited")
    logs = project.popen("logs")
    assert logs.stdout.readline() == "a-1  | 1\n"
    logs.stdout.close()
    assert logs.stderr.read() == ""
    assert logs.wait(timeout=60) == 141


def test_all_that_a_container_wrote_is_shown_before_its_end(project: Project) -> None:
    project.write("services: {much: {image: busybox, command: [seq, '1', '150000']}}")
    lines = project.succeed("up").splitlines()
    assert lines[-2:] == ["much-1  | 150000", "much-1 exited with code 0"]
    assert sum(line.startswith("much-1  | ") for line in lines) == 150_000


def test_up_ends_when_nobody_reads_it_any_more(project: Project) -> None:
    project.write("services: {a: {image: busybox, init: true, command: [sh, -c, 'while echo on; do sleep 0.1; done']}}")
    up = project.popen("up", "-t", "0")
    read_until(up.stdout, "a-1  | on")
    up.stdout.close()
    assert "Traceback" not in up.stderr.read()
    assert up.wait(timeout=60) == 141
    assert project.containers()["a-1"]["State"] == "running"
