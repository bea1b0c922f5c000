"""Which stages are needed, and what they stand on."""

from __future__ import annotations

from typing import Any

import pytest
from fronts import plan, refuse

from orchestrator.engines.native.dockerfile.front.stages import add_triggers
from orchestrator.engines.native.dockerfile.front.steps import Origin

GRAPH = """\
FROM alpine AS base
FROM base AS left
FROM base AS right
FROM scratch AS unused
COPY --from=right / /
FROM left AS Final
COPY --from=2 / /
RUN --mount=from=right,target=/x true
COPY --from=nginx --link a b
ADD http://x/y /
"""


def needed(text: str, **options: Any) -> list[int]:
    return [stage.index for stage in plan(text, **options).stages]


@pytest.mark.parametrize(
    ("target", "indexes"),
    [
        (None, [0, 1, 2, 4]),
        ("final", [0, 1, 2, 4]),
        ("FINAL", [0, 1, 2, 4]),
        ("left", [0, 1]),
        ("unused", [0, 2, 3]),
        ("0", [0]),
        ("3", [0, 2, 3]),
    ],
)
def test_only_what_the_target_needs(target: str | None, indexes: list[int]) -> None:
    assert needed(GRAPH, target=target) == indexes


def test_what_a_stage_depends_on() -> None:
    final = plan(GRAPH).stage(4)
    assert (final.base.kind, final.base.name, final.dependencies) == ("stage", "1", (1, 2))
    assert (final.images, final.contexts, final.main_context) == (("nginx",), (), False)
    assert [stage.shown for stage in plan(GRAPH).every] == ["base", "left", "right", "unused", "final"]
    assert plan("FROM a\nFROM b").every[0].shown == "stage-0"
    assert plan("FROM a").stages[0].shown == ""


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("COPY a b", True),
        ("COPY --from=x a b", False),
        ("COPY <<E b\nE", False),
        ("ADD http://x/y b", False),
        ("ADD http://x/y a b", True),
        ("ADD $x b", True),
        ("RUN --mount=target=/x a", True),
        ("RUN --mount=type=cache,target=/x a", False),
        ("RUN --mount=type=secret,id=x a", False),
        ("RUN --mount=from=x,target=/x a", False),
        ("RUN a", False),
    ],
)
def test_whether_the_build_context_is_read(text: str, reads: bool) -> None:
    assert plan(f"FROM scratch\n{text}\n").stages[0].main_context is reads


@pytest.mark.parametrize(
    ("text", "args", "image"),
    [
        ("FROM a:b", {}, "a:b"),
        ("ARG V=1\nFROM a:$V", {}, "a:1"),
        ("ARG V=1\nFROM a:${V}", {"V": "2"}, "a:2"),
        ("ARG V\nFROM a:${V:-3}", {}, "a:3"),
        ("ARG A=x\nARG B=$A-y\nFROM $B", {}, "x-y"),
        ("ARG A=x\nARG B=$A-y\nFROM $B", {"A": "z"}, "z-y"),
        ("ARG V=1\nARG V=2\nFROM a:$V", {}, "a:2"),
        ("FROM a:$TARGETARCH", {}, "a:amd64"),
        ("FROM a:$BUILDARCH", {}, "a:arm64"),
        ("FROM a:$TARGETARCH", {"TARGETARCH": "q"}, "a:q"),
        ("FROM 'a'", {}, "a"),
        ("FROM a@sha256:0", {}, "a@sha256:0"),
        ("FROM a AS a", {}, "a"),
    ],
)
def test_bases(text: str, args: dict[str, str], image: str) -> None:
    base = plan(text, args=args).stages[-1].base
    assert (base.kind, base.name) == ("image", image)


def test_platforms() -> None:
    text = "FROM --platform=$BUILDPLATFORM a AS one\nFROM --platform=linux/arm/v7 b AS two\nFROM c AS three\n"
    text += "COPY --from=one / /\nCOPY --from=two / /\nFROM one AS four\nCOPY --from=three / /\n"
    assert [stage.platform for stage in plan(text).stages] == [
        "linux/arm64",
        "linux/arm/v7",
        "linux/amd64",
        "linux/arm64",
    ]
    assert plan("FROM --platform= a").stages[0].platform == "linux/amd64"


def test_stage_names_are_looked_up_among_earlier_stages() -> None:
    bases = [stage.base for stage in plan("FROM b AS a\nFROM a AS b\nFROM A\nCOPY --from=b / /\nFROM scratch").every]
    assert [(one.kind, one.name) for one in bases] == [("image", "b"), ("stage", "0"), ("stage", "0"), ("scratch", "")]
    assert plan("FROM a AS x\nFROM b AS x\nFROM x").stages[-1].base.name == "1"


@pytest.mark.parametrize(
    ("text", "context", "kind", "name"),
    [
        ("FROM alpine", "alpine", "named", "alpine"),
        ("FROM alpine:latest", "docker.io/library/alpine", "named", "docker.io/library/alpine"),
        ("FROM docker.io/library/alpine", "alpine", "named", "alpine"),
        ("FROM alpine:3", "alpine", "image", "alpine:3"),
        ("FROM alpine:3", "alpine:3", "named", "alpine:3"),
        ("FROM scratch", "scratch", "scratch", ""),
        ("FROM alpine AS base\nRUN x", "base", "named", "base"),
    ],
)
def test_additional_contexts_replace_images_and_stages(text: str, context: str, kind: str, name: str) -> None:
    stage = plan(text, contexts=[context]).stages[0]
    assert (stage.base.kind, stage.base.name) == (kind, name)
    assert stage.instructions == ()


def test_origins() -> None:
    planned = plan("FROM a AS one\nFROM b AS two\nFROM c", contexts=["extra", "one"])
    origins = {name: planned.resolve_origin(name, 2) for name in ("one", "1", "extra", "d:1", "scratch")}
    assert origins == {
        "one": Origin(kind="stage", name="0"),
        "1": Origin(kind="stage", name="1"),
        "extra": Origin(kind="named", name="extra"),
        "d:1": Origin(kind="image", name="d:1"),
        "scratch": Origin(kind="image", name="scratch"),
    }


def test_triggers_of_an_image_can_need_more() -> None:
    planned = plan("FROM a AS tools\nFROM b")
    assert [one.index for one in planned.stages] == [1]
    assert add_triggers(planned, 1, ()) is planned
    more = add_triggers(planned, 1, ["COPY --from=tools /x /y", "RUN z"])
    assert [one.index for one in more.stages] == [0, 1]
    assert [one.keyword for one in more.stage(1).triggers] == ["COPY", "RUN"]


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("FROM a AS build\nFROM b", "biuld", "1:1 unknown-target there is no stage 'biuld' | did you mean build?"),
        ("FROM a\nFROM b", "7", "1:1 unknown-target there is no stage '7' | no stage has a name"),
        ("FROM $X", None, "1:6 empty-base FROM $X comes to nothing | X is not set"),
        ("ARG X=\nFROM ${X}", None, "2:6 empty-base FROM ${X} comes to nothing"),
        ("FROM a:${X", None, "1:8 bad-substitution bad substitution: the closing } is missing"),
        ("ARG X=${Y?no}\nFROM a", None, "1:7 variable-required Y: no"),
        ("FROM --platform=$X a", None, "1:6 invalid-platform --platform=$X comes to nothing"),
        ("FROM --platform=a/b/c/d a", None, "1:6 invalid-platform invalid platform 'a/b/c/d'"),
        ("FROM a\nCOPY --from=0 b c", None, "2:6 circular-stage the stage 0 takes files from itself"),
        ("FROM a AS x\nCOPY --from=x b c", None, "2:6 circular-stage the stage x takes files from itself"),
        ("FROM a AS x\nCOPY --from=y b c\nFROM x AS y", "x", "2:6 stage-order the stage y is defined after this one"),
        ("FROM a\nCOPY --link --from=3 b c", None, "2:13 unknown-stage there is no stage number 3 | stages are 0 to 0"),
        ("FROM a\nCOPY --from=-1 b c", None, "2:6 unknown-stage there is no stage number -1"),
        ("FROM a\nCOPY --from=$x b c", None, "2:6 variable-not-supported --from cannot have variables or quotes"),
        ("FROM a\nRUN --mount=from=9,target=/x b", None, "2:5 unknown-stage there is no stage number 9"),
        ("FROM a\nCOPY --from=9 b c\nFROM d", None, "2:6 unknown-stage there is no stage number 9"),
    ],
)
def test_refuses(text: str, target: str | None, message: str) -> None:
    found = refuse(text, target=target)
    assert len(found) == 1 and found[0].startswith(message), found


def test_tells_what_is_wrong_with_every_stage() -> None:
    found = refuse("FROM $X\nFROM --platform=a/b/c/d a\nFROM b:${Y?no}")
    assert [one.split()[:2] for one in found] == [
        ["1:6", "empty-base"],
        ["2:6", "invalid-platform"],
        ["3:8", "variable-required"],
    ]


def test_a_stage_that_is_not_needed_may_be_wrong() -> None:
    assert needed("FROM a AS x\nCOPY --from=y b c\nFROM d AS y") == [1]
