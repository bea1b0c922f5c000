"""The command line in this process, on an engine of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from orchestrator.engines.base import Change, ExecRequest, Finding, LogLine
from orchestrator.errors import Diagnostic
from orchestrator.state import Container, ObservedState

NOW = 1_800_000_000.0


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def make_container(service: str = "web", number: int = 1, **values: object) -> Container:
    """A running container of project ``shop``."""
    fields: dict[str, object] = {
        "id": f"{service}{number}".ljust(64, "0"),
        "name": f"shop-{service}-{number}",
        "project": "shop",
        "service": service,
        "number": number,
        "image": "busybox",
        "image_id": "sha256:" + "1" * 64,
        "status": "running",
        "created_at": NOW - 600,
        "started_at": NOW - 300,
        "command": ("httpd", "-f", "-p", "8080"),
    }
    return Container(**{**fields, **values})  # type: ignore[arg-type]


class ShelfEngine:
    """An engine that shows the containers it was given, and remembers what it was asked to do."""

    name = "shelf"

    def __init__(self) -> None:
        self.containers: list[Container] = []
        self.lines: list[LogLine] = []
        self.findings: list[Finding] = []
        self.asked: list[tuple[object, ...]] = []
        self.exec_code = 0
        self.folders: dict[str, list[str]] = {}
        self.on_warning: Callable[[Diagnostic], None] = lambda _one: None

    def observe(self, project: str, stack: object = None) -> ObservedState:
        return ObservedState(project=project, containers=tuple(c for c in self.containers if c.project == project))

    def projects(self) -> Sequence[str]:
        return sorted({one.project for one in self.containers})

    def read_logs(self, containers: Sequence[Container], **options: object) -> Iterable[LogLine]:
        self.asked.append(("logs", options))
        names = {one.id for one in containers}
        return iter([one for one in self.lines if one.container in names])

    def exec_attached(self, container: Container, request: ExecRequest) -> int:
        self.asked.append(("exec", container.name, request))
        return self.exec_code

    def list_folder(self, container: Container, path: str) -> Sequence[str]:
        return self.folders.get(path, [])

    def kill_container(self, container_id: str, signal: str = "SIGKILL") -> None:
        self.asked.append(("kill", container_id, signal))

    def prepare_container(self, container_id: str) -> None:
        """There is nothing to prepare."""

    def unprepare_container(self, container_id: str) -> None:
        """There was nothing to prepare."""

    def stop_container(self, container_id: str, *, timeout: float | None = None, hold: bool = True) -> None:
        self.asked.append(("stop", container_id, timeout, hold))

    def pause_container(self, container_id: str, *, paused: bool) -> None:
        self.asked.append(("pause", container_id, paused))

    def watch(self, project: str, notify: Callable[[Change], None]) -> Callable[[], None]:
        return lambda: None

    def diagnose(self, *, fix: bool = False) -> Sequence[Finding]:
        return self.findings

    def check(self, stack: object) -> Sequence[object]:
        """Nothing is beyond this engine."""
        return ()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ShelfEngine:
    """The engine that commands of this test talk to; state and run directories are the test's own."""
    made = ShelfEngine()
    monkeypatch.setattr("orchestrator.actions.engine.open_engine", lambda: made)
    monkeypatch.setenv("STACK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACK_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setattr("time.time", lambda: NOW)
    return made


@pytest.fixture
def stack(engine: ShelfEngine, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process: exit code, stdout, stderr."""
    from orchestrator.cli.main import main

    def run(*words: str) -> Ran:
        capsys.readouterr()
        code = main(list(words))
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run
