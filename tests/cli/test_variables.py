"""Compose's own variables, in the environment or in ``.env``: what they change, and what counts more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.menu import wants_menu
from orchestrator.cli.progress import find_status_stream

from .conftest import Ran

TEXT = "services: {web: {image: 'web:${TAG:-none}', profiles: [extra]}, db: {image: 'db:${TAG:-none}'}}\n"
Stack = Callable[..., Ran]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "shop"
    made.mkdir()
    (made / "compose.yaml").write_text(TEXT)
    (made / ".env").write_text("TAG=dot\n")
    (made / "a.env").write_text("TAG=a\n")
    (made / "b.env").write_text("TAG=b\n")
    monkeypatch.chdir(made)
    return made


def images(stack: Stack, *words: str) -> list[str]:
    ran = stack(*words, "config", "--images")
    assert ran.code == 0, ran.err
    return ran.out.split()


def test_env_files(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    assert images(stack) == ["db:dot"]
    monkeypatch.setenv("COMPOSE_ENV_FILES", "a.env,b.env")
    assert images(stack) == ["db:b"]
    assert images(stack, "--env-file", "a.env") == ["db:a"]
    monkeypatch.setenv("TAG", "shell")
    assert images(stack) == ["db:shell"]
    monkeypatch.setenv("COMPOSE_ENV_FILES", "nowhere.env")
    ran = stack("config")
    assert (ran.code, "nowhere.env" in ran.err) == (14, True)


@pytest.mark.parametrize("value", ["1", "true", "TRUE"])
def test_without_the_env_file(stack: Stack, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("COMPOSE_DISABLE_ENV_FILE", value)
    assert images(stack) == ["db:none"]
    assert images(stack, "--env-file", "a.env") == ["db:a"]


def test_with_the_env_file_after_all(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_DISABLE_ENV_FILE", "0")
    assert images(stack) == ["db:dot"]


def test_profiles(stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("COMPOSE_PROFILES=extra\n")
    assert images(stack) == ["db:none", "web:none"]
    monkeypatch.setenv("COMPOSE_PROFILES", "other,more")
    assert images(stack) == ["db:none"]
    assert images(stack, "--profile", "extra") == ["db:none", "web:none"]


def test_files_and_their_separator(stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "more.yaml").write_text("services: {cache: {image: cache}}\n")
    monkeypatch.setenv("COMPOSE_FILE", "compose.yaml:more.yaml")
    assert images(stack) == ["cache", "db:dot"]
    monkeypatch.setenv("COMPOSE_FILE", "compose.yaml;more.yaml")
    monkeypatch.setenv("COMPOSE_PATH_SEPARATOR", ";")
    assert images(stack) == ["cache", "db:dot"]
    assert images(stack, "-f", "more.yaml") == ["cache"]


def test_windows_paths_are_for_windows(stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux no path has a drive, and Compose itself changes nothing there either."""
    (folder / "compose.yaml").write_text(r"services: {web: {image: x, volumes: ['C:\data:/data', './here:/here']}}")
    plain = stack("config", "--format", "json")
    monkeypatch.setenv("COMPOSE_CONVERT_WINDOWS_PATHS", "1")
    assert stack("config", "--format", "json") == plain
    assert json.loads(plain.out)["services"]["web"]["volumes"][1]["source"] == str(folder / "here")


def test_colours(stack: Stack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "compose.yaml").write_text("services: {web: {imagee: x}}\n")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COMPOSE_ANSI", "always")
    assert "\x1b[" in stack("config").err
    assert "\x1b[" not in stack("--ansi", "never", "config").err
    monkeypatch.setenv("COMPOSE_ANSI", "never")
    assert "\x1b[" not in stack("config").err
    assert "\x1b[" in stack("--ansi", "always", "config").err


@pytest.mark.parametrize("variable", ["COMPOSE_ANSI", "COMPOSE_PROGRESS"])
def test_what_is_no_choice(stack: Stack, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "loud")
    ran = stack("config", "-q")
    assert ran.code == 16
    assert variable in ran.err
    assert "loud" in ran.err


def test_where_the_status_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delenv("COMPOSE_STATUS_STDOUT", raising=False)
    assert find_status_stream() is sys.stderr
    for value, stream in (("1", sys.stdout), ("true", sys.stdout), ("0", sys.stderr), ("", sys.stderr)):
        monkeypatch.setenv("COMPOSE_STATUS_STDOUT", value)
        assert find_status_stream() is stream


def test_the_menu(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("COMPOSE_MENU", raising=False)
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setattr("orchestrator.cli.menu._has_keyboard", lambda: True)
    assert not wants_menu(None)
    monkeypatch.setenv("COMPOSE_MENU", "true")
    assert wants_menu(None)
    assert not wants_menu(False)
    monkeypatch.setenv("COMPOSE_MENU", "0")
    assert not wants_menu(None)
    assert wants_menu(True)
