"""logs, exec, port, kill, pause, ls, doctor, version: what they show, what they ask of the engine, how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import orchestrator
from orchestrator.engines.base import ExecRequest, Finding, LogLine
from orchestrator.state import Binding

from .conftest import NOW, Ran, ShelfEngine, make_container


def line(container: str, text: str, second: int = 0) -> LogLine:
    return LogLine(
        container=container.ljust(64, "0"),
        service=container[:-1],
        stream="stdout",
        time=f"2026-11-23T08:00:{second:02}.000000000+00:00",
        text=text,
    )


def test_logs_prefix_every_line_with_its_container(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [make_container(), make_container("database")]
    engine.lines = [line("web1", "hello"), line("database1", "ready", 1)]
    assert stack("-p", "shop", "logs").out == "web-1       | hello\ndatabase-1  | ready\n"
    assert stack("-p", "shop", "logs", "--no-log-prefix", "-t", "web").out == ("2026-11-23T08:00:00.000000000Z hello\n")
    coloured = stack("--ansi", "always", "-p", "shop", "logs", "web").out
    assert coloured == "\x1b[36mweb-1  | \x1b[0mhello\n"
    assert "\x1b" not in stack("--ansi", "always", "-p", "shop", "logs", "--no-color").out


def test_logs_pass_on_what_is_asked(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [make_container()]
    assert stack("-p", "shop", "logs", "-n", "5", "--since", "1m30s", "--until", "2026-11-23T08:00:00Z").code == 0
    _, options = engine.asked[-1]
    assert options == {
        "tail": 5, "since": NOW - 90, "until": 1795420800.0, "follow": False, "stopped": None,
    }  # fmt: skip
    for words in (("-n", "x"), ("--since", "yesterday"), ("--index", "1")):
        assert stack("-p", "shop", "logs", *words).code == 16


def test_exec_has_the_containers_exit_code(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [make_container(), make_container(number=2)]
    engine.exec_code = 127
    ran = stack(
        "-p", "shop", "exec", "-T", "-e", "A=1", "-u", "nobody", "-w", "/srv", "--index", "2", "web", "ls", "-l"
    )
    assert ran.code == 127
    _, name, request = engine.asked[-1]
    assert name == "shop-web-2"
    assert request == ExecRequest(
        command=("ls", "-l"), user="nobody", working_dir="/srv", environment={"A": "1"}, stdin=True
    )


def test_exec_says_why_it_cannot(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [
        make_container(status="exited", exit_code=2),
        make_container("db", status="paused"),
    ]
    ran = stack("-p", "shop", "exec", "web", "true")
    assert ran.code == 1
    assert 'service "web" is not running: it has exited with code 2' in ran.err
    assert "is paused" in stack("-p", "shop", "exec", "db", "true").err
    assert stack("-p", "shop", "exec", "web").code == 16


def test_port(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [make_container(bindings=(Binding(host_ip="::", host_port=49152, container_port=80),))]
    assert stack("-p", "shop", "port", "web", "80").out == "[::]:49152\n"
    ran = stack("-p", "shop", "port", "web", "443")
    assert ran.code == 1
    assert "published are 80/tcp" in ran.err
    assert stack("-p", "shop", "port", "web", "http").code == 16
    bindings = [
        Binding(host_ip=ip, host_port=port, container_port=target, protocol=kind)
        for target, port, kind in ((80, 8080, "tcp"), (53, 5353, "udp"))
        for ip in ("::", "0.0.0.0")
    ]
    engine.containers = [make_container(bindings=tuple(bindings))]
    # One line, whatever there is: it is put into a URL.
    assert stack("-p", "shop", "port", "web", "80").out == "0.0.0.0:8080\n"
    assert stack("-p", "shop", "port", "--protocol", "UDP", "web", "53").out == "0.0.0.0:5353\n"
    assert stack("-p", "shop", "port", "web", "53/UDP").out == "0.0.0.0:5353\n"
    assert stack("-p", "shop", "port", "web", "80/Tcp").out == "0.0.0.0:8080\n"
    assert stack("-p", "shop", "port", "web", "80/sctp").code == 16
    shown = "53/udp -> [::]:5353\n53/udp -> 0.0.0.0:5353\n"
    assert stack("-p", "shop", "port", "--protocol", "udp", "web").out == shown
    assert stack("-p", "shop", "port", "web").out == "80/tcp -> [::]:8080\n80/tcp -> 0.0.0.0:8080\n" + shown


def test_pause_and_signals(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [make_container()]
    assert stack("-p", "shop", "kill", "-s", "hup").code == 0
    assert engine.asked[-1] == ("kill", engine.containers[0].id, "SIGHUP")
    ran = stack("-p", "shop", "kill", "-s", "SIGHUB")
    assert ran.code == 16
    assert "did you mean SIGHUP" in ran.err
    assert stack("-p", "shop", "pause").code == 0
    assert engine.asked[-1] == ("pause", engine.containers[0].id, True)
    assert stack("-p", "shop", "unpause", "web").code == 1
    engine.containers = [
        make_container("a", status="paused"),
        make_container("b"),
        make_container("c", status="exited"),
    ]
    ran = stack("-p", "shop", "pause")
    assert (ran.code, "shop-a-1 is already paused" in ran.err) == (1, True)
    assert engine.asked[-1] == ("pause", engine.containers[1].id, True), "the others are frozen all the same"
    assert stack("-p", "shop", "unpause", "c").code == 0
    ran = stack("-p", "shop", "kill", "c")
    assert (ran.code, ran.err) == (0, "no container to kill\n")


def test_wait_has_the_exit_code(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [make_container("job", status="exited", exit_code=4, finished_at=NOW)]
    ran = stack("-p", "shop", "wait", "job")
    assert (ran.code, ran.out) == (4, "4\n")


def test_ls(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [
        make_container(),
        make_container("job", status="exited", exit_code=0),
        make_container("old", project="attic", status="exited"),
    ]
    ran = stack("ls")
    assert ran.out.splitlines()[1].split() == ["shop", "exited(1),", "running(1)"]
    assert stack("ls", "-aq").out == "attic\nshop\n"
    assert [row["Name"] for row in json.loads(stack("ls", "-a", "--format", "json").out)] == ["attic", "shop"]
    assert stack("ls", "-q", "--filter", "name=nothing").out == ""


def test_doctor_fails_only_for_what_is_needed(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.findings = [Finding(name="crun", state="ok", detail="1.8"), Finding(name="ipv6", state="warning", detail="")]
    assert stack("doctor").code == 0
    engine.findings.append(Finding(name="conmon", state="missing", detail="", hint="apt-get install conmon"))
    ran = stack("doctor")
    assert ran.code == 1
    assert "hint: apt-get install conmon" in ran.out


def test_doctor_looks_at_projects_and_ports(
    stack: Callable[..., Ran], engine: ShelfEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.chdir(tmp_path)
    engine.containers = [make_container()]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "compose.yaml").write_text(f"services: {{web: {{image: x, ports: ['127.0.0.1:{port}:80']}}}}")
        ran = stack("doctor")
    assert ran.code == 0
    assert "shop: nobody supervises it" in ran.out
    assert f"{port}/tcp, which web publishes, is taken by " in ran.out
    assert "all 1 published ports are free" in stack("doctor").out
    (tmp_path / "compose.yaml").write_text("services: {web: {imagee: x}}")
    ran = stack("doctor")
    assert (ran.code, "compose.yaml:1:18" in ran.out) == (1, True)


def test_version(stack: Callable[..., Ran]) -> None:
    assert stack("version", "--short").out == f"{orchestrator.__version__}\n"
    assert stack("--version").out == f"stack version {orchestrator.__version__}\n"
    assert json.loads(stack("version", "-f", "json").out) == {"version": orchestrator.__version__}


def test_output_without_buffers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-u", "-m", "orchestrator", "version", "--short"],
        env={**os.environ, "STACK_STATE_DIR": str(tmp_path), "STACK_RUN_DIR": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{orchestrator.__version__}\n", "")


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("image",), ("up", "-h"), ("image", "ls", "--help")])
def test_help_is_no_error(stack: Callable[..., Ran], words: tuple[str, ...]) -> None:
    ran = stack(*words)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Usage: stack")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pss",), "no such command: pss\n  hint: did you mean ps?"),
        (("up", "--detatch"), "no such option: --detatch\n  hint: did you mean --detach?"),
        (("up", "--warch"), "no such option: --warch\n  hint: did you mean --watch?"),
        (("exec",), "missing argument 'SERVICE'"),
        (("--ansi", "pink", "ps"), "pink"),
        (("image", "lst"), "no such command: image lst\n  hint: did you mean ls?"),
        (("ps", "-t"), "no such option: -t"),
    ],
)
def test_usage_errors_end_with_16(stack: Callable[..., Ran], words: tuple[str, ...], message: str) -> None:
    ran = stack(*words)
    assert ran.code == 16
    assert ran.err.startswith("error[usage]: ")
    assert message in ran.err
    assert ran.out == ""


def test_no_traceback_ever(stack: Callable[..., Ran], engine: ShelfEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "projects", lambda: 1 / 0)
    ran = stack("ls")
    assert ran.code == 1
    assert "error[internal-error]: internal error: ZeroDivisionError" in ran.err
    assert "Traceback" not in ran.err
    place = ran.err.split("the details are in ")[1].strip()
    with open(place) as file:
        assert "Traceback" in file.read()
    monkeypatch.setenv("STACK_DEBUG", "1")
    assert "Traceback" in stack("ls").err
