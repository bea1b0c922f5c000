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


def test_what_a_provider_says_is_shown_and_reaches_one_offs(provided: Project) -> None:
    path = provided.folder / "cloud"
    job = "{image: busybox, command: [env], environment: [TOKEN=own], depends_on: [a-long-name]}"
    passed = "{image: busybox, command: [env], environment: [TOKEN], depends_on: [a-long-name]}"
    provided.write(f"services: {{a-long-name: {{provider: {{type: {path}}}}}, job: {job}, passed: {passed}}}")
    ran = provided.run("up")
    assert ran.code == 0, ran.err
    assert "overrides environment variable TOKEN of job" in ran.err
    # A name whose value would be the caller's counts as the file's own, also where the caller has none.
    assert "overrides environment variable TOKEN of passed" in ran.err
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert lines[0] == "Attaching to job-1, passed-1"
    assert {"job-1 | TOKEN=abc=d", "job-1 | A_LONG_NAME_URL=http://there:1", "passed-1 | TOKEN=abc=d"} <= set(lines)
    said = provided.succeed("run", "--rm", "-T", "job").splitlines()
    assert {"TOKEN=abc=d", "A_LONG_NAME_URL=http://there:1"} <= set(said)


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


def describe(project: Project, text: str, *, body: str = "") -> None:
    """Write a provider that describes itself, and a stack that asks for it."""
    program = project.folder / "cloud"
    program.write_text(f"""#!/bin/sh
case "$2" in metadata) cat <<'END'
{text}
END
exit 0 ;; esac
echo "$PWD $3 $*" >> {project.folder}/log
{body}
""")
    program.chmod(0o755)
    project.write(STACK.format(path=program))


def asked(project: Project) -> list[str]:
    """The commands that the provider was asked for, with its own options."""
    log = project.folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    assert all(line.startswith(f"{project.folder} ") for line in lines), lines
    return [" ".join(word for word in line.split()[4:] if word != "my-db") for line in lines]


def test_stop_is_only_for_providers_that_say_so(project: Project) -> None:
    takes = '{"parameters": [{"name": "size"}]}'
    describe(project, f'{{"up": {takes}, "down": {{}}, "stop": null}}')
    project.succeed("up", "-d")
    project.succeed("stop", "-t", "0")
    project.succeed("down", "-t", "0")
    assert asked(project) == ["up --size=10", "down"]
    (project.folder / "log").unlink()
    describe(project, f'{{"up": {takes}, "down": {takes}, "stop": {{}}}}')
    project.succeed("up", "-d")
    project.succeed("stop", "-t", "0")
    assert project.containers()["web-1"]["State"] == "exited"
    project.succeed("up", "-d")
    project.succeed("down", "-t", "0")
    assert asked(project) == ["up --size=10", "stop", "up --size=10", "down --size=10"]


def test_what_a_provider_requires_and_what_it_complains_of(project: Project) -> None:
    describe(project, '{"up": {"parameters": [{"name": "region", "required": true}]}}')
    ran = project.run("up", "-d", "my-db")
    assert ran.code == 1
    assert "requires the option region" in ran.err
    assert asked(project) == []
    # An error is one, whatever the exit code is; and without one, its last words are worth something.
    describe(project, "", body="""echo '{"type": "error", "message": "no credit left"}'; exit 0""")
    ran = project.run("up", "-d", "my-db")
    assert ran.code == 1
    assert "my-db: no credit left" in ran.err
    describe(project, "", body="test $3 = down || { echo 'where am I?' >&2; exit 3; }")
    ran = project.run("up", "-d", "my-db")
    assert ran.code == 1
    assert "ended with exit code 3: where am I?" in ran.err


def test_a_provider_under_way_is_ended_by_a_goal_that_has_no_use_for_it(project: Project) -> None:
    describe(project, "", body="test $3 = down || exec sleep 1000")
    command = project.popen("up", "-d")
    project.wait_until("it is at work", lambda: bool(asked(project)))
    project.succeed("down", "-t", "0")
    assert command.wait(60) == 1
    assert "wants something else of" in "".join(command.communicate())
    assert asked(project)[-1].startswith("down")


def test_a_provider_sees_the_projects_variables(project: Project) -> None:
    body = """test $3 != up || echo '{"type": "setenv", "message": "REGION='$REGION'"}'"""
    describe(project, "", body=body)
    for region in ("here", "there"):
        project.write(f"REGION={region}\n", ".env")
        project.succeed("up", "-d")
        assert f"MY_DB_REGION={region}" in project.succeed("exec", "-T", "web", "env").split()
    kept = [path for path in project.machine.state.rglob("goal.json") if project.name in str(path)]
    assert len(kept) == 1
    # What a successor has of its own is not written down; nobody else may read the rest.
    assert json.loads(kept[0].read_text())["goal"]["stack"]["environment"].keys() <= {"REGION", "COMPOSE_PROJECT_NAME"}
    assert kept[0].stat().st_mode & 0o777 == 0o600


def test_variables_have_the_services_name_as_it_is_written(project: Project) -> None:
    body = """test $3 != up || { echo '{"type": "setenv", "message": "URL=x"}'
echo '{"type": "rawsetenv", "message": "TOKEN=y"}'; }"""
    describe(project, "", body=body)
    project.succeed("up", "-d")
    said = project.succeed("exec", "-T", "web", "env").splitlines()
    assert {"MY-DB_URL=x", "MY_DB_URL=x", "TOKEN=y"} <= set(said)
