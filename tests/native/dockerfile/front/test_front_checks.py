"""Build checks, and the directive for them."""

from __future__ import annotations

import pytest
from fronts import evaluate, plan, refuse, warn


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("# syntax=docker/dockerfile:1\nFROM scratch", []),
        ("# syntax=some/frontend\nFROM scratch", ["1:1 custom-syntax"]),
        ("FROM scratch AS Build", ["1:17 stage-name-casing"]),
        ("FROM scratch as build", ["1:1 from-as-casing"]),
        ("from scratch as build", []),
        ("FROM scratch AS scratch", ["1:17 reserved-stage-name"]),
        ("FROM scratch AS a\nFROM scratch AS a", ["2:17 duplicate-stage-name"]),
        ("FROM scratch\nrun true", ["2:1 consistent-instruction-casing"]),
        ("FROM scratch\nRun true\nRUN true", ["2:1 consistent-instruction-casing"]),
        ("FROM scratch\nRUN a \\\n\n b", ["3:1 no-empty-continuation"]),
        ("FROM scratch\nMAINTAINER a", ["2:1 maintainer-deprecated"]),
        ("FROM scratch\nENV a b\nLABEL c d", ["2:1 legacy-key-value-format", "3:1 legacy-key-value-format"]),
        ("FROM scratch\nENV API_KEY=1 monkey=2", ["2:5 secrets-used-in-arg-or-env"]),
        ("FROM scratch\nARG a github_token PUBLIC_KEY", ["2:7 secrets-used-in-arg-or-env"]),
        ("FROM scratch\nLABEL password=1", []),
        ("FROM scratch\nCMD a", ["2:1 json-args-recommended"]),
        ('FROM scratch\nSHELL ["a"]\nENTRYPOINT a', []),
        ('FROM scratch\nCMD ["a"]\nCMD ["b"]', ["2:1 multiple-instructions-disallowed"]),
        ('FROM scratch\nCMD ["a"]\nFROM scratch\nCMD ["b"]', []),
        ('FROM scratch\nCMD ["a"] # b', ["2:1 json-args-recommended", "2:10 text-after-list"]),
        ("FROM --platform=linux/arm64 a", ["1:1 from-platform-flag-const-disallowed"]),
        ("FROM --platform=linux/arm64 a AS arm64", []),
        ("FROM --platform=$BUILDPLATFORM a", []),
        ("FROM --platform=${TARGETPLATFORM} a", ["1:6 redundant-target-platform"]),
        ("FROM a${b}", ["1:1 undefined-arg-in-from"]),
        ("ARG b\nFROM a:$b", ["2:1 invalid-default-arg-in-from"]),
        ("FROM scratch\nENV a=$b", ["2:7 undefined-var"]),
        ("FROM scratch\nARG b\nENV a=$b c=${PATH}", []),
        ("FROM scratch\nRUN echo $b", []),
        ("FROM scratch\nWORKDIR a\nWORKDIR b", ["2:1 workdir-relative-path"]),
        ("FROM scratch AS x\nWORKDIR /a\nFROM x\nWORKDIR b", []),
        ("FROM scratch\nEXPOSE 80/TCP 1:2", ["2:15 expose-invalid-format", "2:8 expose-proto-casing"]),
    ],
)
def test_warns(text: str, warnings: list[str]) -> None:
    assert warn(text) == warnings


def test_warns_of_unused_build_arguments() -> None:
    args = {"VRESION": "1", "HTTP_PROXY": "x", "BUILDKIT_X": "1", "TARGETARCH": "q", "LATE": "1"}
    found = plan("FROM scratch\nARG VERSION\nFROM scratch\nARG LATE", args=args).warnings
    assert [(one.code, one.message, one.hint) for one in found] == [
        ("unused-build-arg", "the build argument VRESION is not used", "did you mean VERSION?")
    ]


def test_hints() -> None:
    assert evaluate("FROM scratch\nENV VERSION=1\nLABEL v=$VERSOIN").warnings[0].hint == "did you mean VERSION?"
    assert evaluate("FROM scratch\nWORKDIR a").warnings[0].hint == "write WORKDIR /a"


@pytest.mark.parametrize(
    "directive",
    ["skip=all", "skip=MaintainerDeprecated,UndefinedVar", "error=true;skip=all", "skip=all;experimental=all"],
)
def test_skips_checks(directive: str) -> None:
    assert warn(f"# check={directive}\nFROM scratch\nMAINTAINER a\nLABEL a=$b") == []


def test_skips_checks_of_one_instruction() -> None:
    text = "FROM scratch\n# check=skip=UndefinedVar\nLABEL a=$b\nLABEL a=$b"
    assert warn(text) == ["4:9 undefined-var"]


@pytest.mark.parametrize("text", ["MAINTAINER a", "LABEL a=$b", "CMD a"])
def test_warnings_become_errors(text: str) -> None:
    assert len(refuse(f"# check=error=true\nFROM scratch\n{text}")) == 1


@pytest.mark.parametrize(
    ("directive", "message"),
    [
        ("foo", "1:1 invalid-check invalid check option 'foo'"),
        ("error=maybe", "1:1 invalid-check invalid check option 'error=maybe'"),
        ("skip=UndefinedVra", "1:1 invalid-check unknown check 'UndefinedVra' | did you mean UndefinedVar?"),
    ],
)
def test_refuses_directives(directive: str, message: str) -> None:
    assert refuse(f"# check={directive}\nFROM scratch")[0].startswith(message)
