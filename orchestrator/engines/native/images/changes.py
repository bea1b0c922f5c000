"""``--change`` of import and commit: Dockerfile instructions that edit an image's configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.images.failures import InvalidChange

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.instructions import Instruction

_INSTRUCTIONS = (
    *("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "SHELL", "STOPSIGNAL", "USER"),
    *("VOLUME", "WORKDIR"),
)
_CLEARED = {"CMD": "Cmd", "ENTRYPOINT": "Entrypoint", "USER": "User"}
"""Without an argument these take out what the base image says."""


def apply_changes(config: dict[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """The configuration (Docker's field names) after `changes`. Raises InvalidChange."""
    from orchestrator.engines.native.dockerfile.front.configuration import read_env, set_fields
    from orchestrator.engines.native.dockerfile.front.evaluate import Evaluation
    from orchestrator.engines.native.dockerfile.front.parser import parse_dockerfile
    from orchestrator.engines.native.dockerfile.front.stages import plan_stages
    from orchestrator.engines.native.dockerfile.front.steps import Scope

    plan = plan_stages(parse_dockerfile("FROM scratch", "--change"), args={}, platform="", build_platform="")
    evaluation = Evaluation(plan, plan.stage(plan.target), dict(config), Scope(variables=read_env(config)))
    for change in changes:
        keyword, rest = _split_instruction(change)
        if keyword in _CLEARED and not rest:
            evaluation.config = set_fields(evaluation.config, **{_CLEARED[keyword]: None})
            continue
        evaluation.perform(_parse_change(keyword, rest, change))
        if evaluation.problems:
            problem = evaluation.problems[0]
            raise InvalidChange(f"{change.strip()}: {problem.message}", hint=problem.hint)
    return evaluation.config


def _split_instruction(change: str) -> tuple[str, str]:
    text = change.strip()
    end = next((at for at, char in enumerate(text) if char in " \t=["), len(text))
    keyword, rest = text[:end].upper(), text[end:].strip()
    return keyword, rest[1:].strip() if rest.startswith("=") else rest


def _parse_change(keyword: str, rest: str, change: str) -> Instruction:
    from orchestrator.engines.native.dockerfile.front.lexer import Mark, SourceLine
    from orchestrator.engines.native.dockerfile.front.parser import parse_instruction
    from orchestrator.engines.native.dockerfile.front.problems import Problem, suggest_name

    if keyword not in _INSTRUCTIONS:
        raise InvalidChange(
            f"{keyword or change!r} is not an instruction that --change knows",
            hint=suggest_name(keyword, _INSTRUCTIONS, otherwise="known are " + ", ".join(_INSTRUCTIONS)),
        )
    line = SourceLine(text=f"{keyword} {rest}".strip(), file="--change", start=1, end=1, marks=(Mark(0, 1, 1),))
    try:
        return parse_instruction(line)
    except Problem as problem:
        raise InvalidChange(f"{change.strip()}: {problem.message}", hint=problem.hint) from None
