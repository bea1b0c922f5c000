"""Which stages a build needs, what each stands on and in which order they can be built. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from orchestrator.engines.native.dockerfile.front.expansion import Expansion, Style, expand_text
from orchestrator.engines.native.dockerfile.front.instructions import (
    ArgInstruction,
    Dockerfile,
    FromInstruction,
    Instruction,
    OnbuildInstruction,
    Stage,
)
from orchestrator.engines.native.dockerfile.front.lexer import scan_dockerfile
from orchestrator.engines.native.dockerfile.front.lint import Checker
from orchestrator.engines.native.dockerfile.front.origins import (
    find_context,
    find_stage_origin,
    list_origin_names,
    shorten_name,
)
from orchestrator.engines.native.dockerfile.front.parser import parse_instruction
from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid, Problem, suggest_name
from orchestrator.engines.native.dockerfile.front.steps import Base, Origin
from orchestrator.errors import Diagnostic
from orchestrator.record import Record
from orchestrator.source import Location

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Build arguments that count in RUN without being declared; in lower case too."""


class PlannedStage(Record):
    """A stage that is needed. `dependencies` are the indexes of the stages it takes anything from, its base included.

    `images` are the references that it copies or mounts from (``scratch`` is nothing), `contexts` the additional
    contexts, `main_context` whether it reads the build context. `triggers` are ONBUILD instructions that come before
    its own `instructions`. A stage that an additional context replaces has none of either.
    """

    index: int
    name: str
    shown: str
    base: Base
    platform: str
    location: Location
    instructions: tuple[Instruction, ...]
    triggers: tuple[Instruction, ...] = ()
    dependencies: tuple[int, ...] = ()
    images: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    main_context: bool = False


class StagePlan(Record):
    """`stages` are those that `target` needs, each after what it depends on. `shared_args` are global ARGs."""

    dockerfile: Dockerfile
    target: int
    stages: tuple[PlannedStage, ...]
    every: tuple[PlannedStage, ...]
    """All stages of the file, needed or not, by index."""
    platform: str
    build_platform: str
    args: Mapping[str, str]
    shared_args: Mapping[str, str]
    contexts: Mapping[str, str]
    """Names of additional contexts as the request has them, by their short form."""
    warnings: tuple[Diagnostic, ...] = ()

    def stage(self, index: int) -> PlannedStage:
        """The stage of this index."""
        return self.every[index]

    def resolve_origin(self, name: str, index: int) -> Origin:
        """What ``COPY --from=name`` or a mount's ``from=name`` in stage `index` takes from. Raises Problem."""
        return find_stage_origin(name, index, self.dockerfile.stages, self.contexts)


class _Names(NamedTuple):
    stages: tuple[Stage, ...]
    contexts: Mapping[str, str]
    variables: Mapping[str, str]
    style: Style
    declared: frozenset[str]


def plan_stages(
    dockerfile: Dockerfile,
    *,
    target: str | None = None,
    args: Mapping[str, str],
    platform: str,
    build_platform: str,
    contexts: Collection[str] = (),
) -> StagePlan:
    """Decide what to build. `target` is a stage's name or number, None the last; platforms are ``os/arch[/variant]``.

    `contexts` are the names of additional contexts. Raises DockerfileInvalid.
    """
    index = _find_target(dockerfile, target)
    checker = Checker(dockerfile.check)
    style = Style(escape=dockerfile.escape)
    shown_target = dockerfile.stages[index].name or "default"
    predefined = {
        name: args.get(name, value)
        for name, value in _list_platform_args(platform, build_platform, shown_target).items()
    }
    try:
        shared = _evaluate_shared(dockerfile, predefined, args, style)
        _check_defaults(dockerfile, predefined, style, checker)
        names = _Names(
            dockerfile.stages, {shorten_name(one): one for one in contexts}, shared, style, _list_declared(dockerfile)
        )
        stages = _plan_every(names, platform, checker)
    except _Located as located:
        raise DockerfileInvalid([located.diagnostic]) from None
    plan = StagePlan(
        dockerfile=dockerfile,
        target=index,
        stages=(),
        every=stages,
        platform=platform,
        build_platform=build_platform,
        args=dict(args),
        shared_args=shared,
        contexts=names.contexts,
    )
    plan = _complete(plan)
    return plan.replace(warnings=(*checker.finish(), *_check_unused(plan)))


def add_triggers(plan: StagePlan, index: int, expressions: Iterable[str]) -> StagePlan:
    """`plan` with the ONBUILD triggers of the image that stage `index` stands on: they may need further stages.

    Raises DockerfileInvalid; the place is the stage's FROM.
    """
    stage = plan.stage(index)
    triggers = [parse_trigger(one, stage.location) for one in expressions]
    if not triggers:
        return plan
    changed = stage.replace(triggers=(*triggers, *stage.triggers))
    every = tuple(changed if one.index == index else one for one in plan.every)
    return _complete(plan.replace(every=every))


def parse_trigger(expression: str, location: Location) -> Instruction:
    """An ONBUILD trigger as an instruction that stands at `location`. Raises DockerfileInvalid."""
    scan = scan_dockerfile(expression, location.file)
    try:
        if scan.problems or len(scan.lines) != 1:
            raise Problem(f"the ONBUILD trigger {expression!r} of the base image is not one instruction")
        found = parse_instruction(scan.lines[0].replace(origin=location))
        if found.keyword in ("FROM", "ONBUILD"):
            raise Problem(f"the ONBUILD trigger {expression!r} of the base image is not allowed")
    except Problem as problem:
        raise DockerfileInvalid([problem.locate(location, "invalid-trigger")]) from None
    return found


class _Located(Exception):
    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


def _find_target(dockerfile: Dockerfile, target: str | None) -> int:
    stages = dockerfile.stages
    if not target:
        return len(stages) - 1
    for stage in reversed(stages):
        if stage.name == target.lower():
            return stage.index
    if target.isdecimal() and len(target) < 9 and int(target) < len(stages):
        return int(target)
    known = [stage.name for stage in stages if stage.name]
    otherwise = "stages are " + ", ".join(known) if known else "no stage has a name; use FROM image AS name"
    hint = suggest_name(target, known, otherwise=otherwise)
    where = stages[0].start.location
    raise DockerfileInvalid([Diagnostic("unknown-target", f"there is no stage {target!r}", where, hint=hint)])


def _list_platform_args(platform: str, build_platform: str, target: str) -> dict[str, str]:
    result: dict[str, str] = {}
    for prefix, whole in (("BUILD", build_platform), ("TARGET", platform)):
        os, architecture, variant = [*whole.split("/"), "", ""][:3]
        result |= {f"{prefix}PLATFORM": whole, f"{prefix}OS": os, f"{prefix}OSVERSION": ""}
        result |= {f"{prefix}ARCH": architecture, f"{prefix}VARIANT": variant}
    return {**result, "TARGETSTAGE": target}


def _evaluate_shared(
    dockerfile: Dockerfile, predefined: Mapping[str, str], args: Mapping[str, str], style: Style
) -> dict[str, str]:
    values = dict(predefined)
    for one in dockerfile.args:
        for pair in one.pairs:
            value = args.get(pair.name)
            if value is None and pair.value is not None:
                try:
                    value = expand_text(pair.value, values, style).text
                except Problem as problem:
                    raise _locate(problem.at(0), one, pair.offset + len(pair.name) + 1) from None
            if value is not None:
                values[pair.name] = value
    return values


def _locate(problem: Problem, one: Instruction, begin: int) -> _Located:
    where = one.line.locate(begin + (problem.offset or 0))
    return _Located(problem.locate(where, "invalid-instruction"))


def _check_defaults(dockerfile: Dockerfile, predefined: Mapping[str, str], style: Style, checker: Checker) -> None:
    """Warn of bases that are no image without build arguments."""
    try:
        defaults = _evaluate_shared(dockerfile, predefined, {}, style)
    except _Located:
        return
    for stage in dockerfile.stages:
        start = stage.start
        try:
            found = expand_text(start.image.text, defaults, style)
        except Problem:
            continue
        if (found.found | found.missing) & _list_declared(dockerfile) and (
            not found.text or found.text[-1] in ":@/" or found.text[0] in ":/"
        ):
            message = f"without build arguments {start.image.text} is no image"
            hint = "give the ARG before FROM a default"
            checker.report("InvalidDefaultArgInFrom", message, start.location, hint=hint, comments=start.line.comments)


def _plan_every(names: _Names, platform: str, checker: Checker) -> tuple[PlannedStage, ...]:
    stages: list[PlannedStage] = []
    problems: list[Diagnostic] = []
    for stage in names.stages:
        try:
            stages.append(_plan_stage(stage, names, platform, checker))
        except _Located as located:
            problems.append(located.diagnostic)
    if problems:
        raise DockerfileInvalid(problems)
    return tuple(stages)


def _list_declared(dockerfile: Dockerfile) -> frozenset[str]:
    return frozenset(pair.name for one in dockerfile.args for pair in one.pairs)


def _plan_stage(stage: Stage, names: _Names, platform: str, checker: Checker) -> PlannedStage:
    start = stage.start
    found = _expand_from(start, start.image.text, start.image.offset, names, checker)
    if not found.text:
        hint = " and ".join(sorted(found.missing))
        hint = f"{hint} is not set: declare it with ARG before the first FROM and give it a value" if hint else ""
        where = start.line.locate(start.image.offset)
        raise _Located(Diagnostic("empty-base", f"FROM {start.image.text} comes to nothing", where, hint=hint))
    wanted = _read_platform(start, names, checker)
    base = _find_base(stage, found.text, wanted or platform, names)
    shown = "" if len(names.stages) == 1 else stage.name or f"stage-{stage.index}"
    replaced = base.kind == "named" and names.contexts.get(shorten_name(stage.name)) == base.name and bool(stage.name)
    return PlannedStage(
        index=stage.index,
        name=stage.name,
        shown=shown,
        base=base,
        platform=wanted or platform,
        location=start.location,
        instructions=() if replaced else stage.instructions,
    )


def _expand_from(start: FromInstruction, text: str, offset: int, names: _Names, checker: Checker) -> Expansion:
    try:
        found = expand_text(text, names.variables, names.style)
    except Problem as problem:
        raise _locate(problem.at(0), start, offset) from None
    for name in sorted(found.missing - names.declared):
        hint = suggest_name(name, names.variables, otherwise=f"declare it with ARG {name}=... before the first FROM")
        message = f"FROM uses ${name}, which is not declared"
        checker.report("UndefinedArgInFrom", message, start.location, hint=hint, comments=start.line.comments)
    return found


def _read_platform(start: FromInstruction, names: _Names, checker: Checker) -> str:
    if not start.platform:
        return ""
    from orchestrator.engines.native.images.failures import UnsupportedImage
    from orchestrator.engines.native.images.platform import parse_platform

    offset = next(flag.offset for flag in start.flags if flag.name == "platform")
    where = start.line.locate(offset)
    value = _expand_from(start, start.platform, offset + len("--platform="), names, checker).text
    if not value:
        message = f"--platform={start.platform} comes to nothing"
        raise _Located(Diagnostic("invalid-platform", message, where))
    if start.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
        message = "--platform=$TARGETPLATFORM is what FROM does anyway"
        checker.report("RedundantTargetPlatform", message, where, comments=start.line.comments)
    try:
        return str(parse_platform(value))
    except UnsupportedImage as error:
        raise _Located(Diagnostic("invalid-platform", error.message, where, hint=error.hint)) from None


def _find_base(stage: Stage, image: str, platform: str, names: _Names) -> Base:
    where = stage.start.location
    if stage.name and (context := find_context(stage.name, names.contexts)):
        return Base(kind="named", name=context, platform=platform, location=where)
    for earlier in reversed(names.stages[: stage.index]):
        if earlier.name and earlier.name == image.lower():
            return Base(kind="stage", name=str(earlier.index), platform=None, location=where)
    if image == "scratch":
        return Base(kind="scratch", platform=platform, location=where)
    if context := find_context(image, names.contexts):
        return Base(kind="named", name=context, platform=platform, location=where)
    return Base(kind="image", name=image, platform=platform, location=where)


def _complete(plan: StagePlan) -> StagePlan:
    """The plan with inherited triggers, dependencies and the selection of what is needed."""
    every: list[PlannedStage] = []
    problems: list[_Linked] = []
    for stage in plan.every:
        if stage.base.kind == "stage":
            base = every[int(stage.base.name)]
            inherited = tuple(
                parse_trigger(one.expression, stage.location)
                for one in base.instructions
                if isinstance(one, OnbuildInstruction)
            )
            stage = stage.replace(triggers=inherited, platform=base.platform)
        every.append(_link(stage, plan, problems))
    needed = _list_needed(every, plan.target)
    # A stage that is not needed may name a later one: it is never built.
    told = [one.problem for one in problems if one.stage in needed or one.problem.code != "stage-order"]
    if told:
        raise DockerfileInvalid(told)
    return plan.replace(every=tuple(every), stages=tuple(every[index] for index in sorted(needed)))


class _Linked(NamedTuple):
    stage: int
    problem: Diagnostic


def _link(stage: PlannedStage, plan: StagePlan, problems: list[_Linked]) -> PlannedStage:
    stages: set[int] = {int(stage.base.name)} if stage.base.kind == "stage" else set()
    images: dict[str, None] = {}
    contexts: dict[str, None] = {}
    main = False
    for one in (*stage.triggers, *stage.instructions):
        for name, offset in list_origin_names(one):
            try:
                origin = plan.resolve_origin(name, stage.index) if name else Origin()
            except Problem as problem:
                found = problem.locate(one.line.locate(offset), "unknown-stage")
                problems.append(_Linked(stage.index, found))
                continue
            if origin.kind == "stage":
                stages.add(int(origin.name))
            elif origin.kind == "image":
                images[origin.name] = None
            elif origin.kind == "named":
                contexts[origin.name] = None
            else:
                main = True
    return stage.replace(
        dependencies=tuple(sorted(stages)), images=tuple(images), contexts=tuple(contexts), main_context=main
    )


def _list_needed(every: list[PlannedStage], target: int) -> set[int]:
    needed: set[int] = set()
    pending = [target]
    while pending:
        index = pending.pop()
        if index not in needed:
            needed.add(index)
            pending += every[index].dependencies
    return needed


def _check_unused(plan: StagePlan) -> list[Diagnostic]:
    declared = {
        pair.name
        for one in (*plan.dockerfile.args, *(one for stage in plan.every for one in _list_declaring(stage)))
        if isinstance(one, ArgInstruction)
        for pair in one.pairs
    }
    predefined = {*PROXIES, *(one.lower() for one in PROXIES), "SOURCE_DATE_EPOCH", *plan.shared_args}
    unused = [name for name in plan.args if name not in declared | predefined and not name.startswith("BUILDKIT_")]
    return [
        Diagnostic(
            "unused-build-arg",
            f"the build argument {name} is not used",
            plan.stage(plan.target).location,
            hint=suggest_name(name, declared, otherwise=f"declare it with ARG {name}"),
            severity="warning",
        )
        for name in sorted(unused)
    ]


def _list_declaring(stage: PlannedStage) -> Iterator[Instruction]:
    yield from stage.instructions
    yield from stage.triggers
