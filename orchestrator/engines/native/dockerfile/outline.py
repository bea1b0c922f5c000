"""``--call targets`` and ``--call outline``: what a Dockerfile offers and takes, told without building anything."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.dockerfile.checking import plan_request, read_dockerfile
from orchestrator.engines.native.dockerfile.front.evaluate import evaluate_stage
from orchestrator.engines.native.dockerfile.front.expansion import Style, expand_text
from orchestrator.engines.native.dockerfile.front.instructions import ArgInstruction, Instruction
from orchestrator.engines.native.dockerfile.front.parser import parse_dockerfile
from orchestrator.engines.native.dockerfile.front.problems import Problem
from orchestrator.engines.native.dockerfile.front.stages import StagePlan
from orchestrator.engines.native.dockerfile.front.steps import RunStep

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.request import BuildRequest
    from orchestrator.source import Location


def list_targets(request: BuildRequest, _platform: str) -> dict[str, Any]:
    """The stages of the request's Dockerfile under the names of BuildKit's ``frontend.targets``.

    Raises DockerfileInvalid, ContextError.
    """
    text, name = read_dockerfile(request)
    stages = parse_dockerfile(text, name).stages
    found = [
        {
            "name": stage.name,
            "default": stage.index == len(stages) - 1,
            "description": _describe(stage.name, stage.start),
            "base": stage.start.image.text,
            "platform": stage.start.platform or "",
            "location": _locate(stage.start.location),
        }
        for stage in stages
    ]
    return {"targets": [_drop_empty(one) for one in found], "sources": [base64.b64encode(text).decode()]}


def outline_target(request: BuildRequest, platform: str) -> dict[str, Any]:
    """The arguments, secrets and agents of what would be built, under the names of BuildKit's ``frontend.outline``.

    `platform` is this machine's. Images are not looked at. Raises DockerfileInvalid, ContextError.
    """
    text, name = read_dockerfile(request)
    dockerfile, plan = plan_request(request, platform, text, name)
    target = dockerfile.stages[plan.target]
    secrets, agents = _list_mounts(plan)
    found = {
        "name": target.name,
        "description": _describe(target.name, target.start),
        "args": [*_list_shared(plan), *_list_own(plan)],
        "secrets": secrets,
        "ssh": agents,
        "sources": [base64.b64encode(text).decode()],
    }
    return _drop_empty(found)


def _list_shared(plan: StagePlan) -> list[dict[str, Any]]:
    """The global ARGs that the FROM of a needed stage uses, or that those use."""
    style = Style(escape=plan.dockerfile.escape)
    used: set[str] = set()
    for stage in plan.stages:
        used |= _find_names(plan.dockerfile.stages[stage.index].start.image.text, plan.shared_args, style)
    for one in reversed(plan.dockerfile.args):
        for pair in reversed(one.pairs):
            if pair.name in used and pair.value:
                used |= _find_names(pair.value, plan.shared_args, style)
    return [
        _render_arg(one, pair.name, plan.shared_args.get(pair.name, ""))
        for one in plan.dockerfile.args
        for pair in one.pairs
        if pair.name in used
    ]


def _list_own(plan: StagePlan) -> list[dict[str, Any]]:
    style = Style(escape=plan.dockerfile.escape)
    found = []
    values: dict[int, dict[str, str]] = {}
    for stage in plan.stages:
        below = values[int(stage.base.name)] if stage.base.kind == "stage" else {}
        known = values[stage.index] = dict(below)
        for one in stage.instructions:
            if not isinstance(one, ArgInstruction):
                continue
            for pair in one.pairs:
                value = plan.args.get(pair.name)
                if value is None and pair.value is not None:
                    value = expand_text(pair.value, known, style).text
                if value is None:
                    value = plan.shared_args.get(pair.name, "")
                known[pair.name] = value
                found.append(_render_arg(one, pair.name, value))
    return found


def _list_mounts(plan: StagePlan) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Secrets and agents, each where it is named first."""
    found: dict[str, dict[str, dict[str, Any]]] = {"secret": {}, "ssh": {}}
    done: dict[str, Any] = {}
    for stage in plan.stages:
        steps = evaluate_stage(plan, stage.index, done.get(stage.base.name, {}) if stage.base.kind == "stage" else {})
        done[str(stage.index)] = steps
        for step in steps.steps:
            for mount in step.mounts if isinstance(step, RunStep) else ():
                if mount.type in found:
                    name = mount.id or (os.path.basename(mount.target or "") if mount.type == "secret" else "default")
                    one = {"name": name, "required": mount.required, "location": _locate(step.location)}
                    known = found[mount.type].setdefault(name, one)
                    known["required"] = known["required"] or mount.required
    secrets, agents = ([_drop_empty(one) for one in found[kind].values()] for kind in ("secret", "ssh"))
    return secrets, agents


def _find_names(text: str, values: Mapping[str, str], style: Style) -> set[str]:
    try:
        found = expand_text(text, values, style)
    except Problem:
        return set()
    return set(found.found | found.missing)


def _render_arg(one: Instruction, name: str, value: str) -> dict[str, Any]:
    known = {"name": name, "description": _describe(name, one), "value": value, "location": _locate(one.location)}
    return _drop_empty(known)


def _describe(name: str, one: Instruction) -> str:
    """What the comment right above says of `name`, which is its first word."""
    for comment in reversed(one.line.comments):
        match = re.match(rf"#?\s*{re.escape(name)}\s+(.*)", comment) if name else None
        if match:
            return match[1].strip()
    return ""


def _locate(location: Location) -> dict[str, Any]:
    place = {"line": location.line}
    return {"ranges": [{"start": place, "end": place}]}


def _drop_empty(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in ("", False, [], None)}


def render_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Columns, three spaces apart."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )
