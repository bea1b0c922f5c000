"""``stack config``: the model and its parts, what it was made from, and how mistakes are told."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.actions import config
from orchestrator.cli.diagnostics import render_annotation, render_diagnostic, set_form
from orchestrator.errors import Diagnostic, StackError
from orchestrator.source import Location

from .conftest import Ran

SHOP = """\
services:
  web:
    image: "web:${TAG:-1}"
    depends_on: [api]
    networks: [front]
    secrets: [key]
  api:
    image: api@sha256:0000000000000000000000000000000000000000000000000000000000000000
    links: [db]
    networks: [back]
    environment: {LEVEL: "${LEVEL:?say how loud}", MORE: "${TAG+x}"}
  db: {build: ., volumes: ["data:/d"], networks: [back], env_file: [db.env]}
  debug: {image: tools, profiles: [debug], models: [llm]}
networks: {front: , back: }
volumes: {data: , spare: }
secrets: {key: {file: ./key}}
models: {llm: {model: ai/small}}
x-team: shop
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "shop"
    made.mkdir()
    monkeypatch.chdir(made)
    monkeypatch.delenv("STACK_DIAGNOSTICS", raising=False)
    (made / "compose.yaml").write_text(SHOP)
    (made / ".env").write_text("LEVEL=3\n")
    (made / "db.env").write_text("FROM=file\n")
    return made


@pytest.fixture(autouse=True)
def plain_diagnostics() -> object:
    yield
    set_form(None)


def read(ran: Ran) -> dict[str, object]:
    assert (ran.code, ran.err) == (0, "")
    return json.loads(ran.out)


def test_services_restrict_the_model_to_what_they_need(stack: Callable[..., Ran]) -> None:
    shown = read(stack("config", "--format", "json", "api"))
    assert sorted(shown["services"]) == ["api", "db"]
    assert [sorted(shown[key]) for key in ("networks", "volumes")] == [["back"], ["data"]]
    assert "secrets" not in shown
    assert shown["x-team"] == "shop"
    assert stack("config", "--services", "db").out == "db\n"
    assert stack("config", "--images", "web").out.splitlines()[-2:] == ["shop-db", "web:1"]
    # What a profile keeps off is there when it is named.
    assert stack("config", "--models", "debug").out == "ai/small\n"
    assert stack("config", "wbe").err.startswith(
        "error[no-such-service]: no such service: wbe\n  hint: did you mean web"
    )


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--services", "api\ndb\nweb\n"),
        ("--volumes", "data\n"),
        ("--networks", "back\nfront\n"),
        ("--models", ""),
        ("--profiles", "debug\n"),
    ],
)
def test_lists(stack: Callable[..., Ran], option: str, expected: str) -> None:
    assert stack("config", option) == Ran(0, expected, "")
    # Also where values are templates still.
    assert stack("config", option, "--no-interpolate") == Ran(0, expected, "")


def test_passes_can_be_switched_off(stack: Callable[..., Ran]) -> None:
    plain = read(stack("config", "--format", "json"))
    assert plain["services"]["db"]["environment"] == {"FROM": "file"}
    services = read(stack("config", "--format", "json", "--no-interpolate"))["services"]
    assert (services["web"]["image"], services["api"]["environment"]["MORE"]) == ("web:${TAG:-1}", "${TAG+x}")
    services = read(stack("config", "--format", "json", "--no-normalize"))["services"]
    assert "depends_on" not in services["api"]
    assert read(stack("config", "--format", "json", "--no-path-resolution"))["secrets"]["key"]["file"] == "./key"
    services = read(stack("config", "--format", "json", "--no-env-resolution"))["services"]
    assert "environment" not in services["db"]
    assert services["db"]["env_file"][0]["path"].endswith("/shop/db.env")


def test_consistency_can_be_left_unchecked(stack: Callable[..., Ran], folder: Path) -> None:
    (folder / "compose.yaml").write_text("services: {web: {image: x, networks: [nowhere]}}\n")
    ran = stack("config")
    assert (ran.code, ran.out) == (15, "")
    assert stack("config", "--no-consistency", "-q").code == 0


def test_services_without_an_image_have_a_digest(stack: Callable[..., Ran], folder: Path) -> None:
    (folder / "compose.yaml").write_text("services: {web: {}}\n")
    assert stack("config", "--hash", "*").code == 15
    assert stack("config", "--no-consistency", "--hash", "*").out.startswith("web ")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (("profile=work",), "monitor\nworker\n"),
        (("label=tier=back",), "core\n"),
        (("label=tier",), "core\n"),
        (("profile=work", "label=tier=back"), "worker\n"),
        (("profile=none",), ""),
    ],
)
def test_services_are_chosen_by_profile_and_label(
    stack: Callable[..., Ran], folder: Path, filters: tuple[str, ...], expected: str
) -> None:
    (folder / "compose.yaml").write_text(
        "services:\n  core: {image: x, labels: {tier: back}}\n"
        "  worker: {image: x, profiles: [work], labels: {tier: back}}\n"
        "  monitor: {image: x, profiles: [look, work], labels: {tier: ops}}\n"
    )
    words = [word for one in filters for word in ("--filter", one)]
    assert stack("config", "--services", *words).out == expected


def test_filters_that_make_no_sense(stack: Callable[..., Ran]) -> None:
    for words, said in (
        (("--filter", "profile=x"), "--filter requires --services"),
        (("--services", "--filter", "profile=*"), "profiles must be selected explicitly"),
        (("--services", "--filter", "state=up"), 'unknown criteria "state"'),
        (("--services", "--filter", "label"), "has no value"),
    ):
        ran = stack("config", *words)
        assert (ran.code, ran.out) == (1, "")
        assert said in ran.err


def test_variables(stack: Callable[..., Ran], folder: Path) -> None:
    (folder / "more.yaml").write_text("services: {more: {image: '$OTHER ${A:-${B:-2}}'}}\n")
    with (folder / "compose.yaml").open("a") as file:
        file.write("include: ['${WHERE:-.}/more.yaml']\n")
    # None of them has to be set.
    (folder / ".env").unlink()
    ran = stack("config", "--variables")
    assert [line.split() for line in ran.out.splitlines()[1:]] == [
        ["A", "false", "${B:-2}"],
        ["B", "false", "2"],
        ["LEVEL", "true"],
        ["OTHER", "false"],
        ["TAG", "false", "1", "x"],
        ["WHERE", "false", "."],
    ]
    shown = read(stack("config", "--variables", "--format", "json"))
    assert shown["TAG"] == {"Name": "TAG", "Required": False, "DefaultValue": "1", "PresenceValue": "x"}
    assert "defaultvalue: ${B:-2}\n" in stack("config", "--variables", "--format", "yaml").out


def test_environment_and_hashes(stack: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_SHELL", "yes")
    assert {"LEVEL=3", "FROM_SHELL=yes", "COMPOSE_PROJECT_NAME=shop"} <= set(
        stack("config", "--environment").out.splitlines()
    )
    every = dict(line.split() for line in stack("config", "--hash", "*").out.splitlines())
    assert list(every) == ["api", "db", "web"]
    assert stack("config", "--hash", "web,db").out.split()[::2] == ["db", "web"]
    assert stack("config", "--hash", "debug").out.startswith("debug ")
    # The digest is that of what runs, however the model is shown.
    assert stack("config", "--hash", "web", "--no-normalize").out == f"web {every['web']}\n"


def test_images_are_pinned(stack: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "orchestrator.engines.native.images.digests.pin_reference", lambda _store, text, _p: f"{text}@d"
    )
    shown = read(stack("config", "--format", "json", "--resolve-image-digests"))
    assert shown["services"]["web"]["image"] == "web:1@d"
    assert shown["networks"]
    locked = stack("config", "--lock-image-digests", "web").out
    assert (
        locked == f"services:\n  api:\n    image: {SHOP.split('image: ')[2].split()[0]}@d\n  web:\n    image: web:1@d\n"
    )


def test_an_image_without_a_digest_is_told_at_its_line(
    stack: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_store: object, text: str, _platform: object) -> str:
        raise StackError(f"nobody has {text}", hint="ask somebody")

    monkeypatch.setattr("orchestrator.engines.native.images.digests.pin_reference", fail)
    ran = stack("config", "--resolve-image-digests")
    assert (ran.code, ran.out) == (1, "")
    assert [line.split(" ")[0] for line in ran.err.splitlines() if line.startswith("compose")] == [
        "compose.yaml:8:12:",
        "compose.yaml:3:12:",
    ]


def test_the_schema_and_what_excludes_each_other(stack: Callable[..., Ran]) -> None:
    assert read(stack("config", "--schema"))["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    ran = stack("config", "--services", "--hash", "*")
    assert (ran.code, ran.err.splitlines()[0]) == (16, "error[usage]: --services and --hash exclude each other")


def test_output_and_quiet(stack: Callable[..., Ran], folder: Path) -> None:
    assert stack("config", "-o", "out.yaml") == Ran(0, "", "")
    assert (folder / "out.yaml").read_text() == stack("config").out
    assert stack("config", "-q") == Ran(0, "", "")
    assert (
        stack("config", "-o", "no/such/folder").err
        == "error[error]: cannot write no/such/folder: No such file or directory\n"
    )
    (folder / "compose.yaml").write_text("services: {web: 1}\n")
    assert stack("config", "-o", "wrong.yaml").code == 15
    assert not (folder / "wrong.yaml").exists()


@pytest.mark.parametrize("option", [(), ("--services",), ("--hash", "*"), ("--environment",), ("--format", "json")])
def test_a_wrong_stack_prints_nothing(stack: Callable[..., Ran], folder: Path, option: tuple[str, ...]) -> None:
    (folder / ".env").unlink()
    ran = stack("config", *option)
    assert (ran.code, ran.out) == (15, "")
    assert (
        "compose.yaml:11:26: error[required-variable]: the required variable LEVEL is not set: say how loud" in ran.err
    )


def test_diagnostics_as_json_and_as_annotations(
    stack: Callable[..., Ran], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "compose.yaml").write_text("version: '3'\nservices: {web: {image: x, prots: []}}\n")
    ran = stack("config", "--diagnostics", "json")
    assert [json.loads(line) for line in ran.err.splitlines()] == [
        {
            "severity": "warning",
            "code": "obsolete-version",
            "message": "the attribute version is obsolete and has no effect",
            "file": "compose.yaml",
            "line": 1,
            "column": 1,
            "path": "version",
            "hint": "remove it",
        },
        {
            "severity": "error",
            "code": "unknown-attribute",
            "message": "prots is not an attribute of a service",
            "file": "compose.yaml",
            "line": 2,
            "column": 28,
            "path": "services.web.prots",
            "hint": "did you mean ports?",
        },
    ]
    monkeypatch.setenv("STACK_DIAGNOSTICS", "github")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(folder.parent))
    assert stack("ps").err.splitlines()[1] == (
        "::error file=shop/compose.yaml,line=2,col=28,title=unknown-attribute"
        "::prots is not an attribute of a service%0Aservices.web.prots%0Ahint: did you mean ports?"
    )
    monkeypatch.setenv("STACK_DIAGNOSTICS", "xml")
    set_form(None)
    assert stack("config").err == "error[usage]: STACK_DIAGNOSTICS=xml is not one of text, json, github\n"


def test_annotations_are_escaped() -> None:
    one = Diagnostic("a-code", "100%\nsure", Location("a,b:c.yaml", 3, 4), severity="warning")
    assert render_annotation(one) == "::warning file=a%2Cb%3Ac.yaml,line=3,col=4,title=a-code::100%25%0Asure"


def test_an_excerpt_fits_the_terminal_and_cannot_control_it(folder: Path) -> None:
    (folder / "x.yaml").write_text(f"a: 1\n\tb: '\x1b[31m日本' # {'y' * 300} {'z' * 300}\n")
    lines = render_diagnostic(Diagnostic("c", "m", Location("x.yaml", 2, 12)), excerpt=True).split("\n")
    assert lines[1].startswith("    2 |     b: '·[31m日本' # yyy")
    assert lines[2] == "      | " + " " * 15 + "^"
    assert len(lines[1]) <= 80
    lines = render_diagnostic(Diagnostic("c", "m", Location("x.yaml", 2, 318)), excerpt=True).split("\n")
    assert lines[1][lines[2].index("^")] == "z"
    assert lines[1][lines[2].index("^") - 1] == " "
    assert lines[1].startswith("    2 | …")


def test_a_terminal_shows_the_line_and_a_caret(folder: Path, tmp_path: Path) -> None:
    (folder / "compose.yaml").write_text("services: {web: {imag: x}}\n")
    mine, theirs = pty.openpty()
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "orchestrator", "config"]
    done = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, env=environment, check=False)
    os.close(theirs)
    shown = os.read(mine, 4096).decode().replace("\r\n", "\n")
    os.close(mine)
    assert (done.returncode, done.stdout) == (15, b"")
    assert "    1 | services: {web: {imag: x}}\n      |                  ^\n  services.web.imag\n" in shown


def test_a_container_name_given_twice_is_wrong_only_where_containers_are_made(
    stack: Callable[..., Ran], folder: Path
) -> None:
    (folder / "compose.yaml").write_text(
        "services:\n  web: {image: x, container_name: one}\n  api: {image: x, container_name: one}\n"
        "  db: {image: x, container_name: two}\n"
    )
    ran = stack("config", "-q")
    assert (ran.code, ran.err.splitlines()[0]) == (
        0,
        'compose.yaml:3:35: warning[duplicate-name]: container name "one" is already in use by web: '
        "only one of them can run",
    )
    for command in (("plan",), ("--dry-run", "up"), ("plan", "api", "web"), ("plan", "db", "--scale", "db=2")):
        ran = stack(*command)
        assert (ran.code, ran.out) == (1, "")
        assert "error[" in ran.err
        assert ran.err.startswith("compose.yaml:")
    assert "duplicate-name" not in stack("plan", "api").err


def test_a_valid_file_needs_nothing_heavy(folder: Path) -> None:
    code = "import sys; from orchestrator.cli.main import main; main(['config', '-q']); print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    heavy = {"networkx", "jsonschema", "rich", "asyncio", "anyio", "pyroute2", "click", "concurrent"}
    assert not set(done.stdout.split()) & heavy


def test_the_tree_of_a_selection_leaves_the_whole_alone(stack: Callable[..., Ran]) -> None:
    from orchestrator.actions.project import ProjectOptions, load_project

    whole = load_project(ProjectOptions()).stack
    assert whole is not None
    config.restrict_tree(whole, ["db"])
    assert sorted(whole.tree["services"]) == ["api", "db", "web"]
    assert sorted(whole.tree["networks"]) == ["back", "front"]
