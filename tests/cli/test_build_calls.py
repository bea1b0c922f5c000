"""image build --call and --output: what they say of a Dockerfile, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.actions.build_outputs import BuildOutput, check_outputs, parse_output
from orchestrator.cli.calling import answer_call, read_call
from orchestrator.engines.native.dockerfile.request import BuildRequest
from orchestrator.errors import OperationFailed, StackError, UsageError

SHOP = """
ARG tail=box
ARG unused=abc${tail}
# name is what it stands on
ARG name="busy${tail}"

FROM ${name} AS tools
ARG PLAIN=123
# LEVEL is a number
ARG LEVEL=456
RUN --mount=type=secret,target=/etc/pass,required=true --mount=type=ssh true

FROM alpine AS other
RUN --mount=type=secret,id=idle true

FROM scratch AS low
ARG KIND=a${PLAIN}b
RUN --mount=type=secret,id=key${KIND} true

# web serves the pages
FROM low AS web
COPY --from=tools /x /
RUN --mount=type=ssh,id=deploy,required true

FROM other
"""


def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, **asked: Any) -> Any:
    (tmp_path / "Dockerfile").write_text(SHOP)
    answer_call(BuildRequest(context=str(tmp_path), **asked), name, as_json=True)
    return json.loads(capsys.readouterr().out)


def test_targets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(tmp_path, capsys, "targets")["targets"]
    assert [(one.get("name", ""), one["base"]) for one in found] == [
        ("tools", "${name}"), ("other", "alpine"), ("low", "scratch"), ("web", "low"), ("", "other"),
    ]  # fmt: skip
    assert [one.get("description", "") for one in found] == ["", "", "", "serves the pages", ""]
    assert [one.get("default", False) for one in found] == [False, False, False, False, True]
    assert found[3]["location"]["ranges"][0]["start"] == {"line": 21}


def test_outline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask(tmp_path, capsys, "outline", target="web", args={"LEVEL": "7"})
    assert (found["name"], found["description"]) == ("web", "serves the pages")
    assert [(one["name"], one.get("value"), one.get("description", "")) for one in found["args"]] == [
        ("tail", "box", ""),
        ("name", "busybox", "is what it stands on"),
        ("PLAIN", "123", ""),
        ("LEVEL", "7", "is a number"),
        ("KIND", "ab", ""),
    ]
    assert [(one["name"], one.get("required", False)) for one in found["secrets"]] == [("pass", True), ("keyab", False)]
    assert [(one["name"], one.get("required", False)) for one in found["ssh"]] == [("default", False), ("deploy", True)]


def test_tables_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dockerfile").write_text("frOM busybox AS one\nUSER 1\n")  # found like a build finds it
    request = BuildRequest(context=str(tmp_path))
    answer_call(request, "targets", as_json=False)
    assert capsys.readouterr().out == "TARGET          BASE      DESCRIPTION\none (default)   busybox\n"
    answer_call(request, "outline", as_json=False)
    assert capsys.readouterr().out == "TARGET   DESCRIPTION\none\n"
    with pytest.raises(OperationFailed):
        answer_call(request, "check", as_json=True)
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert {one["ruleName"] for one in warnings} >= {"ConsistentInstructionCasing"}


def test_words_of_calls() -> None:
    assert [read_call(one) for one in ("check", "lint,format=json")] == [("check", False), ("check", True)]
    for wrong in ("nothing", "check,shape=json"):
        with pytest.raises(UsageError):
            read_call(wrong)


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("out", BuildOutput(kind="local", dest="out")),
        ("-", BuildOutput(kind="tar", dest="-")),
        ("type=tar", BuildOutput(kind="tar", dest="-")),
        ("type=oci,dest=a.tar,rewrite-timestamp=true", BuildOutput(kind="oci", dest="a.tar")),
        ("type=oci,dest=a,tar=false", BuildOutput(kind="oci", dest="a", packed=False)),
        ('type=image,"name=a:1,b:2",push=true', BuildOutput(kind="image", names=("a:1", "b:2"), push=True)),
        ("type=registry", BuildOutput(kind="registry", push=True)),
        ("type=docker", BuildOutput(kind="docker")),
        ("type=cacheonly", BuildOutput(kind="cacheonly")),
    ],
)
def test_words_of_outputs(text: str, output: BuildOutput) -> None:
    assert parse_output(text) == output


@pytest.mark.parametrize(
    "text",
    ["type=zip", "dest=x", "type=local", "type=local,dest=-", "type=oci,tar=false", "type=image,dest=x",
     "type=tar,compression=zstd", "type=tar,push=maybe", "type=tar,dest"],
)  # fmt: skip
def test_outputs_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError):
        parse_output(text)


def test_outputs_are_judged_before_the_build(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for one, several in (
        (f"type=local,dest={tmp_path}/file", False),
        (f"type=tar,dest={tmp_path}", False),
        (f"type=tar,dest={tmp_path}/none/x.tar", False),
        (f"type=local,dest={tmp_path}/out", True),
    ):
        with pytest.raises(StackError):
            check_outputs([parse_output(one)], several=several)
    with pytest.raises(UsageError):
        check_outputs([parse_output("-"), parse_output("type=oci")], several=False)
    check_outputs([parse_output(f"type=local,dest={tmp_path}/a/b")], several=False)
