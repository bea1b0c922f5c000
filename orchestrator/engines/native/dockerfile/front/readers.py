"""What stands behind each instruction's name: one function per instruction. Pure; all raise Problem."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from orchestrator.engines.native.dockerfile.front.expansion import SPACES
from orchestrator.engines.native.dockerfile.front.instructions import (
    ArgInstruction,
    Command,
    CommandInstruction,
    CopyInstruction,
    FromInstruction,
    HealthcheckInstruction,
    InlineSource,
    Instruction,
    OnbuildInstruction,
    Pair,
    PairsInstruction,
    ShellInstruction,
    ValueInstruction,
    WordsInstruction,
)
from orchestrator.engines.native.dockerfile.front.lexer import Mark, SourceLine, parse_heredoc
from orchestrator.engines.native.dockerfile.front.mounts import read_mount, split_mount
from orchestrator.engines.native.dockerfile.front.problems import Problem
from orchestrator.engines.native.dockerfile.front.steps import Origin
from orchestrator.engines.native.dockerfile.front.values import parse_health_interval, parse_retries
from orchestrator.engines.native.dockerfile.front.words import Flag, Word, parse_string_list, split_plain, split_quoted

_STAGE_NAME = r"[a-z][a-z0-9_.-]*"
_COMMENT_HINT = "a comment needs a line of its own"
_GAP = re.compile(r"[\t\v\f\r ]+")


class Reader:
    """The arguments of one instruction: `rest` begins at `begin` in the line's text."""

    def __init__(
        self, keyword: str, written: str, line: SourceLine, flags: tuple[Flag, ...], begin: int, escape: str
    ) -> None:
        self.keyword = keyword
        self.line = line
        self.begin = begin
        self.rest = line.text[begin:]
        self.escape = escape
        self.common: dict[str, Any] = {"keyword": keyword, "written": written, "line": line, "flags": flags}

    def fail(self, message: str, *, offset: int | None = None, hint: str = "", code: str = "") -> Problem:
        """The fault `message` (the instruction's name goes before it), at `offset` or at the arguments."""
        where = self.begin if offset is None else offset
        return Problem(f"{self.keyword} {message}", offset=where, hint=hint, code=code)

    def require(self, what: str, hint: str = "") -> str:
        """The arguments, which must not be empty."""
        if not self.rest:
            raise self.fail(f"needs {what}", offset=0, code="missing-argument", hint=hint)
        return self.rest

    def split_plain(self) -> tuple[Word, ...]:
        """The arguments split at white space."""
        return tuple(word.shift(self.begin) for word in split_plain(self.rest))

    def split_quoted(self) -> tuple[Word, ...]:
        """The arguments split at white space outside quotes."""
        return tuple(word.shift(self.begin) for word in split_quoted(self.rest, self.escape))

    def parse_list(self, skip: int = 0) -> tuple[Word, ...] | None:
        """The arguments (after `skip` characters) as a JSON list of strings; None if they are anything else."""
        try:
            found = parse_string_list(self.rest[skip:])
        except Problem as problem:
            problem.offset = (problem.offset or 0) + self.begin + skip
            raise
        if found is None:
            return None
        if self.rest[skip + found.end :].strip(SPACES):
            self.common["behind_list"] = self.begin + skip + found.end
            return None
        return tuple(word.shift(self.begin + skip) for word in found.words)

    def read_command(self, skip: int = 0) -> Command:
        """The exec form or the shell form."""
        words = self.parse_list(skip)
        if words is not None:
            return Command(tuple(word.text for word in words), False)
        return Command((self.rest[skip:],), True)


def _read_from(reader: Reader) -> Instruction:
    reader.require("an image", "write FROM image, FROM image AS name or FROM scratch")
    words = reader.split_plain()
    name: Word | None = None
    keyword: Word | None = None
    if len(words) == 3 and words[1].text.lower() == "as":
        _, keyword, name = words
        if not re.fullmatch(_STAGE_NAME, name.text.lower()):
            raise Problem(
                f"invalid stage name {name.text!r}",
                offset=name.offset,
                code="invalid-stage-name",
                hint="it begins with a letter; letters, digits, dots, dashes and underscores follow",
            )
    elif len(words) > 1:
        raise reader.fail(
            "takes an image, or an image, AS and a name",
            offset=words[1].offset,
            code="invalid-from",
            hint=_suggest_from(words),
        )
    return FromInstruction(
        **reader.common,
        image=words[0],
        name=name.text.lower() if name else "",
        name_written=name,
        as_written=keyword.text if keyword else "",
        platform=next((flag.value for flag in reader.common["flags"] if flag.name == "platform"), None),
    )


def _suggest_from(words: tuple[Word, ...]) -> str:
    if words[1].text.startswith("#"):
        return _COMMENT_HINT
    if len(words) in (2, 3) and words[-1].text.lower() != "as":
        return f"did you mean FROM {words[0].text} AS {words[-1].text}?"
    return "write FROM image AS name"


def _read_arg(reader: Reader) -> Instruction:
    reader.require("a name", "write ARG name or ARG name=default")
    pairs = []
    for word in reader.split_quoted():
        name, equals, value = word.text.partition("=")
        if not name:
            raise reader.fail("needs a name before the equals sign", offset=word.offset, code="blank-name")
        pairs.append(Pair(name, value if equals else None, word.offset))
    return ArgInstruction(**reader.common, pairs=tuple(pairs))


def _read_pairs(reader: Reader) -> Instruction:
    rest = reader.require("a name and a value", f"write {reader.keyword} name=value")
    words = reader.split_quoted()
    if not words:
        raise reader.fail("needs a name and a value", code="missing-argument")
    if "=" not in words[0].text:
        name, gap, value = _partition(rest)
        if not gap:
            hint = f"write {reader.keyword} {name}=value"
            raise reader.fail(f"{name} has no value", code="missing-argument", hint=hint)
        return PairsInstruction(**reader.common, pairs=(Pair(name, value, reader.begin),), legacy=True)
    pairs: list[Pair] = []
    for word in words:
        name, equals, value = word.text.partition("=")
        if not equals:
            hint = _COMMENT_HINT if word.text.startswith("#") else "put the whole value in double quotes"
            message = f"expects name=value, found {word.text!r}"
            raise reader.fail(message, offset=word.offset, code="missing-equals", hint=hint)
        if not name:
            raise reader.fail("needs a name before the equals sign", offset=word.offset, code="blank-name")
        pairs.append(Pair(name, value, word.offset))
    return PairsInstruction(**reader.common, pairs=tuple(pairs))


def _partition(text: str) -> tuple[str, bool, str]:
    gap = _GAP.search(text)
    return (text, False, "") if gap is None else (text[: gap.start()], True, text[gap.end() :])


def _read_run(reader: Reader) -> Instruction:
    reader.require("a command")
    command = reader.read_command()
    if not command.words:
        raise reader.fail("needs a command", code="missing-argument", hint='the JSON list is empty; write ["program"]')
    for flag in reader.common["flags"]:
        if flag.name == "mount":
            _check_mount(flag, reader)
    return CommandInstruction(**reader.common, command=command)


def _check_mount(flag: Flag, reader: Reader) -> None:
    """Faults that are there whatever variables come to."""
    try:
        pairs = split_mount(flag.value or "")
        if not any("$" in value or "'" in value or reader.escape in value for value in pairs.values()):
            read_mount(pairs, reader.line.locate(flag.offset), "/-", lambda name: Origin(kind="image", name=name))
    except Problem as problem:
        raise problem.at(flag.offset) from None


def _read_command(reader: Reader) -> Instruction:
    command = reader.read_command()
    return CommandInstruction(**reader.common, command=command)


def _read_shell(reader: Reader) -> Instruction:
    reader.require("a JSON list", 'for example SHELL ["/bin/bash", "-c"]')
    words = reader.parse_list()
    if not words:
        message = "needs a JSON list of strings" if words is None else "needs at least one element"
        raise reader.fail(message, code="invalid-shell", hint='for example SHELL ["/bin/bash", "-c"]')
    return ShellInstruction(**reader.common, shell=tuple(word.text for word in words))


def _read_copy(reader: Reader) -> Instruction:
    form = f"write {reader.keyword} source destination"
    reader.require("a source and a destination", form)
    words = reader.parse_list()
    if words is None:
        words = reader.split_plain()
    if len(words) < 2:
        raise reader.fail("has no destination: there is only one argument", code="missing-destination", hint=form)
    destination = words[-1]
    heredocs = list(reader.line.heredocs)
    if (found := parse_heredoc(destination.text)) and found.name in {one.name for one in heredocs}:
        raise reader.fail("cannot have a heredoc as its destination", offset=destination.offset, code="invalid-heredoc")
    sources: list[Word] = []
    inline: list[InlineSource] = []
    for word in words[:-1]:
        name = parse_heredoc(word.text)
        if name is not None and heredocs and heredocs[0].name == name.name:
            inline.append(InlineSource(heredocs.pop(0), len(sources)))
        else:
            sources.append(word)
    return CopyInstruction(**reader.common, sources=tuple(sources), destination=destination, inline=tuple(inline))


def _read_value(reader: Reader) -> Instruction:
    needed = {"WORKDIR": "a path", "USER": "a user", "STOPSIGNAL": "a signal", "MAINTAINER": "a name"}
    rest = reader.require(needed[reader.keyword])
    return ValueInstruction(**reader.common, value=Word(rest, reader.begin))


def _read_expose(reader: Reader) -> Instruction:
    reader.require("a port", "for example EXPOSE 80 or EXPOSE 53/udp")
    return WordsInstruction(**reader.common, words=reader.split_plain())


def _read_volume(reader: Reader) -> Instruction:
    reader.require("a path", 'for example VOLUME /data or VOLUME ["/data"]')
    words = reader.parse_list()
    if words is None:
        words = reader.split_plain()
    for word in words:
        if not word.text.strip(SPACES):
            raise reader.fail("cannot have an empty path", offset=word.offset, code="empty-path")
    if not words:
        raise reader.fail("needs a path", code="missing-argument")
    return WordsInstruction(**reader.common, words=tuple(Word(word.text.strip(SPACES), word.offset) for word in words))


def _read_healthcheck(reader: Reader) -> Instruction:
    rest = reader.require("CMD and a command, or NONE")
    end = next((at for at, char in enumerate(rest) if char in SPACES), len(rest))
    kind, command = rest[:end].upper(), rest[end:].lstrip(SPACES)
    if kind == "NONE":
        if command or reader.common["flags"]:
            raise reader.fail("NONE takes no flags and no arguments", code="invalid-healthcheck")
        return HealthcheckInstruction(**reader.common, test=("NONE",))
    if kind != "CMD":
        hint = f"did you mean HEALTHCHECK CMD {rest}?"
        raise reader.fail(f"begins with CMD or NONE, not {rest[:end]}", code="invalid-healthcheck", hint=hint)
    words, shell = reader.read_command(len(rest) - len(command))
    if not words or not command:
        raise reader.fail("CMD needs a command", code="missing-argument")
    values: dict[str, Any] = {}
    for flag in reader.common["flags"]:
        try:
            parse = parse_retries if flag.name == "retries" else parse_health_interval
            values[flag.name.replace("-", "_")] = parse(flag.value or "")
        except Problem as problem:
            problem.message = f"--{flag.name}: {problem.message}"
            raise problem.at(flag.offset) from None
    test = ("CMD-SHELL" if shell else "CMD", *words)
    return HealthcheckInstruction(**reader.common, test=test, **values)


def _read_onbuild(reader: Reader) -> Instruction:
    from orchestrator.engines.native.dockerfile.front.parser import parse_instruction

    rest = reader.require("an instruction", "for example ONBUILD COPY . /src")
    keyword = (rest.split() or [""])[0].upper()
    if keyword in ("ONBUILD", "FROM", "MAINTAINER"):
        raise reader.fail(f"cannot trigger {keyword}", code="invalid-trigger")
    inner = reader.line.replace(text=rest, marks=_cut_marks(reader.line, reader.begin))
    try:
        trigger = parse_instruction(inner, reader.escape)
    except Problem as problem:
        problem.offset = (problem.offset or 0) + reader.begin
        raise
    bodies = "".join(f"\n{one.content}{one.name}" for one in reader.line.heredocs)
    return OnbuildInstruction(**reader.common, trigger=trigger, expression=rest + reader.line.tail + bodies)


def _cut_marks(line: SourceLine, begin: int) -> tuple[Mark, ...]:
    if line.origin is not None:
        return line.marks
    place = line.locate(begin)
    later = [Mark(mark.offset - begin, mark.line, mark.column) for mark in line.marks if mark.offset > begin]
    return (Mark(0, place.line, place.column), *later)


READERS: dict[str, Callable[[Reader], Instruction]] = {
    "ADD": _read_copy,
    "ARG": _read_arg,
    "CMD": _read_command,
    "COPY": _read_copy,
    "ENTRYPOINT": _read_command,
    "ENV": _read_pairs,
    "EXPOSE": _read_expose,
    "FROM": _read_from,
    "HEALTHCHECK": _read_healthcheck,
    "LABEL": _read_pairs,
    "MAINTAINER": _read_value,
    "ONBUILD": _read_onbuild,
    "RUN": _read_run,
    "SHELL": _read_shell,
    "STOPSIGNAL": _read_value,
    "USER": _read_value,
    "VOLUME": _read_volume,
    "WORKDIR": _read_value,
}
