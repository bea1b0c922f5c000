"""The cases: Dockerfiles with their contexts and options, read from the YAML files in ``cases/``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases"
GOLDEN = HERE / "golden"

OPTIONS = {
    "args",
    "context",
    "contexts",
    "dockerfile",
    "extra_hosts",
    "labels",
    "network",
    "secrets",
    "shm_size",
    "source_date_epoch",
    "stdin",
    "stdin_tar",
    "target",
    "ulimits",
    "without_context",
}
KEYS = {"name", "dockerfile", "files", "before", "options", "error", "line", "reference", "expect", "ignore", "why"}


@dataclass(frozen=True, slots=True)
class Case:
    """One build.

    `files` describe the context (see `context.write_tree`); a ``Dockerfile`` in it is made from `dockerfile`. `before`
    maps references to Dockerfiles (or to ``{dockerfile, files}``) that are built first. `error` is a regular expression
    for the message of a build that has to fail, `line` the Dockerfile's line that the message names.

    `reference` is the tool that the golden result comes from: ``docker``, ``buildah``, or ``none`` where `expect` is
    the whole expectation. Otherwise `expect` changes single values of the golden result and `why` says for what reason.
    `ignore` lists members of the result that depend on the tool.
    """

    topic: str
    name: str
    dockerfile: str
    files: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    line: int = 0
    reference: str = "docker"
    expect: dict[str, Any] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    why: str = ""

    def __str__(self) -> str:
        return f"{self.topic}-{self.name}"

    def replace_server(self, address: str) -> str:
        """The Dockerfile, with the address of the test's own web server in place of ``@HTTP@``."""
        return self.dockerfile.replace("@HTTP@", address)


def load_cases() -> list[Case]:
    """Every case, in the order of the files.

    Raises:
        ValueError: an unknown key, a name twice, or an expectation that says nothing.
    """
    found: list[Case] = []
    for path in sorted(CASES.glob("*.yaml")):
        for raw in yaml.safe_load(path.read_text()):
            found.append(_read_case(path.stem, raw))
    names = [str(case) for case in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"these cases are there twice: {', '.join(sorted(twice))}")
    return found


def _read_case(topic: str, raw: dict[str, Any]) -> Case:
    where = f"{topic}.yaml: {raw.get('name')}"
    if unknown := set(raw) - KEYS | set(raw.get("options", {})) - OPTIONS:
        raise ValueError(f"{where}: unknown {', '.join(sorted(unknown))}")
    values = {key: value for key, value in raw.items() if key != "ignore"}
    case = Case(topic=topic, ignore=tuple(raw.get("ignore", ())), **values)
    if case.expect and case.reference != "none" and not case.why:
        raise ValueError(f"{where}: why is something else expected than the reference tool makes?")
    if case.reference == "none" and not case.expect and not case.error:
        raise ValueError(f"{where}: nothing is expected")
    return case


def load_golden(topic: str) -> dict[str, Any]:
    """What the reference tools made of a topic's cases, by name; empty before the first recording."""
    path = GOLDEN / f"{topic}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save_golden(topic: str, results: dict[str, Any]) -> None:
    """Keep them; the order is the order of the cases, one case a block, so that a change reads well in a diff."""
    blocks = [f"{json.dumps(name)}: {_render_block(result)}" for name, result in results.items()]
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / f"{topic}.json").write_text("{\n" + ",\n".join(blocks) + "\n}\n")


def _render_block(result: dict[str, Any]) -> str:
    lines = []
    for key, value in result.items():
        if key == "files" and value:
            entries = [f"    {json.dumps(path)}: {json.dumps(one)}" for path, one in value.items()]
            lines.append('  "files": {\n' + ",\n".join(entries) + "\n  }")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}"
