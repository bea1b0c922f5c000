"""The full-screen interface on a terminal of its own, with real containers."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from .conftest import Project
from .terminals import Typist

SHOP = """
services:
  db:
    image: busybox
    init: true
    command: [sh, -c, "echo accepting; exec sleep 1000"]
    healthcheck: {test: [CMD, "true"], interval: 1s}
  web:
    image: busybox
    init: true
    command: [sh, -c, "printf '\\\\033[35mserving\\\\033[0m now\\\\n'; exec sleep 1000"]
    depends_on: {db: {condition: service_healthy}}
"""

RESTORED = b"\x1b[?1049l"
"""Leaves the alternate screen."""


@pytest.fixture(autouse=True)
def terminal(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that can move its cursor."""
    monkeypatch.setitem(project.machine.environment, "TERM", "xterm-256color")


def states(project: Project) -> dict[str, str]:
    return {name: row["State"] for name, row in project.containers().items()}


def test_a_day_in_the_interface(project: Project) -> None:
    project.write(SHOP)
    with Typist(project, "ui", rows=30, columns=100) as ui:
        ui.read_until(b"not created")
        ui.type(b"u")
        ui.read_until(b"create container")
        ui.type(b"y")
        project.wait_until("all are up", lambda: states(project) == {"db-1": "running", "web-1": "running"})
        ui.read_until(b"2/2 running", b"accepting")
        ui.type(b"j")
        ui.read_until(b"serving")
        # A shell in the container, and back.
        ui.type(b"e")
        ui.read_until(b"its end leads back")
        ui.read_until(b"#")
        ui.type(b"echo $((6*7)); hostname\r")
        ui.read_until(b"42")
        ui.type(b"exit\r")
        ui.read_until(b"\x1b[?1049h")
        ui.read_until(b"web")
        ui.type(b"x")
        project.wait_until("web stops", lambda: states(project)["web-1"] == "exited")
        ui.read_until(b"stopped")
        ui.type(b"+")
        project.wait_until("two of them", lambda: states(project).get("web-2") == "running")
        # Without a supervisor an end is seen all the same.
        status = json.loads(project.succeed("why", "--format", "json", "db"))
        os.kill(status["pid"], signal.SIGSTOP)  # it would start another keeper
        os.kill(status["keeper"], signal.SIGKILL)
        os.kill(status["pid"], signal.SIGKILL)
        ui.read_until(b"no supervisor")
        os.kill(project.pid("db-1"), signal.SIGKILL)
        ui.read_until(b"exited (137)")
        # Another terminal.
        project.succeed("down", "-t", "0")
        ui.read_until(b"not created")
        ui.type(b"q")
        assert ui.wait() == 0
        assert RESTORED in ui.shown


def test_leaving_leaves_the_services_running(project: Project) -> None:
    project.write(SHOP)
    project.succeed("up", "-d")
    supervisor = project.supervisor()
    with Typist(project, "--ansi", "never", "ui", rows=24, columns=80) as ui:
        ui.read_until(b"healthy")
        ui.type(b"\x03")
        assert ui.wait() == 0
        assert RESTORED in ui.shown
        assert not re.search(rb"\x1b\[[\d;]*(38|48|3[0-7]|4[0-7])[;m]", ui.shown), "no colours were asked for"
    for number in (signal.SIGTERM, signal.SIGHUP):
        with Typist(project, "ui", rows=8, columns=30) as ui:
            ui.read_until(b"healthy")
            ui.process.send_signal(number)
            assert ui.wait() == 0
            assert RESTORED in ui.shown
    assert states(project) == {"db-1": "running", "web-1": "running"}
    assert project.supervisor() == supervisor
