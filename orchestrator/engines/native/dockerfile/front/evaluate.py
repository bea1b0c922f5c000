"""A stage's instructions with everything expanded: the steps that the builder performs. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any, cast

from orchestrator.engines.native.dockerfile.front.configuration import (
    join_working_dir,
    quote_character,
    quote_list,
    quote_text,
    read_env,
    render_duration,
    set_env,
    set_fields,
    start_config,
    wrap_shell,
)
from orchestrator.engines.native.dockerfile.front.evaluate_copy import plan_copy
from orchestrator.engines.native.dockerfile.front.evaluate_run import plan_run
from orchestrator.engines.native.dockerfile.front.expansion import SPACES, Expansion, Style, expand_text
from orchestrator.engines.native.dockerfile.front.instructions import (
    ArgInstruction,
    CommandInstruction,
    CopyInstruction,
    HealthcheckInstruction,
    Instruction,
    OnbuildInstruction,
    PairsInstruction,
    ShellInstruction,
    ValueInstruction,
    WordsInstruction,
)
from orchestrator.engines.native.dockerfile.front.lint import Checker
from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid, Problem, suggest_name
from orchestrator.engines.native.dockerfile.front.stages import PlannedStage, StagePlan, parse_trigger
from orchestrator.engines.native.dockerfile.front.steps import (
    ConfigStep,
    Scope,
    StageSteps,
    Step,
    WorkdirStep,
)
from orchestrator.engines.native.dockerfile.front.values import check_signal, parse_ports
from orchestrator.errors import Diagnostic

_HIDDEN_ARGS = frozenset(("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"))
# Declared, they say something to the builder; they are no variables.

_TOLD = frozenset(("ADD", "COPY", "RUN", "WORKDIR"))
# What makes layers, and is told while it is done.


def evaluate_stage(plan: StagePlan, index: int, base: StageSteps | Mapping[str, Any] | None = None) -> StageSteps:
    """The steps of stage `index`.

    `base` is what the stage stands on: the steps of the earlier stage, the ``config`` object of the image (its
    ``OnBuild`` triggers run first, unless :func:`~.stages.add_triggers` has them in the plan), or None for
    ``scratch`` and for a plain directory. Raises DockerfileInvalid with every fault of the stage.
    """
    stage = plan.stage(index)
    if isinstance(base, StageSteps):
        scope, config, author = base.scope, start_config({**base.config}), base.author
        triggers = stage.triggers
    else:
        config = start_config(base)
        scope, author = Scope(variables=read_env(config)), ""
        expressions = (base or {}).get("OnBuild") or () if not stage.triggers else ()
        triggers = stage.triggers or tuple(parse_trigger(one, stage.location) for one in expressions)
    evaluation = Evaluation(plan, stage, config, scope)
    evaluation.author = author
    for one in triggers:
        evaluation.perform(one, triggered=True)
    for one in stage.instructions:
        evaluation.perform(one)
    if evaluation.problems:
        raise DockerfileInvalid(evaluation.problems)
    return StageSteps(
        index=index,
        name=stage.name,
        steps=tuple(evaluation.steps),
        config=evaluation.config,
        platform=stage.platform,
        shown=stage.shown,
        author=evaluation.author,
        scope=Scope(
            variables=evaluation.variables,
            arguments=tuple(evaluation.arguments.items()),
            workdir_set=evaluation.workdir_set,
        ),
        warnings=evaluation.checker.finish(),
    )


class Evaluation:
    """A stage while it is evaluated: `config` and `variables` as they are after the instructions so far.

    `arguments` are the ARGs in scope, with the values they were declared with.
    """

    def __init__(self, plan: StagePlan, stage: PlannedStage, config: dict[str, Any], scope: Scope) -> None:
        self.plan = plan
        self.stage = stage
        self.config = config
        self.variables = dict(scope.variables)
        self.arguments = dict(scope.arguments)
        self.workdir_set = scope.workdir_set
        self.author = ""
        self.style = Style(escape=plan.dockerfile.escape)
        self.checker = Checker(plan.dockerfile.check)
        self.steps: list[Step] = []
        self.problems: list[Diagnostic] = []
        self._command_set = False
        self._triggered = False

    def perform(self, one: Instruction, *, triggered: bool = False) -> None:
        """Evaluate one instruction; faults are collected."""
        self._triggered = triggered
        try:
            step = _PERFORM[one.keyword](self, one)
        except Problem as problem:
            where = one.line.locate(problem.offset or 0)
            self.problems.append(problem.name(one.keyword).locate(where, "invalid-instruction"))
        else:
            self.steps.append(step)

    def expand(self, one: Instruction, text: str, offset: int, style: Style | None = None) -> Expansion:
        """Expand a word of `one` that stands at `offset`."""
        try:
            found = expand_text(text, self.variables, style or self.style)
        except Problem as problem:
            problem.offset = offset + (problem.offset or 0)
            raise
        for name in sorted(found.missing - self.arguments.keys()):
            if name[:1].isalpha() or name[:1] == "_":
                hint = suggest_name(name, self.variables)
                where = one.line.locate(offset)
                message = f"{one.keyword} uses ${name}, which is not defined"
                self.checker.report("UndefinedVar", message, where, hint=hint, comments=one.line.comments)
        return found

    def common(self, one: Instruction, created_by: str, **config: Any) -> dict[str, Any]:
        """The fields that every step has; `config` are changes of the image's configuration."""
        if config:
            self.config = set_fields(self.config, **config)
        text = self._show(one.text) if one.keyword in _TOLD else one.text
        if self._triggered:
            text = f"ONBUILD {text}"
        return {"location": one.location, "text": text, "created_by": created_by, "config": self.config}

    def _show(self, text: str) -> str:
        """The instruction as it is told: with the values of the variables that the builder knows."""
        if "$" not in text:
            return text
        style = Style(escape=self.style.escape, keep_quotes=True, keep_escapes=True, keep_unset=True)
        try:
            return expand_text(text, self.variables, style).text
        except Problem:
            # What the builder does not understand may be plain to the shell.
            return text

    def locate_flag(self, one: Instruction, name: str) -> int:
        """The offset of a flag's value."""
        flag = next(flag for flag in one.flags if flag.name == name)
        return flag.offset + len(name) + 3


def _perform_arg(now: Evaluation, one: Instruction) -> Step:
    shown = []
    for pair in cast(ArgInstruction, one).pairs:
        name = pair.name
        value = now.plan.args.get(name)
        if value is None and pair.value is not None:
            value = now.expand(one, pair.value, pair.offset + len(pair.name) + 1).text
        elif value is None:
            value = now.plan.shared_args.get(name)
        if value is not None and name not in _HIDDEN_ARGS:
            now.variables[name] = value
        now.arguments[name] = value
        shown.append(name if value is None else f"{name}={value}")
    return ConfigStep(**now.common(one, "ARG " + " ".join(shown)))


def _expand_pairs(now: Evaluation, one: Instruction) -> list[tuple[str, str]]:
    found = cast(PairsInstruction, one)
    result = []
    for pair in found.pairs:
        name = now.expand(one, pair.name, pair.offset).text
        if not name:
            raise Problem(f"{one.keyword} {pair.name} comes to an empty name", offset=pair.offset, code="blank-name")
        value = now.expand(one, pair.value or "", pair.offset + len(pair.name) + 1).text
        result.append((name, value))
    return result


def _perform_env(now: Evaluation, one: Instruction) -> Step:
    pairs = _expand_pairs(now, one)
    now.variables.update(pairs)
    now.config = set_env(now.config, pairs)
    return ConfigStep(**now.common(one, "ENV " + " ".join(f"{name}={value}" for name, value in pairs)))


def _perform_label(now: Evaluation, one: Instruction) -> Step:
    pairs = _expand_pairs(now, one)
    labels = {**(now.config.get("Labels") or {}), **dict(pairs)}
    created_by = "LABEL " + " ".join(f"{name}={value}" for name, value in pairs)
    return ConfigStep(**now.common(one, created_by, Labels=labels))


def _perform_cmd(now: Evaluation, one: Instruction) -> Step:
    words = _wrap_command(now, one)
    now._command_set = True
    return ConfigStep(**now.common(one, f"CMD {quote_list(words)}", Cmd=list(words)))


def _perform_entrypoint(now: Evaluation, one: Instruction) -> Step:
    words = _wrap_command(now, one)
    # A command that came with the base was meant for the base's entry point.
    command = now.config.get("Cmd") if now._command_set else None
    return ConfigStep(**now.common(one, f"ENTRYPOINT {quote_list(words)}", Entrypoint=list(words), Cmd=command))


def _wrap_command(now: Evaluation, one: Instruction) -> tuple[str, ...]:
    command = cast(CommandInstruction, one).command
    if not command.shell:
        return command.words
    if not now.config.get("Shell"):
        hint = f'write {one.keyword} ["program", "argument"]'
        message = f"{one.keyword} in shell form does not pass signals on to the program"
        checks = now.checker
        checks.report("JSONArgsRecommended", message, one.location, hint=hint, comments=one.line.comments)
    return wrap_shell(now.config, command.words[0])


def _perform_workdir(now: Evaluation, one: Instruction) -> Step:
    word = cast(ValueInstruction, one).value
    path = now.expand(one, word.text, word.offset).text
    if not path:
        raise Problem(f"WORKDIR {word.text} comes to an empty path", offset=word.offset, code="empty-path")
    if not now.workdir_set and not posixpath.isabs(path):
        message = f"WORKDIR {path} is relative to whatever the base image has"
        hint = f"write WORKDIR /{path}"
        now.checker.report("WorkdirRelativePath", message, one.location, hint=hint, comments=one.line.comments)
    now.workdir_set = True
    place = join_working_dir(now.config.get("WorkingDir") or "/", path)
    # Docker keeps an absolute path as it was written, slashes and dots and all.
    shown = path if posixpath.isabs(path) else place
    fields = now.common(one, f"WORKDIR {shown}", WorkingDir=shown)
    return WorkdirStep(**fields, path=place, user=now.config.get("User") or "")


def _perform_user(now: Evaluation, one: Instruction) -> Step:
    word = cast(ValueInstruction, one).value
    user = now.expand(one, word.text, word.offset).text
    if any(char in SPACES for char in user):
        hint = "a comment needs a line of its own" if "#" in user else "write USER name or USER name:group"
        raise Problem(f"USER takes one word, not {user!r}", offset=word.offset, code="invalid-user", hint=hint)
    return ConfigStep(**now.common(one, f"USER {user}", User=user))


def _perform_stop_signal(now: Evaluation, one: Instruction) -> Step:
    word = cast(ValueInstruction, one).value
    try:
        name = check_signal(now.expand(one, word.text, word.offset).text)
    except Problem as problem:
        raise problem.at(word.offset) from None
    return ConfigStep(**now.common(one, f"STOPSIGNAL {name}", StopSignal=name))


def _perform_maintainer(now: Evaluation, one: Instruction) -> Step:
    now.author = cast(ValueInstruction, one).value.text
    return ConfigStep(**now.common(one, f"MAINTAINER {now.author}"))


def _perform_expose(now: Evaluation, one: Instruction) -> Step:
    ports: list[str] = []
    for word in sorted(cast(WordsInstruction, one).words, key=lambda word: word.text):
        for text in now.expand(one, word.text, word.offset).words:
            try:
                ports += parse_ports(text)
            except Problem as problem:
                raise problem.at(word.offset) from None
            _check_port(now, one, text, one.line.locate(word.offset))
    exposed = {**(now.config.get("ExposedPorts") or {}), **{port: {} for port in ports}}
    return ConfigStep(**now.common(one, f"EXPOSE [{' '.join(ports)}]", ExposedPorts=exposed))


def _check_port(now: Evaluation, one: Instruction, text: str, where: Any) -> None:
    protocol = text.partition("/")[2]
    if protocol != protocol.lower():
        message = f"the protocol of {text} should be lower case"
        now.checker.report("ExposeProtoCasing", message, where, comments=one.line.comments)
    if ":" in text:
        message = f"EXPOSE {text}: an address or a host port means nothing here"
        now.checker.report("ExposeInvalidFormat", message, where, comments=one.line.comments)


def _perform_volume(now: Evaluation, one: Instruction) -> Step:
    paths = []
    for word in cast(WordsInstruction, one).words:
        path = now.expand(one, word.text, word.offset).text
        if not path:
            raise Problem(f"VOLUME {word.text} comes to an empty path", offset=word.offset, code="empty-path")
        paths.append(path)
    volumes = {**(now.config.get("Volumes") or {}), **{path: {} for path in paths}}
    return ConfigStep(**now.common(one, f"VOLUME [{' '.join(paths)}]", Volumes=volumes))


def _perform_shell(now: Evaluation, one: Instruction) -> Step:
    shell = cast(ShellInstruction, one).shell
    return ConfigStep(**now.common(one, f"SHELL [{' '.join(shell)}]", Shell=list(shell)))


def _perform_healthcheck(now: Evaluation, one: Instruction) -> Step:
    found = cast(HealthcheckInstruction, one)
    times = (
        ("Interval", found.interval),
        ("Timeout", found.timeout),
        ("StartPeriod", found.start_period),
        ("StartInterval", found.start_interval),
    )
    check: dict[str, Any] = {"Test": list(found.test), **{name: value for name, value in times if value}}
    if found.retries:
        check["Retries"] = found.retries
    shown = " ".join(quote_text(render_duration(value)) for _, value in times)
    # Docker's history shows its own data structure, where the number of retries looks like a character.
    created_by = f"HEALTHCHECK &{{{quote_list(found.test)} {shown} {quote_character(found.retries)}}}"
    return ConfigStep(**now.common(one, created_by, Healthcheck=check))


def _perform_onbuild(now: Evaluation, one: Instruction) -> Step:
    expression = cast(OnbuildInstruction, one).expression
    triggers = [*(now.config.get("OnBuild") or ()), expression]
    return ConfigStep(**now.common(one, "", OnBuild=triggers))


def _perform_run(now: Evaluation, one: Instruction) -> Step:
    return plan_run(now, cast(CommandInstruction, one))


def _perform_copy(now: Evaluation, one: Instruction) -> Step:
    return plan_copy(now, cast(CopyInstruction, one))


_PERFORM: dict[str, Callable[[Evaluation, Instruction], Step]] = {
    "ADD": _perform_copy,
    "ARG": _perform_arg,
    "CMD": _perform_cmd,
    "COPY": _perform_copy,
    "ENTRYPOINT": _perform_entrypoint,
    "ENV": _perform_env,
    "EXPOSE": _perform_expose,
    "HEALTHCHECK": _perform_healthcheck,
    "LABEL": _perform_label,
    "MAINTAINER": _perform_maintainer,
    "ONBUILD": _perform_onbuild,
    "RUN": _perform_run,
    "SHELL": _perform_shell,
    "STOPSIGNAL": _perform_stop_signal,
    "USER": _perform_user,
    "VOLUME": _perform_volume,
    "WORKDIR": _perform_workdir,
}
