"""Which project is meant: by its name alone, by its file, by what is remembered of the file, never by stale memory."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import evidence

from .conftest import Ran, ShelfEngine, make_container


def write(file: Path, text: str) -> None:
    """Write a file, and wait until its times tell it from whatever is written later: sooner it is not remembered."""
    file.write_text(text)
    while time.time_ns() - file.stat().st_ctime_ns <= evidence._TICK:
        time.sleep(0.005)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory called shop."""
    made = tmp_path / "shop"
    made.mkdir()
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one name each time the loader is asked."""
    import orchestrator.spec.loader as loader

    seen: list[str] = []
    real = loader.load_stack

    def load(*words: object) -> object:
        loaded = real(*words)  # type: ignore[arg-type]
        seen.append(loaded.stack.name)
        return loaded

    monkeypatch.setattr(loader, "load_stack", load)
    return seen


def test_no_file_and_wrong_files_have_their_exit_codes(stack: Callable[..., Ran], folder: Path) -> None:
    ran = stack("ps")
    assert ran.code == 14
    assert "error[file-not-found]: there is no stack file" in ran.err
    assert stack("-f", "nowhere.yaml", "config").code == 14
    (folder / "compose.yaml").write_text("services: {web: {image: x, prots: []}}\n")
    ran = stack("config", "-q")
    assert ran.code == 15
    assert "compose.yaml:1:" in ran.err
    assert "did you mean" in ran.err
    assert stack("ps").code == 15
    # A name alone asks for no file.
    assert stack("-p", "shop", "ps").code == 0


def test_the_name_of_the_environment_serves_where_there_is_no_file(
    stack: Callable[..., Ran], engine: ShelfEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.containers = [make_container()]
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "shop")
    assert stack("ps", "--services").out == "web\n"


def test_a_folder_is_read_once_and_again_when_anything_changed(
    stack: Callable[..., Ran],
    engine: ShelfEngine,
    folder: Path,
    loads: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = folder / "compose.yaml"
    write(file, "name: ${NAME:-shop}\nservices: {web: {image: x}, debug: {image: x, profiles: [d]}}\n")
    engine.containers = [make_container()]
    assert stack("ps", "--services").out == "web\n"
    assert stack("ps", "--services").out == "web\n"
    assert stack("ps", "web").code == 0
    assert stack("ps", "debug").code == 0
    assert stack("logs", "wbe").code == 1
    assert loads == ["shop"]
    # Another environment, another .env, an override, another file content: each is noticed.
    monkeypatch.setenv("NAME", "two")
    assert stack("ps", "--services").out == ""
    assert loads == ["shop", "two"]
    monkeypatch.delenv("NAME")
    write(folder / ".env", "NAME=three\n")
    stack("ps")
    write(folder / "compose.override.yaml", "name: four\n")
    stack("ps")
    (folder / "compose.override.yaml").unlink()
    (folder / ".env").unlink()
    write(file, "name: five\nservices: {web: {image: x}}\n")
    stack("ps")
    stack("-f", "compose.yaml", "ps")
    stack("--profile", "d", "ps")
    assert loads == ["shop", "two", "three", "four", "five", "five", "five"]
    # What has become wrong is said, not remembered.
    file.write_text("services: 1\n")
    assert stack("ps").code == 15


def test_orphans_can_be_left_out(stack: Callable[..., Ran], engine: ShelfEngine, folder: Path) -> None:
    (folder / "compose.yaml").write_text("services: {web: {image: x}}\n")
    engine.containers = [make_container(), make_container("old")]
    for _ in range(2):
        assert stack("ps", "--services").out == "old\nweb\n"
        assert stack("ps", "--services", "--no-orphans").out == "web\n"


def test_config(stack: Callable[..., Ran], engine: ShelfEngine, folder: Path) -> None:
    (folder / "compose.yaml").write_text(
        "services:\n  web: {image: 'x:${TAG:-1}', depends_on: [db]}\n  db: {image: y, volumes: ['data:/d']}\n"
        "  debug: {image: z, profiles: [d]}\nvolumes: {data: {}}\n"
    )
    assert stack("config", "--services").out == "db\nweb\n"
    assert stack("config", "--images").out == "x:1\ny\n"
    assert stack("config", "--volumes").out == "data\n"
    assert stack("config", "--profiles").out == "d\n"
    assert json.loads(stack("config", "--format", "json").out)["services"]["web"]["image"] == "x:1"
    assert "${TAG:-1}" in stack("config", "--no-interpolate").out
    assert stack("config", "-q").out == ""
    assert [line.split()[0] for line in stack("config", "--hash", "*").out.splitlines()] == ["db", "web"]
    assert stack("config", "-o", "out.yaml").out == ""
    assert (folder / "out.yaml").read_text() == stack("config").out
    shown = json.loads(stack("config", "--format", "json", "db").out)
    assert list(shown["services"]) == ["db"]
    assert stack("config", "bd").code == 1
    assert "COMPOSE_PROJECT_NAME=shop\n" in stack("config", "--environment").out
