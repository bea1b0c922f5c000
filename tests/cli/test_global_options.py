"""Options before the command, and the older name of ``config``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.options import spell_options

from .conftest import Ran

TEXT = """
services:
  web: {image: "web:${TAG:-none}", profiles: [extra]}
  db: {image: db, volumes: ["data:/d"]}
volumes: {data: {}, spare: {}}
networks: {spare: {}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "shop"
    made.mkdir()
    (made / "compose.yaml").write_text(TEXT)
    (made / "other.env").write_text("TAG=7\n")
    monkeypatch.chdir(made)
    return made


def test_where_variables_and_paths_come_from(stack: Callable[..., Ran], folder: Path) -> None:
    words = ("--profile", "extra", "--env-file", "other.env")
    assert stack(*words, "config", "--images").out == "db\nweb:7\n"
    (folder / "else.yaml").write_text("services: {a: {image: a, volumes: ['./x:/x']}}")
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    ran = stack("-f", str(folder / "else.yaml"), "--project-directory", str(elsewhere), "config", "--format", "json")
    shown = json.loads(ran.out)
    assert shown["services"]["a"]["volumes"][0]["source"] == str(elsewhere / "x")
    assert shown["name"] == "elsewhere"


def test_resources_that_nobody_uses(stack: Callable[..., Ran]) -> None:
    assert stack("config", "--volumes").out == "data\n"
    assert stack("config", "--networks").out == "default\n"
    assert stack("--all-resources", "config", "--volumes").out == "data\nspare\n"
    assert stack("--all-resources", "config", "--networks").out == "default\nspare\n"


def test_parallel_is_a_number(stack: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    assert stack("--parallel", "-1", "config", "-q").code == 0
    assert stack("--parallel", "-2", "config", "-q").code == 16
    monkeypatch.setenv("COMPOSE_PARALLEL_LIMIT", "many")
    ran = stack("config", "-q")
    assert (ran.code, "COMPOSE_PARALLEL_LIMIT=many is not a number" in ran.err) == (16, True)


@pytest.mark.parametrize(
    "words",
    [
        (), ("--format", "json"), ("--hash", "*"), ("--images",), ("--no-consistency",), ("--no-interpolate",),
        ("--no-normalize",), ("--profiles",), ("-q",), ("--services",), ("--volumes",),
    ],
)  # fmt: skip
def test_convert_is_config(stack: Callable[..., Ran], words: tuple[str, ...]) -> None:
    old, new = stack("convert", *words), stack("config", *words)
    assert (old.code, old.out) == (new.code, new.out)
    assert old.code == 0


def test_convert_writes_and_pins(stack: Callable[..., Ran], folder: Path) -> None:
    assert stack("convert", "-o", "out.yaml").code == 0
    assert (folder / "out.yaml").read_text() == stack("config").out
    # Nothing can be pinned here; both names say so alike.
    old, new = stack("convert", "--resolve-image-digests"), stack("config", "--resolve-image-digests")
    assert (old.code, old.err) == (new.code, new.err)
    assert stack("convert", "--variables").code == 16


def test_letters_take_a_value_behind_an_equals_sign(stack: Callable[..., Ran], folder: Path) -> None:
    (folder / "compose.yaml").rename(folder / "=odd.yaml")
    assert stack("-f==odd.yaml", "-p=other", "config", "--services").out == "db\n"
    written = stack("-f==odd.yaml", "-p=other", "config", "-qo=out.yaml")
    assert (written.code, written.out) == (0, "")
    assert json.loads(stack("-f==odd.yaml", "-p=other", "config", "--format=json").out)["name"] == "other"


def test_words_that_are_handed_on_stay_as_they_are() -> None:
    from click import Command, Option

    options = [Option(["-t", "--timeout"]), Option(["-d", "--detach"], is_flag=True), Option(["-e", "--env"])]
    settings = {"allow_interspersed_args": False}
    command = Command("run", params=list(options), context_settings=settings)
    words = ["-dt=0", "-e=A=b", "-eC=d", "--env=E=f", "-d=false", "web", "-t=0", "--detach=false"]
    wanted = ["-dt0", "-eA=b", "-eC=d", "--env=E=f", "web", "-t=0", "--detach=false"]
    assert spell_options(command, words) == wanted


def test_flags_take_a_value_too(stack: Callable[..., Ran]) -> None:
    assert stack("convert", "--services=true").out == "db\n"
    assert stack("convert", "--services=false", "--volumes").out == "data\n"
    assert stack("convert", "--services=maybe").code == 16
