"""Where COPY, ADD and mounts take files from: stages, additional contexts, images. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from orchestrator.engines.native.dockerfile.front.expansion import expand_text
from orchestrator.engines.native.dockerfile.front.instructions import CopyInstruction, Instruction, Stage
from orchestrator.engines.native.dockerfile.front.mounts import find_origin
from orchestrator.engines.native.dockerfile.front.problems import Problem
from orchestrator.engines.native.dockerfile.front.steps import Origin
from orchestrator.engines.native.dockerfile.front.values import is_remote

_RESERVED = ("scratch", "context")
_NUMBER = r"[-+]?[0-9]{1,9}"


def find_context(name: str, contexts: Mapping[str, str]) -> str:
    """The additional context of this name, as the request calls it; `contexts` has them by :func:`shorten_name`."""
    return "" if name.lower() in _RESERVED else contexts.get(shorten_name(name), "")


def shorten_name(name: str) -> str:
    """The form in which names of images are compared: without ``docker.io/library/`` and ``:latest``."""
    name = name.removesuffix(":latest")
    for prefix in ("docker.io/library/", "index.docker.io/library/", "library/", "docker.io/"):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def find_stage_origin(name: str, index: int, stages: tuple[Stage, ...], contexts: Mapping[str, str]) -> Origin:
    """What `name` means in stage `index`: an earlier stage, an additional context, an image. Raises Problem."""
    if expand_text(name, {}).text != name:
        raise Problem(
            "--from cannot have variables or quotes",
            code="variable-not-supported",
            hint="name a stage with FROM ${...} AS name, where global ARGs count, and use that name",
        )
    if re.fullmatch(_NUMBER, name):
        found = int(name)
        if not 0 <= found < len(stages):
            raise Problem(
                f"there is no stage number {name}", code="unknown-stage", hint=f"stages are 0 to {len(stages) - 1}"
            )
        candidates = [found]
    else:
        candidates = [stage.index for stage in stages if stage.name and stage.name == name.lower()]
    earlier = [one for one in candidates if one < index]
    if earlier:
        return Origin(kind="stage", name=str(earlier[-1]))
    if index in candidates:
        raise Problem(
            f"the stage {name} takes files from itself", code="circular-stage", hint="name an earlier stage or an image"
        )
    if candidates:
        raise Problem(
            f"the stage {name} is defined after this one",
            code="stage-order",
            hint="move it before the stage that uses it",
        )
    if context := find_context(name, contexts):
        return Origin(kind="named", name=context)
    return Origin(kind="image", name=name)


def list_origin_names(one: Instruction) -> Iterator[tuple[str, int]]:
    """What an instruction takes files from: names of stages, contexts or images, or nothing for the build context."""
    if isinstance(one, CopyInstruction):
        flag = next((flag for flag in one.flags if flag.name == "from"), None)
        if flag is not None and flag.value:
            yield flag.value, flag.offset
        elif any(one.keyword == "COPY" or not is_remote(word.text) for word in one.sources):
            yield "", 0
    for flag in one.flags:
        if flag.name == "mount":
            name = find_origin(flag.value or "")
            if name is not None:
                yield name, flag.offset
