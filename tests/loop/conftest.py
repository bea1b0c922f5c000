from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk_engine import DiskEngine

from orchestrator.engines.native.layout import Layout
from orchestrator.supervision.launch import Prepared


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("STACK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACK_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("STACK_ENGINE", "disk_engine:DiskEngine")
    monkeypatch.setenv("DISK_ENGINE_DIR", str(tmp_path / "engine"))
    return Layout.from_environment()


@pytest.fixture
def disk(place: Layout) -> DiskEngine:
    return DiskEngine()


def find_processes(marker: Path) -> list[int]:
    """Every keeper and supervisor that was started with this test's directories."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(marker).encode() in environment:
                found.append(int(entry.name))
    return found


@pytest.fixture(autouse=True)
def no_process_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import orchestrator.supervision.client
    import orchestrator.supervision.launch

    made: list[Prepared] = []
    really = orchestrator.supervision.launch.prepare

    def prepare(engine: str | None = None) -> Prepared:
        made.append(really(engine))
        return made[-1]

    monkeypatch.setattr(orchestrator.supervision.launch, "prepare", prepare)
    monkeypatch.setattr(orchestrator.supervision.client, "prepare", prepare)
    yield
    left = []
    for one in made:
        one.close()
        if not _ends(one.keeper):
            left.append(one.keeper)
            os.killpg(one.keeper, 9)
            os.waitpid(one.keeper, 0)
    assert not left, f"keepers still there: {left}"


def _ends(pid: int) -> bool:
    import select

    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        waiting = select.poll()
        waiting.register(process, select.POLLIN)
        if not waiting.poll(5000):
            return False
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass
    finally:
        os.close(process)
    return True
