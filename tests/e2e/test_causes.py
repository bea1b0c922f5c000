"""The log of events says why everything was started, and `why` why something was not."""

from __future__ import annotations

import json
import os
import signal

from .conftest import Project


def starts(project: Project, service: str) -> list[str]:
    lines = project.succeed("events", "--json", "--since", "5m", "--until", "0s", service).splitlines()
    return [one["attributes"]["cause"] for one in map(json.loads, lines) if one["action"] == "start"]


def test_every_start_has_its_cause(project: Project) -> None:
    project.write("""
services:
  a: {image: busybox, init: true, command: [sleep, "1000"], restart: always, stop_grace_period: 1s}
  gone: {image: busybox, command: ["false"]}
""")
    project.succeed("up", "-d")
    first = project.pid("a-1")
    os.kill(first, signal.SIGKILL)
    project.wait_until("its policy starts it again", lambda: len(starts(project, "a")) == 2)
    project.succeed("restart", "a")
    found = starts(project, "a")
    assert found[0] == "it does not exist yet"
    assert found[1].startswith("exited with code 137; restart policy always, attempt 1")
    assert found[2:] == ["a restart was asked for"]
    project.wait_until("gone has ended", lambda: project.containers()["gone-1"]["State"] == "exited")
    told = "gone-1 is not started again: exited with code 1; its restart policy is no"
    project.wait_until("why says so", lambda: told in project.succeed("why", "gone"))
