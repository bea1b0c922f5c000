"""Whatever a stack file holds, loading ends in a stack or in a StackError, and what is printed loads to the same."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import StackError
from orchestrator.spec.attributes import ROWS
from orchestrator.spec.dotenv import parse_dotenv
from orchestrator.spec.loader import Loaded, LoadOptions, load_stack
from orchestrator.spec.positions import Problems
from orchestrator.spec.render import render_json, render_yaml
from orchestrator.spec.transport import dump_stack, load_dumped_stack
from orchestrator.spec.words import split_words
from orchestrator.spec.yaml import parse_documents

ROOT = Path(__file__).parents[2]
SEEDS = [path.read_text() for path in sorted(ROOT.glob("tests/golden/diagnostics/*/compose.yaml"))]
SEEDS += [path.read_text() for path in sorted(ROOT.glob("examples/*/*.y*ml"))]
SEEDS.append(
    """
    x-base: &base {image: a, restart: always, environment: {A: "1"}}
    services:
      web:
        <<: *base
        ports: ["80:80", "9000-9002:9000-9002/udp", {target: 1}]
        volumes: ["./a:/b:ro", "data:/data", {type: tmpfs, target: /t}]
        depends_on: {db: {condition: service_healthy}}
        env_file: [{path: x.env, required: false}]
        deploy: {resources: {limits: {cpus: "0.5", memory: 1g}}}
        command: sh -c "echo $$HOME"
      db: {extends: web, depends_on: !reset [], healthcheck: {test: [CMD, x], interval: 1m30s}, profiles: [p]}
    volumes: {data: {}}
    """
)
PIECES = [
    "null", "[]", "{}", "- a", "$X", "${X:-}", "${", "*base", "&base ", "!reset null", "!override []", "<<: *base",
    "1e999", "0x", "true", "9" * 30, "-1", "\t", '"', "'", "{a: [b, {c: d}]}", "? ", "|", ">", "service:web",
    "extends: web",
    "include: [compose.yaml]", "a: b: c", ":", "::", "80-70:60", "-", "\x00", "1.5", "x-stack: 3", "profiles: [a]",
    "depends_on: [web]", "env_file: [{}]", "~", "\u2028", "\ufeff", "%YAML 1.1", "---", "...",
]  # fmt: skip
PIECES += [row.path.rpartition(".")[2] + ": " for row in ROWS if not row.path.endswith(("*", "]"))]


class OneFile:
    def __init__(self, text: str) -> None:
        self.text = text

    def read_text(self, path: str) -> str:
        if path == "/app/compose.yaml":
            return self.text
        raise FileNotFoundError(2, "No such file or directory", path)

    def find_kind(self, path: str) -> str | None:
        return "file" if path == "/app/compose.yaml" else None

    def find_stack_file(self, directory: str) -> str | None:
        return None


def load(text: str, **options: bool) -> Loaded:
    chosen = LoadOptions(files=("compose.yaml",), cwd="/app", profiles=("*",), **options)
    return load_stack(chosen, {"HOME": "/home/me"}, OneFile(text))


def mutate(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    for _ in range(chance.randint(1, 3)):
        index = chance.randrange(len(lines))
        line = lines[index]
        match chance.randrange(6):
            case 0:
                lines[index : index + 1] = []
            case 1:
                lines.insert(index, chance.choice(chance.choice(SEEDS).split("\n")))
            case 2:
                cut = chance.randint(0, len(line))
                lines[index] = line[:cut] + chance.choice(PIECES) + line[cut:]
            case 3:
                lines[index] = line.partition(":")[0] + ": " + chance.choice(PIECES)
            case 4:
                lines[index] = " " * chance.randint(0, 8) + line.lstrip()
            case _:
                lines[index] = line.partition("- ")[0] + "- " + chance.choice(PIECES)
        lines = lines or [""]
    return "\n".join(lines)


def check_load(text: str) -> None:
    try:
        loaded = load(text)
    except StackError as error:
        assert error.render()
        return
    stack = loaded.stack
    again = load_dumped_stack(json.loads(json.dumps(dump_stack(stack))))
    assert (again.services, again.tree) == (stack.services, stack.tree)
    shown = render_json(stack.tree)
    # As in the reference, the empty content of a config is not printed.
    empty = any(config.keys() <= {"name", "labels"} for config in (stack.tree.get("configs") or {}).values())
    if "$" not in shown and not empty:
        assert render_json(load(render_yaml(stack.tree)).stack.tree) == shown


def test_mutated_files():
    """More with STACK_FUZZ=100000; STACK_FUZZ_SEED repeats a run."""
    chance = random.Random(int(os.environ.get("STACK_FUZZ_SEED", "1")))
    seeds = [
        *SEEDS,
        *(path.read_text() for path in Path(os.environ.get("STACK_FUZZ_CORPUS", "/-")).rglob("compose.yaml")),
    ]
    for _ in range(int(os.environ.get("STACK_FUZZ", "300"))):
        text = mutate(chance.choice(seeds), chance)
        try:
            check_load(text)
        except Exception:
            print(text)
            raise


@pytest.mark.parametrize("flag", ["interpolate", "normalize", "resolve_paths", "resolve_env", "consistency"])
def test_mutated_files_with_a_pass_switched_off(flag):
    chance = random.Random(flag)
    for _ in range(50):
        text = mutate(chance.choice(SEEDS), chance)
        try:
            render_yaml(load(text, **{flag: False}).stack.tree)
        except StackError as error:
            assert error.render()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=200))
def test_any_text(text):
    check_load(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PIECES) | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([row.path for row in ROWS]), JSON)
def test_any_value_of_any_attribute(path, value):
    for part in reversed(path.replace("[]", ".[]").split(".")):
        value = [value] if part == "[]" else {("x" if part == "*" else part): value}
    check_load(json.dumps(value))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80), st.booleans())
def test_any_env_file(text, raw):
    problems = Problems()
    parse_dotenv(text, problems.register_file(".env"), problems, {"A": "1"}.get, raw=raw)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab '\"\\;&|<>`()$\n", max_size=20))
def test_any_command_line(text):
    try:
        words, rest = split_words(text)
    except ValueError:
        return
    assert isinstance(words, list)
    assert text.endswith(rest)


def chain(entry: str) -> str:
    """Three thousand services, each of which names the next."""
    return "services: {" + ", ".join(f"s{number}: {entry % (number + 1)}" for number in range(3000)) + "}"


BOMB = "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}' if i else 'x'] * 20)}]\n" for i in range(9))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (BOMB, "too-many-values"),
        ("x: " + "y" * 2_000_000, "line-too-long"),
        ("x: [\n" + "y,\n" * 3_000_000 + "]", "file-too-large"),
        ("x: " + "[" * 10_000, "nested-too-deep"),
        ("x:\n" + "".join(" " * i + "- \n" for i in range(200)), "nested-too-deep"),
        ("a: &a [*a]", "recursive-alias"),
        (chain("{extends: s%d}"), "extends-too-deep"),
        (chain("{image: a, depends_on: [s%d]}"), "undefined-service"),
        ("services: {web: {image: a, ports: [1-60000, 1-60000/udp, 1-60000/sctp]}}", "too-many-ports"),
    ],
    ids=["bomb", "long-line", "large", "deep-flow", "deep-block", "recursive", "extends", "dependencies", "ports"],
)
def test_absurd_files_are_refused(text, code):
    with pytest.raises(StackError) as caught:
        load(text)
    assert code in {one.code for one in caught.value.diagnostics}


TREES = st.dictionaries(
    st.text(max_size=6),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    ),
    max_size=3,
)


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_any_tree_is_printed_as_yaml_that_everybody_reads_alike(tree):
    yaml = pytest.importorskip("yaml")
    text = render_yaml(tree, escape=False)
    problems = Problems()
    ours = parse_documents(text, problems.register_file("x"), problems)
    assert not problems.found
    assert to_plain(ours[0][0]) == tree
    if "e" not in "".join(re.findall(r"[0-9]e[+-]?[0-9]", text)):
        assert yaml.safe_load(text) == tree


def to_plain(value):
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, list) else value


HUGE = [
    "services:\n" + "".join(f"  s{i}: {{image: a, ports: ['1-60000:1-60000']}}\n" for i in range(50)),
    "x-p: &p ['1-60000:1-60000']\nservices:\n" + "".join(f"  s{i}: {{image: a, ports: *p}}\n" for i in range(50)),
    "services:\n  b: {image: a, environment: {" + ",".join(f"A{i}: b" for i in range(1000)) + "}}\n"
    + "".join(f"  s{i}: {{extends: b}}\n" for i in range(5000)),
    "services:\n a:\n  image: a\n  environment:\n"
    + ("   - A=" + "${A:-" * 30 + "${B}" * 200_000 + "}" * 30 + "\n") * 6,
]  # fmt: skip


@pytest.mark.parametrize("text", HUGE, ids=["ports", "ports-behind-an-anchor", "extends", "variables"])
def test_what_multiplies_is_bounded_over_the_whole_stack(text):
    with pytest.raises(StackError) as caught:
        load(text)
    assert "too-many-values" in {one.code for one in caught.value.diagnostics}
