"""What is answered from memory: only what nothing has changed about."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import evidence
from orchestrator.actions import memory
from orchestrator.actions.project import ProjectOptions, load_again
from orchestrator.cli import again, recalled

from .conftest import Ran

TEXT = "name: shop\nservices: {web: {image: 'x:${TAG:-1}', env_file: web.env, container_name: $NAME}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stack that was written some time ago."""
    made = tmp_path / "shop"
    made.mkdir()
    monkeypatch.chdir(made)
    monkeypatch.setenv("NAME", "one")
    write(made / "compose.yaml", TEXT)
    write(made / "web.env", "A=1\n")
    return made


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one each time the loader is asked."""
    import orchestrator.spec.loader as loader

    seen: list[str] = []
    real = loader.load_stack

    def load(*words: object) -> object:
        seen.append("load")
        return real(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(loader, "load_stack", load)
    return seen


def write(file: Path, text: str) -> None:
    """Write a file, and wait until its times tell it from whatever is written later."""
    file.write_text(text)
    while time.time_ns() - file.stat().st_ctime_ns <= evidence._TICK:
        time.sleep(0.005)


def test_the_code_that_makes_an_answer_is_where_it_is_looked_for() -> None:
    package = Path(memory.__file__).parents[1]
    assert not [name for name in (*memory._CODE, *again._CODE, *recalled._BUILDING) if not (package / name).exists()]


def test_config_answers_from_memory(stack: Callable[..., Ran], folder: Path, loads: list[str]) -> None:
    first = stack("config")
    assert "image: x:1" in first.out
    assert (stack("config").out, stack("config", "--services").out) == (first.out, "web\n")
    assert stack("config", "--services").out == "web\n"
    assert len(loads) == 2
    # What is written elsewhere, or not at all, is no answer.
    assert stack("config", "-q").out == ""
    assert stack("config", "-q").out == ""
    assert stack("config", "-o", "out.yaml").out == ""
    (folder / "out.yaml").unlink()
    assert stack("config", "-o", "out.yaml").out == ""
    assert (folder / "out.yaml").read_text() == first.out


@pytest.mark.parametrize(
    "change",
    [
        lambda folder, environment: write(folder / "compose.yaml", TEXT.replace("web:", "api:")),
        lambda folder, environment: write(folder / "web.env", "A=2\n"),
        lambda folder, environment: write(folder / ".env", "TAG=2\n"),
        lambda folder, environment: write(folder / "compose.override.yaml", "services: {web: {tty: true}}\n"),
        lambda folder, environment: write(folder / "stack.yaml", TEXT.replace("shop", "other")),
        lambda folder, environment: environment.setenv("TAG", "3"),
        lambda folder, environment: environment.setenv("NAME", "two"),
        lambda folder, environment: (folder / "web.env").unlink(),
    ],
    ids=["file", "env-file", "dotenv", "override", "better-name", "variable", "other-variable", "missing"],
)
def test_every_change_is_noticed(
    stack: Callable[..., Ran],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    before = stack("config")
    assert stack("config").out == before.out
    change(folder, monkeypatch)
    assert stack("config").out != before.out


def test_a_change_that_keeps_size_and_time_is_noticed(stack: Callable[..., Ran], folder: Path) -> None:
    file = folder / "compose.yaml"
    about = file.stat()
    before = stack("config").out
    write(file, TEXT.replace("x:$", "y:$"))
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert stack("config").out == before.replace("image: x", "image: y")


def test_what_is_warned_of_is_warned_of_again(stack: Callable[..., Ran], folder: Path) -> None:
    write(folder / "compose.yaml", "services: {web: {image: 'x$UNSET', restart: allways}}\n")
    for _ in range(2):
        assert stack("config").err.count("warning") == 2


def test_files_that_were_just_written_are_not_remembered(
    stack: Callable[..., Ran], folder: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_TICK", 10**12)
    assert stack("config").out == stack("config").out
    assert len(loads) == 2


def test_a_stack_from_memory_is_the_same(stack: Callable[..., Ran], folder: Path, loads: list[str]) -> None:
    first, again = load_again(ProjectOptions()), load_again(ProjectOptions())
    assert len(loads) == 1
    assert again.stack is not None
    assert first.stack is not None
    assert (again.stack.services, again.stack.tree) == (first.stack.services, first.stack.tree)
    assert (again.name, again.services) == (first.name, first.services)
    place = ("services", "web", "image")
    assert again.stack.sources.locate(place) == first.stack.sources.locate(place)


def test_a_broken_memory_is_no_memory(stack: Callable[..., Ran], folder: Path) -> None:
    before = stack("config").out
    kept = [one for one in Path(memory._folder()).iterdir() if one.name.startswith("config-")]
    assert len(kept) == 1
    assert kept[0].stat().st_mode & 0o777 == 0o600
    for content in (kept[0].read_bytes()[:-1], b"", b"stack 0\n\nx"):
        kept[0].write_bytes(content)
        assert stack("config").out == before


def test_old_answers_are_forgotten(stack: Callable[..., Ran], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MANY", 3)
    for name in "abcdef":
        stack("-p", name, "config")
    assert len(list(Path(memory._folder()).iterdir())) <= 3
