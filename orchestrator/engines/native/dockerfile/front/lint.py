"""Build checks: what is allowed but probably not meant. The names are those that ``# check=skip=NAME`` takes. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from orchestrator.engines.native.dockerfile.front.instructions import (
    ArgInstruction,
    CheckOptions,
    Dockerfile,
    FromInstruction,
    Instruction,
    PairsInstruction,
    Stage,
)
from orchestrator.engines.native.dockerfile.front.lexer import Directive, SourceLine
from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid, suggest_name
from orchestrator.errors import Diagnostic
from orchestrator.source import Location

CHECKS = {
    "ConsistentInstructionCasing": "consistent-instruction-casing",
    "CustomSyntax": "custom-syntax",
    "DuplicateStageName": "duplicate-stage-name",
    "ExposeInvalidFormat": "expose-invalid-format",
    "ExposeProtoCasing": "expose-proto-casing",
    "FromAsCasing": "from-as-casing",
    "FromPlatformFlagConstDisallowed": "from-platform-flag-const-disallowed",
    "InvalidDefaultArgInFrom": "invalid-default-arg-in-from",
    "JSONArgsRecommended": "json-args-recommended",
    "LegacyKeyValueFormat": "legacy-key-value-format",
    "MaintainerDeprecated": "maintainer-deprecated",
    "MultipleInstructionsDisallowed": "multiple-instructions-disallowed",
    "NoEmptyContinuation": "no-empty-continuation",
    "RedundantTargetPlatform": "redundant-target-platform",
    "ReservedStageName": "reserved-stage-name",
    "SecretsUsedInArgOrEnv": "secrets-used-in-arg-or-env",
    "StageNameCasing": "stage-name-casing",
    "TextAfterList": "text-after-list",
    "UndefinedArgInFrom": "undefined-arg-in-from",
    "UndefinedVar": "undefined-var",
    "WorkdirRelativePath": "workdir-relative-path",
}
"""Every check, with the code of its diagnostics."""

_FOREIGN = frozenset(("CopyIgnoredFile", "InvalidBaseImagePlatform", "InvalidDefinitionDescription"))
# Checks of Docker's that need files or images; skipping them is fine.
_WORDS = "apikey|auth|credentials?|key|password|pword|passwd|secret|token"
_SECRET = rf"(?i:(?:_|^)(?:{_WORDS})(?:_|$))"
_PUBLIC = r"(?i:(?:_|^)public(?:_|$))"
_ONCE = ("CMD", "ENTRYPOINT", "HEALTHCHECK")


class Checker:
    """Collects warnings, except those that the file asks not to hear."""

    def __init__(self, options: CheckOptions) -> None:
        self._options = options
        self.found: list[Diagnostic] = []

    def report(
        self, check: str, message: str, location: Location, *, hint: str = "", comments: Sequence[str] = ()
    ) -> None:
        """Warn, unless `check` is skipped by the file or by the `comments` before the instruction."""
        skip = self._options.skip | _skipped_by(comments)
        if check not in skip and "all" not in skip:
            self.found.append(Diagnostic(CHECKS[check], message, location, hint=hint, severity="warning"))

    def finish(self) -> tuple[Diagnostic, ...]:
        """The warnings by place, each once. Raises DockerfileInvalid where the file asks for errors instead."""
        found = tuple(dict.fromkeys(sorted(self.found, key=lambda one: one.location or ())))
        if found and self._options.error:
            raise DockerfileInvalid(one._replace(severity="error") for one in found)
        return found


def parse_check_options(directives: Iterable[Directive]) -> tuple[CheckOptions, list[Diagnostic]]:
    """What ``# check=`` says, and what is wrong with it."""
    directive = next((one for one in directives if one.name == "check"), None)
    if directive is None:
        return CheckOptions(), []
    skip: frozenset[str] = frozenset()
    error = False
    problems: list[Diagnostic] = []
    for part in directive.value.split(";"):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name in ("skip", "experimental") and equals:
            names = frozenset(one.strip() for one in value.split(",") if one.strip())
            skip = names if name == "skip" else skip
        elif name == "error" and value.lower() in ("true", "false", "1", "0"):
            error = value.lower() in ("true", "1")
        else:
            hint = "for example # check=skip=UndefinedVar;error=true"
            message = f"invalid check option {part.strip()!r}"
            problems.append(Diagnostic("invalid-check", message, directive.location, hint=hint))
    for one in sorted(skip - CHECKS.keys() - _FOREIGN - {"all"}):
        hint = suggest_name(one, CHECKS)
        if hint:
            problems.append(Diagnostic("invalid-check", f"unknown check {one!r}", directive.location, hint=hint))
    return CheckOptions(skip, error), problems


def check_file(dockerfile: Dockerfile, lines: Sequence[SourceLine]) -> tuple[Diagnostic, ...]:
    """The warnings that need nothing but the text."""
    checker = Checker(dockerfile.check)
    _check_syntax(dockerfile.directives, checker)
    for line in lines:
        for number in line.empty:
            where = Location(line.file, number, 1)
            checker.report("NoEmptyContinuation", "an empty line continues an instruction", where)
    _check_stage_names(dockerfile.stages, checker)
    _check_casing([*dockerfile.args, *_all_instructions(dockerfile)], checker)
    for one in [*dockerfile.args, *_all_instructions(dockerfile)]:
        _check_instruction(one, checker)
    for stage in dockerfile.stages:
        _check_repeated(stage, checker)
    return checker.finish()


def is_secret(name: str) -> bool:
    """Whether a variable of this name is probably a secret."""
    return re.search(_SECRET, name) is not None and re.search(_PUBLIC, name) is None


def _skipped_by(comments: Sequence[str]) -> frozenset[str]:
    names: set[str] = set()
    for comment in comments:
        match = re.match(r"check\s*=\s*skip\s*=\s*([^;]*)", comment)
        if match:
            names.update(one.strip() for one in match[1].split(","))
    return frozenset(names)


def _check_syntax(directives: Iterable[Directive], checker: Checker) -> None:
    for one in directives:
        if one.name == "syntax" and "dockerfile" not in one.value:
            message = f"the syntax {one.value} is not known here; the file is read as a Dockerfile"
            checker.report("CustomSyntax", message, one.location)


def _all_instructions(dockerfile: Dockerfile) -> Iterator[Instruction]:
    for stage in dockerfile.stages:
        yield stage.start
        yield from stage.instructions


def _check_stage_names(stages: Iterable[Stage], checker: Checker) -> None:
    seen: set[str] = set()
    for stage in stages:
        start = stage.start
        word = start.name_written
        if word is None:
            continue
        where, comments = start.line.locate(word.offset), start.line.comments
        if word.text != stage.name:
            message = f"the stage name {word.text} should be lower case"
            checker.report("StageNameCasing", message, where, hint=f"write {stage.name}", comments=comments)
        if stage.name in ("scratch", "context"):
            checker.report("ReservedStageName", f"{stage.name} is reserved", where, comments=comments)
        if stage.name in seen:
            message = f"there is another stage called {stage.name}"
            checker.report("DuplicateStageName", message, where, comments=comments)
        seen.add(stage.name)
        if start.as_written and start.as_written.isupper() != start.written.isupper():
            message = f"{start.as_written} and {start.written} are not written in the same case"
            checker.report("FromAsCasing", message, start.location, comments=comments)


def _check_casing(instructions: Sequence[Instruction], checker: Checker) -> None:
    cases = Counter(one.written.isupper() for one in instructions if one.written in (one.keyword, one.keyword.lower()))
    upper = cases[True] >= cases[False]
    for one in instructions:
        if one.written != (one.keyword if upper else one.keyword.lower()):
            message = f"{one.written} should be written in {'upper' if upper else 'lower'} case like the others"
            checker.report("ConsistentInstructionCasing", message, one.location, comments=one.line.comments)


def _check_instruction(one: Instruction, checker: Checker) -> None:
    comments = one.line.comments
    if one.keyword == "MAINTAINER":
        hint = 'write LABEL org.opencontainers.image.authors="..."'
        checker.report("MaintainerDeprecated", "MAINTAINER is deprecated", one.location, hint=hint, comments=comments)
    if one.behind_list is not None:
        rest = one.text[one.behind_list :].strip()
        message = f"the JSON list is none, because {rest!r} stands behind it"
        hint = "a comment needs a line of its own" if rest.startswith("#") else ""
        checker.report("TextAfterList", message, one.line.locate(one.behind_list), hint=hint, comments=comments)
    if isinstance(one, PairsInstruction) and one.legacy:
        hint = f"write {one.keyword} {one.pairs[0].name}=..."
        message = f"{one.keyword} without an equals sign is a legacy form"
        checker.report("LegacyKeyValueFormat", message, one.location, hint=hint, comments=comments)
    if isinstance(one, ArgInstruction | PairsInstruction) and one.keyword != "LABEL":
        for pair in one.pairs:
            if is_secret(pair.name):
                where = one.line.locate(pair.offset)
                message = f"{one.keyword} {pair.name} may keep a secret in the image for everybody to see"
                hint = f"use RUN --mount=type=secret,id={pair.name}"
                checker.report("SecretsUsedInArgOrEnv", message, where, hint=hint, comments=comments)
    if isinstance(one, FromInstruction) and one.platform is not None and "$" not in one.platform:
        named = any(part and part in one.name for part in one.platform.split("/"))
        if not named:
            message = f"FROM --platform={one.platform} builds for this platform only"
            checker.report("FromPlatformFlagConstDisallowed", message, one.location, comments=comments)


def _check_repeated(stage: Stage, checker: Checker) -> None:
    for keyword in _ONCE:
        for one in [one for one in stage.instructions if one.keyword == keyword][:-1]:
            message = f"{keyword} is set again later in the same stage; only the last one counts"
            checker.report("MultipleInstructionsDisallowed", message, one.location, comments=one.line.comments)
