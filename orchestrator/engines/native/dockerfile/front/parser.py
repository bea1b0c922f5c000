"""From the text of a Dockerfile to its stages and instructions; all faults of a file are told at once. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.engines.native.dockerfile.front.instructions import (
    INSTRUCTIONS,
    ArgInstruction,
    Dockerfile,
    FromInstruction,
    Instruction,
    Stage,
)
from orchestrator.engines.native.dockerfile.front.lexer import SourceLine, scan_dockerfile, split_keyword
from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid, Problem, suggest_name
from orchestrator.engines.native.dockerfile.front.readers import READERS, Reader
from orchestrator.engines.native.dockerfile.front.words import Flag, split_flags
from orchestrator.errors import Diagnostic

_FLAGS: dict[str, tuple[str, ...]] = {
    "FROM": ("platform",),
    "RUN": ("mount", "network", "security", "device"),
    "COPY": ("from", "chown", "chmod", "link", "parents", "exclude"),
    "ADD": ("chown", "chmod", "link", "keep-git-dir", "checksum", "exclude", "unpack"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
_BOOLEAN_FLAGS = frozenset(("link", "parents", "keep-git-dir", "unpack"))
_REPEATED_FLAGS = frozenset(("mount", "exclude", "device"))
_CHOICES = {"network": ("default", "none", "host"), "security": ("sandbox", "insecure")}


def parse_dockerfile(text: bytes | str, name: str) -> Dockerfile:
    """Parse a Dockerfile; `name` is what messages call it.

    Raises DockerfileInvalid with every fault of the file.
    """
    from orchestrator.engines.native.dockerfile.front.lint import check_file, parse_check_options

    scan = scan_dockerfile(text, name)
    problems = list(scan.problems)
    if binary := [one for one in problems if one.code == "nul-byte"]:
        raise DockerfileInvalid(binary[:1])  # what its other lines seem to say means nothing
    options, check_problems = parse_check_options(scan.directives)
    problems += check_problems
    found: list[Instruction] = []
    for line in scan.lines:
        try:
            found.append(parse_instruction(line, scan.escape))
        except Problem as problem:
            problems.append(problem.locate(line.locate(problem.offset or 0), "invalid-instruction"))
    stages, args, misplaced = _collect_stages(found)
    problems += misplaced
    if not stages and not problems:
        missing = "has no FROM instruction" if found else "is empty: there is no instruction in it"
        problems.append(Diagnostic("no-stage", f"{name} {missing}", hint="begin with FROM and an image"))
    if problems:
        raise DockerfileInvalid(problems)
    result = Dockerfile(
        name=name,
        stages=stages,
        args=args,
        directives=scan.directives,
        escape=scan.escape,
        check=options,
        source=scan.source,
    )
    return result.replace(warnings=check_file(result, scan.lines))


def parse_instruction(line: SourceLine, escape: str = "\\") -> Instruction:
    """Parse one instruction. Raises Problem with an offset in ``line.text``."""
    written, begin = split_keyword(line.text)
    keyword = written.upper()
    if keyword not in INSTRUCTIONS:
        hint = suggest_name(keyword, INSTRUCTIONS, otherwise="see the Dockerfile reference for the instructions")
        raise Problem(f"unknown instruction: {written}", offset=0, code="unknown-instruction", hint=hint)
    flags, after = split_flags(line.text[begin:])
    flags = tuple(flag._replace(offset=flag.offset + begin) for flag in flags)
    reader = Reader(keyword, written, line, flags, begin + after, escape)
    try:
        _check_flags(keyword, flags)
        return READERS[keyword](reader)
    except Problem as problem:
        raise problem.at(reader.begin).name(keyword) from None


def _collect_stages(
    found: Iterable[Instruction],
) -> tuple[tuple[Stage, ...], tuple[ArgInstruction, ...], list[Diagnostic]]:
    starts: list[FromInstruction] = []
    bodies: list[list[Instruction]] = []
    args: list[ArgInstruction] = []
    problems: list[Diagnostic] = []
    for one in found:
        if isinstance(one, FromInstruction):
            starts.append(one)
            bodies.append([])
        elif bodies:
            bodies[-1].append(one)
        elif isinstance(one, ArgInstruction):
            args.append(one)
        else:
            message = f"{one.keyword} before the first FROM"
            hint = "only ARG may stand before FROM"
            problems.append(Diagnostic("instruction-before-from", message, one.location, hint=hint))
    stages = tuple(
        Stage(index=index, start=start, instructions=tuple(body))
        for index, (start, body) in enumerate(zip(starts, bodies, strict=True))
    )
    return stages, tuple(args), problems


def _check_flags(keyword: str, flags: tuple[Flag, ...]) -> None:
    known = _FLAGS.get(keyword, ())
    seen: set[str] = set()
    for flag in flags:
        if flag.name not in known:
            otherwise = f"{keyword} knows " + ", ".join(f"--{one}" for one in known) if known else ""
            hint = suggest_name(f"--{flag.name}", [f"--{one}" for one in known], otherwise=otherwise)
            if not known:
                hint = f"{keyword} takes no flags"
            raise Problem(
                f"unknown flag --{flag.name} of {keyword}", offset=flag.offset, code="unknown-flag", hint=hint
            )
        if flag.name in seen and flag.name not in _REPEATED_FLAGS:
            raise Problem(f"--{flag.name} is given twice", offset=flag.offset, code="duplicate-flag")
        seen.add(flag.name)
        _check_flag_value(flag)


def _check_flag_value(flag: Flag) -> None:
    if flag.name in _BOOLEAN_FLAGS:
        if flag.value is not None and flag.value.lower() not in ("true", "false"):
            message = f"--{flag.name} is true or false, not {flag.value!r}"
            raise Problem(message, offset=flag.offset, code="invalid-flag")
        return
    if flag.value is None:
        message = f"--{flag.name} needs a value"
        raise Problem(message, offset=flag.offset, code="invalid-flag", hint=f"write --{flag.name}=...")
    known = _CHOICES.get(flag.name)
    if known and flag.value not in known:
        hint = suggest_name(flag.value, known, otherwise="it is " + " or ".join(known))
        raise Problem(f"invalid --{flag.name} {flag.value!r}", offset=flag.offset, code="invalid-flag", hint=hint)
    if flag.name == "device":
        raise Problem(
            "--device is not supported: there are no CDI devices here", offset=flag.offset, code="unsupported-flag"
        )
