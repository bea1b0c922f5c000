"""Services that a program of somebody else's provides."""

from __future__ import annotations

import json

import pytest

from .conftest import Project

PROVIDER = """#!/bin/sh
echo "$@" >> {log}
case "$2" in
metadata) exit 1 ;;
esac
case "$3" in
up)
    echo '{{"type": "info", "message": "making it"}}'
    echo '{{"type": "get-service-config"}}'
    read -r config
    echo "$config" > {log}.config
    echo '{{"type": "setenv", "message": "URL=http://there:1"}}'
    echo '{{"type": "rawsetenv", "message": "TOKEN=abc=d"}}'
    ;;
esac
test ! -e {log}.broken || {{ echo '{{"type": "error", "message": "no credit left"}}'; exit 1; }}
"""

STACK = """
services:
  my-db:
    provider: {{type: {path}, options: {{size: 10, fast: true, zone: [a, b]}}}}
  web: {{image: busybox, init: true, command: [sleep, "1000"], depends_on: [my-db]}}
  other: {{image: busybox, init: true, command: [sleep, "1000"]}}
"""


@pytest.fixture
def provided(project: Project) -> Project:
    program = project.folder / "cloud"
    program.write_text(PROVIDER.format(log=project.folder / "log"))
    program.chmod(0o755)
    project.write(STACK.format(path=program))
    return project


def test_what_a_provider_says_reaches_its_dependents(provided: Project) -> None:
    log = provided.folder / "log"
    provided.succeed("up", "-d", "--wait")
    assert sorted(provided.containers()) == ["other-1", "web-1"]
    said = provided.succeed("exec", "-T", "web", "sh", "-c", "echo $MY_DB_URL $TOKEN").split()
    assert said == ["http://there:1", "abc=d"]
    assert "there" not in provided.succeed("exec", "-T", "other", "env")
    asked = [line for line in log.read_text().splitlines() if "metadata" not in line]
    options = "--fast=true --size=10 --zone=a --zone=b"
    assert asked == [f"compose --project-name={provided.name} up {options} my-db"]
    assert json.loads((provided.folder / "log.config").read_text())["provider"]["options"]["size"] == ["10"]
    before = provided.pid("web-1")
    provided.succeed("up", "-d")
    assert provided.pid("web-1") == before
    provided.succeed("down", "-t", "0")
    assert log.read_text().splitlines()[-1].startswith(f"compose --project-name={provided.name} down")


def test_a_provider_that_fails(provided: Project) -> None:
    (provided.folder / "log.broken").touch()
    ran = provided.run("up", "-d")
    assert ran.code == 1
    assert "no credit left" in ran.err
    assert sorted(provided.containers()) == ["other-1"]
    provided.write("services: {db: {provider: {type: no-such-cloud}}}")
    ran = provided.run("up", "-d")
    assert ran.code == 1
    assert "there is no provider no-such-cloud" in ran.err
