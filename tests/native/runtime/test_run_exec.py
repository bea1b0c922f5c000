"""Commands in running containers."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from boxes import Box, BoxMaker

from orchestrator.engines.base import ExecRequest
from orchestrator.engines.native.runtime import cgroups, process, terminal
from orchestrator.engines.native.runtime.exec import exec_attached
from orchestrator.engines.native.runtime.runtime_errors import StartFailed
from orchestrator.errors import Conflict

DRIVER = Path(__file__).parent / "exec_driver.py"


@pytest.fixture
def running(box: BoxMaker) -> Box:
    made = box("sleep", "1000", environment={"A": "own"}, user="web", hostname="box")
    made.launch()
    return made


def drive(made: Box, *command: str, **fields: Any) -> list[str]:
    request = json.dumps({"command": command, **fields})
    layout = made.layout
    return [sys.executable, str(DRIVER), str(layout.state), str(layout.run), made.runtime.name, made.id, request]


def read_until(fd: int, wanted: str, seconds: float = 60) -> str:
    text = ""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while wanted not in text:
        assert poll.poll(seconds * 1000), f"{wanted!r} did not come: {text!r}"
        try:
            part = os.read(fd, 4096)
        except OSError:
            part = b""
        assert part, f"{wanted!r} did not come: {text!r}"
        text += part.decode()
    return text


def test_it_is_the_containers_own_world(running: Box) -> None:
    result = running.exec("sh", "-c", "id -u; echo $A $HOME; hostname; grep -c stack- /proc/self/cgroup")
    user, words, name, groups = result.output.splitlines()
    assert (user, words, name) == ("101", "own /srv", "box")
    assert int(groups) >= 1
    assert result.exit_code == 0


def test_it_is_in_the_containers_control_group(running: Box) -> None:
    group = [line for line in running.exec("cat", "/proc/self/cgroup").output.splitlines() if ":memory:" in line]
    assert group == [] or group[0].endswith(running.cgroup)


def test_it_has_the_containers_filter_and_capabilities(running: Box) -> None:
    text = running.exec("sh", "-c", "grep -E 'Seccomp:|CapBnd|CapEff' /proc/self/status", user="root").output
    assert "Seccomp:\t2" in text
    assert "CapEff:\t00000000a80425fb" in text
    privileged = running.exec("sh", "-c", "grep CapEff /proc/self/status", user="root", privileged=True).output
    assert privileged.split()[1] != "00000000a80425fb"


def test_user_directory_and_environment_of_its_own(running: Box) -> None:
    result = running.exec(
        "sh", "-c", "id -u; pwd; echo $A $B $HOME", user="root", working_dir="/tmp", environment={"B": "2"}
    )
    assert result.output.splitlines() == ["0", "/tmp", "own 2 /root"]


@pytest.mark.parametrize(("command", "code"), [(("no-such",), 127), (("/etc/passwd",), 126), (("false",), 1)])
def test_exit_codes(running: Box, command: tuple[str, ...], code: int) -> None:
    result = running.exec(*command)
    assert result.exit_code == code
    assert bool(result.output) == (code != 1)


def test_a_killed_command(running: Box) -> None:
    assert running.exec("sh", "-c", "kill -9 $$").exit_code == 137


def test_only_the_end_of_the_output_is_kept(running: Box) -> None:
    result = running.exec("sh", "-c", "seq 1 20000; echo end")
    assert len(result.output) == 4096
    assert result.output.endswith("20000\nend\n")


def test_time_out(running: Box) -> None:
    result = running.exec("sh", "-c", "echo before; sleep 1000; echo after", timeout=3)
    assert (result.exit_code, result.timed_out, result.output) == (124, True, "before\n")
    assert "sh -c echo before" not in running.exec("ps").output


def test_no_descriptors_leak(running: Box) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    running.exec("true")
    running.exec("no-such")
    exec_attached(running.target(), ExecRequest(command=("true",)))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_detached(running: Box) -> None:
    command = ("sh", "-c", "echo $$ > /tmp/here; exec sleep 0.2")
    assert exec_attached(running.target(), ExecRequest(command=command, detach=True)) == 0
    with pytest.raises(StartFailed) as caught:
        exec_attached(running.target(), ExecRequest(command=("no-such",), detach=True))
    assert caught.value.exit_code == 127


def test_it_must_run(running: Box) -> None:
    assert running.launched is not None
    process.send_signal(running.launched.pid, running.launched.start_time, signal.SIGKILL)
    running.wait()
    with pytest.raises(Conflict):
        running.target()


def test_streams_and_end_of_input(running: Box) -> None:
    done = subprocess.run(
        drive(running, "sh", "-c", "cat; echo err >&2; exit 9", stdin=True),
        input="typed\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (9, "typed\n", "err\n")


def test_without_stdin_there_is_none(running: Box) -> None:
    done = subprocess.run(
        drive(running, "sh", "-c", "cat; echo end"),
        input="typed\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.stdout == "end\n"


def test_an_attached_command_that_is_not_there(running: Box) -> None:
    done = subprocess.run(drive(running, "no-such"), capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 127
    assert "no-such" in done.stderr
    assert "Traceback" not in done.stderr


def test_signals_are_passed_on(running: Box) -> None:
    script = "trap 'echo got; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(drive(running, "sh", "-c", script), stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        read_until(driver.stdout.fileno(), "ready")
        driver.send_signal(signal.SIGTERM)
        assert read_until(driver.stdout.fileno(), "got")
        assert driver.wait(60) == 4


def test_on_a_terminal(running: Box) -> None:
    master, slave = os.openpty()
    terminal.write_size(slave, 33, 77)
    wait = "trap 'stty size; exit 5' WINCH; echo waiting; while :; do sleep 0.05; done"
    # crun gives the terminal away before it is sized, so the first look may come too early.
    script = f"until stty size 2>&1 | grep '^[1-9]'; do sleep 0.05; done; read line; echo got $line; {wait}"
    driver = subprocess.Popen(
        drive(running, "sh", "-c", f"test -t 0 && echo terminal; echo $TERM; {script}", tty=True, stdin=True),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "vt100"},
    )
    try:
        text = read_until(master, "33 77")
        assert "terminal" in text
        assert "vt100" in text
        os.write(master, b"hello\n")
        assert "got hello" in read_until(master, "waiting")
        terminal.write_size(slave, 20, 50)
        driver.send_signal(signal.SIGWINCH)
        read_until(master, "20 50")
        assert driver.wait(60) == 5
        # The terminal is as it was before: line by line, with echo.
        import termios

        assert termios.tcgetattr(slave)[3] & termios.ICANON
    finally:
        driver.kill()
        driver.wait()
        os.close(master)
        os.close(slave)


def test_control_c_reaches_the_command_not_us(running: Box) -> None:
    master, slave = os.openpty()
    driver = subprocess.Popen(
        drive(
            running,
            "sh",
            "-c",
            "trap 'echo interrupted; exit 6' INT; echo ready; while :; do sleep 0.05; done",
            tty=True,
            stdin=True,
        ),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    try:
        read_until(master, "ready")
        os.write(master, b"\x03")
        read_until(master, "interrupted")
        assert driver.wait(60) == 6
    finally:
        driver.kill()
        driver.wait()
        os.close(master)
        os.close(slave)


def test_nothing_is_left_in_the_container(running: Box) -> None:
    for _ in range(5):
        running.exec("true")
    assert len(cgroups.list_processes(running.cgroup)) == 1
