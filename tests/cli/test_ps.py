"""``stack ps``: columns, filters, formats, and a project that is known by its name alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.state import Binding

from .conftest import NOW, Ran, ShelfEngine, make_container


def test_shows_composes_columns(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [
        make_container(
            bindings=(
                Binding(host_ip="0.0.0.0", host_port=8080, container_port=80),
                Binding(host_ip="::", host_port=8080, container_port=80),
            )
        )
    ]
    ran = stack("-p", "shop", "ps")
    assert ran.code == 0
    head, row = ran.out.splitlines()
    assert head.split("   ")[0].strip() == "NAME"
    assert [word for word in head.split("  ") if word][-1].strip() == "PORTS"
    assert row.startswith('shop-web-1   busybox   "httpd -f -p 8080"   web       10 minutes ago   Up 5 minutes   ')
    assert row.endswith("0.0.0.0:8080->80/tcp, [::]:8080->80/tcp")


def test_stopped_containers_only_with_all_or_status(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    ended = make_container("job", status="exited", exit_code=3, finished_at=NOW - 5)
    engine.containers = [make_container(), ended]
    assert "job" not in stack("-p", "shop", "ps").out
    assert "Exited (3) 5 seconds ago" in stack("-p", "shop", "ps", "-a").out
    for words in (("--status", "exited"), ("--filter", "status=exited")):
        assert stack("-p", "shop", "ps", *words, "--services").out == "job\n"
    assert stack("-p", "shop", "ps", "-q").out == f"{engine.containers[0].id}\n"


def test_the_format_of_dockers_settings(
    stack: Callable[..., Ran], engine: ShelfEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.containers = [make_container()]
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for text, expected in (
        ('{"psFormat": "{{.Service}} is {{.State}}"}', "web is running\n"),
        ('{"psFormat": ""}', "NAME "),
        ('["psFormat"]', "NAME "),
    ):
        (tmp_path / "config.json").write_text(text)
        assert stack("-p", "shop", "ps").out.startswith(expected)
    (tmp_path / "config.json").write_text('{"psFormat": "x"}')
    assert stack("-p", "shop", "ps", "--format", "{{.Name}}").out == "shop-web-1\n"


def test_unknown_status_service_and_filter(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [make_container()]
    ran = stack("-p", "shop", "ps", "--status", "runing")
    assert ran.code == 16
    assert "did you mean running?" in ran.err
    ran = stack("-p", "shop", "ps", "wep")
    assert ran.code == 1
    assert "error[no-such-service]: no such service: wep" in ran.err
    assert "did you mean web?" in ran.err
    assert stack("-p", "shop", "ps", "--filter", "colour=red").code == 16


def test_json_is_one_object_a_line_with_composes_fields(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [
        make_container(health="healthy", bindings=(Binding(host_ip="0.0.0.0", host_port=8080, container_port=80),)),
        make_container(number=2),
    ]
    rows = [json.loads(line) for line in stack("-p", "shop", "ps", "--format", "json").out.splitlines()]
    assert [row["Name"] for row in rows] == ["shop-web-1", "shop-web-2"]
    first = rows[0]
    assert first["Health"] == "healthy"
    assert first["Status"] == "Up 5 minutes (healthy)"
    assert first["State"] == "running"
    assert first["Publishers"] == [{"URL": "0.0.0.0", "TargetPort": 80, "PublishedPort": 8080, "Protocol": "tcp"}]
    assert first["ExitCode"] == 0


def test_templates(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    engine.containers = [make_container()]
    assert stack("-p", "shop", "ps", "--format", "{{.Name}}={{ .State | upper }}").out == "shop-web-1=RUNNING\n"
    assert stack("-p", "shop", "ps", "--format", "{{json .Service}}").out == '"web"\n'
    assert stack("-p", "shop", "ps", "--format", r"table {{.Name}}\t{{.Service}}").out == (
        "NAME         SERVICE\nshop-web-1   web\n"
    )
    ran = stack("-p", "shop", "ps", "--format", "{{.Nam}}")
    assert ran.code == 16
    assert "there is no field .Nam" in ran.err
    assert stack("-p", "shop", "ps", "--format", "{{range .}}").code == 16


def test_neighbouring_ports_are_one_range(stack: Callable[..., Ran], engine: ShelfEngine) -> None:
    bindings = tuple(Binding(host_ip="127.0.0.1", host_port=9000 + n, container_port=80 + n) for n in range(3))
    engine.containers = [make_container(bindings=bindings, config={"expose": ["443", "80"]})]
    assert stack("-p", "shop", "ps", "--format", "{{.Ports}}").out == "127.0.0.1:9000-9002->80-82/tcp, 443/tcp\n"
