"""What commands that could not finish have left of a project, and what they do to each other."""

from __future__ import annotations

import sqlite3

import pytest

from orchestrator.engines.native.container import load_spec
from orchestrator.engines.native.engine import NativeEngine
from orchestrator.engines.native.layout import Layout
from orchestrator.errors import NotFound

from .conftest import Project

SLEEPER = 'services: {web: {image: busybox, init: true, command: [sleep, "1000"]}}\n'


def test_down_removes_what_a_supervisor_could_only_begin_with(project: Project) -> None:
    """Its disk was full, say: nothing of the project is there but a folder, and its log."""
    project.write(SLEEPER)
    state = project.machine.state / "projects" / project.name
    run = project.machine.run_dir / "projects" / project.name
    for folder in (state, run):
        folder.mkdir(parents=True)
    (run / "supervisor.log").write_text("no space left on device\n")
    assert "No resource found" in project.run("down").err
    assert not state.exists()
    assert not run.exists()


def test_a_container_is_removed_by_another_process_while_it_is_being_started(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(SLEEPER)
    project.succeed("create")
    (container,) = project.containers("--no-trunc").values()
    engine = NativeEngine(Layout(project.machine.state, project.machine.run_dir))

    def start(row: sqlite3.Row, spec: object) -> None:
        assert load_spec(row) == spec
        project.succeed("rm", "-f")
        raise FileNotFoundError(2, "its folder is gone")

    monkeypatch.setattr(engine.lifecycle, "_start_process", start)
    with pytest.raises(NotFound, match="web-1 was removed while it was being started"):
        engine.start_container(container["ID"])
    engine.store.close()
