"""``--check``: what a Dockerfile says, judged without building anything."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid
from orchestrator.engines.native.dockerfile.sources.failures import ContextError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.engines.native.dockerfile.front.instructions import Dockerfile
    from orchestrator.engines.native.dockerfile.front.stages import StagePlan
    from orchestrator.engines.native.dockerfile.front.steps import StageSteps
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.errors import Diagnostic


def check_request(request: BuildRequest, platform: str) -> tuple[Diagnostic, ...]:
    """Everything that is wrong (errors) or doubtful (warnings) in the request's Dockerfile; builds and fetches nothing.

    `platform` is this machine's. Images are not looked at: what comes from a base image counts as unknown. Raises
    ContextError where the Dockerfile is not a local file.
    """
    from orchestrator.engines.native.dockerfile.front.epoch import read_epoch
    from orchestrator.engines.native.dockerfile.front.evaluate import evaluate_stage

    text, name = read_dockerfile(request)
    try:
        dockerfile, plan = plan_request(request, platform, text, name)
        read_epoch(dockerfile, plan.shared_args)
    except DockerfileInvalid as error:
        return error.diagnostics
    found: list[Diagnostic] = [*dockerfile.warnings, *plan.warnings]
    done: dict[str, StageSteps] = {}
    for stage in plan.stages:
        base: StageSteps | Mapping[str, Any] | None = done.get(stage.base.name) if stage.base.kind == "stage" else {}
        try:
            steps = done[str(stage.index)] = evaluate_stage(plan, stage.index, base or {})
            found += steps.warnings
        except DockerfileInvalid as error:
            found += error.diagnostics
    return tuple(dict.fromkeys(found))


def plan_request(request: BuildRequest, platform: str, text: bytes, name: str) -> tuple[Dockerfile, StagePlan]:
    """The Dockerfile that was read, and which of its stages the request needs. Raises DockerfileInvalid."""
    from orchestrator.engines.native.dockerfile.front.parser import parse_dockerfile
    from orchestrator.engines.native.dockerfile.front.stages import plan_stages

    dockerfile = parse_dockerfile(text, name)
    plan = plan_stages(
        dockerfile,
        target=request.target,
        args=request.args,
        platform=request.platforms[0] if request.platforms else platform,
        build_platform=platform,
        contexts=tuple(request.contexts),
    )
    return dockerfile, plan


def read_dockerfile(request: BuildRequest) -> tuple[bytes, str]:
    """The text of the request's Dockerfile and what messages call it. Raises ContextError."""
    if request.inline is not None:
        return request.inline.encode("utf-8", "surrogateescape"), "Dockerfile (inline)"
    path = os.path.join(request.context or "", request.dockerfile or "Dockerfile")
    if os.path.basename(path) == "Dockerfile" and not os.path.exists(path):
        lower = os.path.join(os.path.dirname(path), "dockerfile")  # as a build has it
        path = lower if os.path.exists(lower) else path
    if not os.path.isabs(path):
        raise ContextError(
            f"the context {request.context} is not a local folder: its Dockerfile is not checked",
            hint="build it, and every fault is told",
        )
    try:
        with open(path, "rb") as file:
            return file.read(), path
    except OSError as error:
        raise ContextError(f"cannot read {path}: {error.strerror}") from error
