"""Updates of services that run: in groups, the new one first, and back again when they fail."""

from __future__ import annotations

from typing import Any

from .conftest import Project

ROLLING = """
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, "echo VERSION; RUN"]
    deploy:
      replicas: 3
      update_config: {parallelism: 1, ORDER monitor: 300ms, failure_action: ACTION}
"""


def render(version: str, run: str = "sleep 1000", action: str = "pause", order: str = "") -> str:
    text = ROLLING.replace("VERSION", version).replace("RUN", run).replace("ACTION", action)
    return text.replace("ORDER", f"order: {order}," if order else "")


def commands(project: Project) -> dict[str, str]:
    rows: dict[str, dict[str, Any]] = project.containers("--no-trunc")
    return {name: row["Command"] for name, row in rows.items() if row["State"] == "running"}


def starts(project: Project, version: str) -> list[str]:
    lines = [one for one in project.succeed("logs", "-t", "--no-color").splitlines() if one.endswith(f" {version}")]
    return [line.split()[0] for line in sorted(lines, key=lambda line: line.split()[2])]


def test_an_update_in_groups(project: Project) -> None:
    project.write(render("one"))
    project.succeed("up", "-d")
    project.write(render("two"))
    project.succeed("up", "-d")
    assert starts(project, "two") == ["web-1", "web-2", "web-3"]
    assert "nothing to do" in project.succeed("plan")


def test_an_update_that_fails_stops_at_the_first_group(project: Project) -> None:
    project.write(render("one"))
    project.succeed("up", "-d")
    project.write(render("two", run="sleep 0.1; exit 3"))
    ran = project.run("up", "-d")
    assert ran.code == 1
    assert "the update of web failed" in ran.err
    assert sorted(commands(project)) == ["web-2", "web-3"]


def test_an_update_that_fails_goes_back(project: Project) -> None:
    project.write(render("one", action="rollback"))
    project.succeed("up", "-d")
    untouched = {name: project.pid(name) for name in ("web-2", "web-3")}
    project.write(render("two", run="sleep 0.1; exit 3", action="rollback"))
    ran = project.run("up", "-d")
    assert ran.code == 1
    assert "going back" in ran.err
    found = commands(project)
    assert sorted(found) == ["web-1", "web-2", "web-3"]
    assert all("one" in text for text in found.values())
    # What the update had not come to has not even noticed, and the file of before finds nothing to do.
    assert {name: project.pid(name) for name in untouched} == untouched
    project.write(render("one", action="rollback"))
    assert "nothing to do" in project.succeed("plan")


def test_the_new_one_first(project: Project) -> None:
    project.write(render("one", order="start-first"))
    project.succeed("up", "-d")
    before = {name: project.pid(name) for name in commands(project)}
    project.write(render("two", run="sleep 1000", order="start-first"))
    project.succeed("up", "-d", "--wait")
    after = {name: project.pid(name) for name in commands(project)}
    assert sorted(after) == sorted(before)
    assert not set(after.values()) & set(before.values())
    assert starts(project, "two") == ["web-1", "web-2", "web-3"]


def test_up_rollback(project: Project) -> None:
    text = """
services:
  db: {image: busybox, init: true, command: [sleep, "1000"], environment: {V: "1"}}
  web: {image: busybox, command: [sleep, "1000"], stop_grace_period: 0s, depends_on: [db]}
"""
    project.write(text)
    project.succeed("up", "-d")
    broken = text.replace('"1000"], stop', '"1001"], entrypoint: [/missing], stop').replace('"1"', '"2"')
    project.write(broken)
    ran = project.run("up", "-d", "--rollback")
    assert ran.code == 1
    assert "/missing" in ran.err
    project.wait_until("all run", lambda: len(commands(project)) == 2)
    assert project.succeed("exec", "-T", "db", "sh", "-c", "echo $V").strip() == "1"


def test_what_is_unhealthy_is_started_again_on_request(project: Project) -> None:
    project.write("""
services:
  web:
    image: busybox
    init: true
    command: [sh, -c, "rm -f /tmp/sick; sleep 1000"]
    restart: on-failure
    x-stack: {restart_unhealthy: true}
    healthcheck: {test: [CMD-SHELL, "! test -e /tmp/sick"], interval: 100ms, retries: 1}
""")
    project.succeed("up", "-d", "--wait")
    before = project.pid("web-1")
    project.succeed("exec", "-T", "web", "touch", "/tmp/sick")
    project.wait_until("it runs again", lambda: project.pid("web-1") not in (0, before))
    project.wait_until("it is healthy again", lambda: project.containers()["web-1"]["Health"] == "healthy")
    assert ": became unhealthy; restart policy on-failure, attempt 1" in project.succeed("why", "web")
