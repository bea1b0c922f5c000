"""``stack graph``: what needs what, as text, as data and as a picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Ran

SHOP = """\
name: shop
services:
  web: {image: "nginx:1", depends_on: {api: {condition: service_healthy}, db: {condition: service_started}}}
  api:
    image: api
    scale: 2
    healthcheck: {test: [CMD, x], interval: 5s}
    depends_on:
      db: {condition: service_healthy}
      setup: {condition: service_completed_successfully}
      trace: {condition: service_started, required: false}
  setup: {build: ., links: [db]}
  db: {image: 'odd"<&name', healthcheck: {test: [CMD, x], interval: 10s}}
  trace: {image: trace}
  alone: {image: alone}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "shop"
    made.mkdir()
    monkeypatch.chdir(made)
    (made / "compose.yaml").write_text(SHOP)
    return made


def test_tree(stack: Callable[..., Ran]) -> None:
    ran = stack("graph")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "alone  alone\n"
        "web  nginx:1\n"
        "└── api  (healthy)  api ×2\n"
        '    ├── db  (healthy)  odd"<&name\n'
        "    ├── setup  (completed)  built here\n"
        '    │   └── db  odd"<&name\n'
        "    └── trace  (optional)  trace\n"
        "\n"
        "longest chain: db → api → web (its health checks take 15 s at least)\n"
    )
    # web needs api, which waits for db: that web needs db as well says nothing new.
    assert '├── db  odd"<&name\n' not in ran.out
    assert 'db  odd"<&name\n' in stack("graph", "--all").out.split("setup")[1]
    assert stack("graph", "setup").out == 'setup  built here\n└── db  odd"<&name\n'
    assert stack("graph", "wbe").code == 1


def test_what_was_shown_is_not_shown_again(stack: Callable[..., Ran], folder: Path) -> None:
    (folder / "compose.yaml").write_text(
        "services: {a: {image: x, depends_on: [b, c]}, b: {image: x, depends_on: [d]}, "
        "c: {image: x, depends_on: [d]}, d: {image: x, depends_on: [e]}, e: {image: x}}\n"
    )
    lines = stack("graph").out.splitlines()
    assert lines[:6] == [
        "a  x",
        "├── b  x",
        "│   └── d  x",
        "│       └── e  x",
        "└── c  x",
        "    └── d  x  (*)",
    ]


def test_dot_and_mermaid(stack: Callable[..., Ran]) -> None:
    lines = stack("graph", "--format", "dot").out.splitlines()
    assert lines[0] == 'digraph "shop" {'
    assert '  "db" [label="db\\nodd\\"<&name"];' in lines
    assert '  "api" -> "trace" [label="optional", style=dashed];' in lines
    assert '  "web" -> "db";' not in lines
    assert lines[-1] == "}"
    assert '  "web" -> "db";' in stack("graph", "--format", "dot", "--all").out.splitlines()
    lines = stack("graph", "--format", "mermaid").out.splitlines()
    assert lines[0] == "flowchart TD"
    assert '  s2["db<br>odd#34;#60;#38;name"]' in lines
    assert "  s1 -.->|optional| s4" in lines
    assert "  s5 -->|healthy| s1" in lines


def test_json(stack: Callable[..., Ran]) -> None:
    shown = json.loads(stack("graph", "--format", "json").out)
    assert shown["critical_path"] == {"services": ["db", "api", "web"], "seconds": 15.0}
    assert {one["name"]: one["wave"] for one in shown["services"]} == {
        "alone": 0, "api": 2, "db": 0, "setup": 1, "trace": 0, "web": 3
    }  # fmt: skip
    implied = [(one["service"], one["needs"]) for one in shown["dependencies"] if one["implied"]]
    assert implied == [("web", "db")]
    assert [one["condition"] for one in shown["dependencies"] if one["service"] == "setup"] == ["service_started"]


def test_svg(stack: Callable[..., Ran], folder: Path) -> None:
    assert stack("graph", "--format", "svg", "-o", "shop.svg") == Ran(0, "", "")
    picture = ElementTree.parse(folder / "shop.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert picture.tag == f"{space}svg"
    texts = [one.text for one in picture.iter(f"{space}text")]
    assert {"web", "nginx:1", "api ×2", 'odd"<&name', "longest chain, 15 s at least", "optional"} <= set(texts)
    lines = [one for one in picture.iter(f"{space}path") if one.get("marker-end")]
    titles = sorted(one.find(f"{space}title").text for one in lines)  # type: ignore[union-attr]
    assert titles == [
        "api needs db: healthy",
        "api needs setup: completed",
        "api needs trace: optional",
        "setup needs db: started",
        "web needs api: healthy",
    ]
    assert sum("critical" in str(one.get("class")) for one in lines) == 2


def test_a_circle_is_an_error_of_the_file(stack: Callable[..., Ran], folder: Path) -> None:
    (folder / "compose.yaml").write_text(
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n"
    )
    ran = stack("graph", "--format", "svg")
    assert (ran.code, ran.out) == (15, "")
    assert "a -> b (compose.yaml:2:30), b -> a (compose.yaml:3:30)" in ran.err


def test_long_chains_and_empty_selections(stack: Callable[..., Ran], folder: Path) -> None:
    (folder / "compose.yaml").write_text(
        "services:\n  s0: {image: x}\n"
        + "".join(f"  s{number}: {{image: x, depends_on: [s{number - 1}]}}\n" for number in range(1, 1500))
    )
    lines = stack("graph").out.splitlines()
    assert lines[0] == "s1499  x"
    assert lines[101].strip() == "└── …"
    assert len(stack("graph", "--format", "svg").out) > 100_000
    (folder / "compose.yaml").write_text("services: {}\n")
    for form in ("tree", "dot", "mermaid", "svg", "json"):
        assert stack("graph", "--format", form).code == 0
