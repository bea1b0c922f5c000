"""Bad input and bad luck: one clear message, the right exit code, nothing left behind."""

from __future__ import annotations

import socket

from .conftest import Project


def service(**lines: str) -> str:
    body = "".join(f"\n    {key}: {value}" for key, value in lines.items())
    return f"services:\n  web:\n    image: busybox\n    init: true{body}\n"


def test_no_stack_file(project: Project) -> None:
    ran = project.run("up", "-d")
    assert ran.code == 14
    assert "error[file-not-found]" in ran.err


def test_a_wrong_file_has_its_place(project: Project) -> None:
    project.write("services:\n  web:\n    image: busybox\n    ports: ['9000-8000:80']\n    comand: x\n")
    ran = project.run("up", "-d")
    assert ran.code == 15
    assert "compose.yaml:4:" in ran.err
    assert "compose.yaml:5:5: error[" in ran.err
    assert "command" in ran.err
    project.write("services: {}")


def test_an_unknown_service(project: Project) -> None:
    project.write(service(command="[sleep, '1000']"))
    for command in ("up", "logs", "stop", "restart", "exec"):
        ran = project.run(command, "wbe", *(["true"] if command == "exec" else []))
        assert ran.code == 1, command
        assert "error[no-such-service]: no such service: wbe" in ran.err
        assert "did you mean web?" in ran.err


def test_a_dependency_cycle(project: Project) -> None:
    project.write("""
services:
  a: {image: busybox, depends_on: [b]}
  b: {image: busybox, depends_on: [a]}
""")
    ran = project.run("up", "-d")
    assert ran.code == 15
    assert "cycle" in ran.err
    project.write("services: {a: {image: busybox}}")


def test_no_such_image(project: Project) -> None:
    project.write("services: {web: {image: 'localhost:1/nothing:1'}}")
    ran = project.run("up", "-d")
    assert ran.code == 1
    assert "localhost:1/nothing:1" in ran.err


def test_a_command_that_the_image_does_not_have(project: Project) -> None:
    project.write("services: {web: {image: busybox, command: [nothing-like-it]}}")
    ran = project.run("up", "-d")
    assert ran.code == 1
    assert "nothing-like-it" in ran.err
    assert "web" in ran.err
    assert project.containers()["web-1"]["ExitCode"] == 127


def test_a_failing_dependency_is_told_with_its_last_words(project: Project) -> None:
    project.write("""
services:
  other: {image: busybox, init: true, command: [sleep, "1000"]}
  setup: {image: busybox, command: [sh, -c, "echo no disk; exit 3"]}
  web:
    image: busybox
    init: true
    command: [sleep, "1000"]
    depends_on: {setup: {condition: service_completed_successfully}}
""")
    ran = project.run("up", "-d")
    assert ran.code == 1
    assert "setup" in ran.err
    assert "3" in ran.err
    assert "    | no disk" in ran.err
    # What had been started goes on.
    assert project.containers()["other-1"]["State"] == "running"
    assert "setup" in project.succeed("why", "web")


def test_a_taken_port_names_its_holder(project: Project) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        project.write(service(command="[sleep, '1000']", ports=f"['127.0.0.1:{port}:80']"))
        ran = project.run("up", "-d")
    assert ran.code == 1
    assert str(port) in ran.err
    assert "python" in ran.err or "pytest" in ran.err


def test_a_bind_source_that_is_not_there(project: Project) -> None:
    project.write(
        service(
            command="[sleep, '1000']",
            volumes="[{type: bind, source: ./nowhere, target: /data, bind: {create_host_path: false}}]",
        )
    )
    ran = project.run("up", "-d")
    assert ran.code == 1
    assert "/nowhere does not exist" in ran.err


def test_waiting_in_vain_ends(project: Project) -> None:
    project.write(
        service(
            command="[sleep, '1000']",
            healthcheck="{test: [CMD, 'false'], interval: 10s, start_period: 60s, start_interval: 1s}",
        )
    )
    ran = project.run("up", "-d", "--wait", "--wait-timeout", "1")
    assert ran.code == 1
    assert "application not healthy after 1s: web is starting" in ran.err
    assert project.containers()["web-1"]["State"] == "running"
