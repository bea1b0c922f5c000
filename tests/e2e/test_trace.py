"""What the last command did, when, and what it took its time from."""

from __future__ import annotations

import json

from .conftest import Project

STACK = """
services:
  db: {image: busybox, init: true, command: [sleep, "1000"], healthcheck: {test: "true", interval: 200ms}}
  web: {image: busybox, init: true, command: [sleep, "1000"], depends_on: {db: {condition: service_healthy}}}
  aside: {image: busybox, init: true, command: [sleep, "1000"]}
"""


def test_the_timeline_of_the_last_command(project: Project) -> None:
    project.write(STACK)
    assert "nothing was recorded" in project.run("trace").err
    project.succeed("up", "-d")
    text = project.succeed("trace")
    chain = [line.split("  ")[-2].strip() for line in text.partition("waited for:\n")[2].splitlines()]
    assert chain[-4:] == ["create db-1", "start db-1", "wait db healthy", "start web-1"]
    found = json.loads(project.succeed("trace", "--format", "chrome"))["traceEvents"]
    critical = {one["args"]["id"] for one in found if one["ph"] == "X" and one["cat"] == "critical"}
    assert critical == set(chain)
    spans = {one["id"]: one for one in json.loads(project.succeed("trace", "--format", "json"))["spans"]}
    assert spans["start web-1"]["began"] >= spans["wait db healthy"]["ended"]
    # A command that had nothing to do leaves the last one that did something there.
    project.succeed("up", "-d")
    assert project.succeed("trace") == text
