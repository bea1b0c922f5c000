"""What the tests of the front end share: a text in, evaluated stages or messages out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.engines.native.dockerfile.front.evaluate import evaluate_stage
from orchestrator.engines.native.dockerfile.front.parser import parse_dockerfile
from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid
from orchestrator.engines.native.dockerfile.front.stages import StagePlan, add_triggers, plan_stages
from orchestrator.engines.native.dockerfile.front.steps import StageSteps

PLATFORM = "linux/amd64"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NO_ARGS: Mapping[str, str] = {}


def plan(text: bytes | str, *, args: Mapping[str, str] = NO_ARGS, **options: Any) -> StagePlan:
    """The plan for linux/amd64, on linux/arm64 (so that the two can be told apart)."""
    dockerfile = parse_dockerfile(text, "Dockerfile")
    return plan_stages(dockerfile, args=args, platform=PLATFORM, build_platform="linux/arm64", **options)


def evaluate_all(
    text: bytes | str,
    *,
    images: Mapping[str, Mapping[str, Any]] | None = None,
    args: Mapping[str, str] = NO_ARGS,
    **options: Any,
) -> dict[int, StageSteps]:
    """Every needed stage, evaluated as a builder does; `images` are configurations by reference."""
    planned = plan(text, args=args, **options)
    for stage in planned.stages:
        config = (images or {}).get(stage.base.name, {}) if stage.base.kind == "image" else {}
        planned = add_triggers(planned, stage.index, config.get("OnBuild") or ())
    done: dict[int, StageSteps] = {}
    for stage in planned.stages:
        base: Any = None
        if stage.base.kind == "stage":
            base = done[int(stage.base.name)]
        elif stage.base.kind == "image":
            base = (images or {}).get(stage.base.name, {})
        done[stage.index] = evaluate_stage(planned, stage.index, base)
    return done


def evaluate(text: str, **options: Any) -> StageSteps:
    """The target."""
    done = evaluate_all(text, **options)
    return done[max(done)]


def refuse(text: str, **options: Any) -> list[str]:
    """The messages for a text that is not accepted, each as ``line:column code message | hint``."""
    try:
        evaluate_all(text, **options)
    except DockerfileInvalid as error:
        return [
            f"{one.location.line}:{one.location.column} {one.code} {one.message} | {one.hint}"
            if one.location
            else f"{one.code} {one.message} | {one.hint}"
            for one in error.diagnostics
        ]
    raise AssertionError("the text was accepted")


def warn(text: str, **options: Any) -> list[str]:
    """The warnings of parsing, planning and evaluating, as ``line:column code``."""
    planned = plan(text, **options)
    steps = evaluate_all(text, **options).values()
    found = [*planned.dockerfile.warnings, *planned.warnings, *(one for stage in steps for one in stage.warnings)]
    return sorted(f"{one.location.line}:{one.location.column} {one.code}" for one in found if one.location)
