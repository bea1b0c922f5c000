"""The instructions of a Dockerfile as data, before anything is expanded. Words keep their quotes and variables."""

from __future__ import annotations

from typing import NamedTuple

from orchestrator.engines.native.dockerfile.front.lexer import Directive, Heredoc, SourceLine
from orchestrator.engines.native.dockerfile.front.words import Flag, Word
from orchestrator.errors import Diagnostic
from orchestrator.record import Record
from orchestrator.source import Location

INSTRUCTIONS = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
    *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)


class Pair(NamedTuple):
    """``name=value`` of ENV, LABEL or ARG; `value` is None for an ARG without a default."""

    name: str
    value: str | None
    offset: int


class Command(NamedTuple):
    """What RUN, CMD and ENTRYPOINT execute: `words` as they are, or, if `shell`, one text for the shell."""

    words: tuple[str, ...]
    shell: bool


class Instruction(Record):
    """One instruction. `keyword` is upper case, `written` as it stands in the file.

    `behind_list` is where text behind a JSON list begins: because of it the list is none.
    """

    keyword: str
    written: str
    line: SourceLine
    flags: tuple[Flag, ...] = ()
    behind_list: int | None = None

    @property
    def location(self) -> Location:
        """Where it begins."""
        return self.line.locate(0)

    @property
    def text(self) -> str:
        """The instruction on one line, without the bodies of heredocs."""
        return self.line.text

    def flag(self, name: str) -> str | None:
        """The value of the flag `name` (of its first occurrence), if it is there."""
        return next((one.value or "" for one in self.flags if one.name == name), None)


class FromInstruction(Instruction):
    """``FROM [--platform=P] image [AS name]``. `name` is lower case, `name_written` as it stands."""

    image: Word
    name: str = ""
    name_written: Word | None = None
    as_written: str = ""
    platform: str | None = None


class ArgInstruction(Instruction):
    """``ARG name[=default] ...``"""

    pairs: tuple[Pair, ...]


class PairsInstruction(Instruction):
    """ENV and LABEL; `legacy` is the form without an equals sign."""

    pairs: tuple[Pair, ...]
    legacy: bool = False


class CommandInstruction(Instruction):
    """RUN, CMD and ENTRYPOINT."""

    command: Command


class ShellInstruction(Instruction):
    """``SHELL ["/bin/bash", "-c"]``"""

    shell: tuple[str, ...]


class InlineSource(NamedTuple):
    """A heredoc among the sources of COPY and ADD; `place` counts the sources before it."""

    heredoc: Heredoc
    place: int


class CopyInstruction(Instruction):
    """COPY and ADD."""

    sources: tuple[Word, ...]
    destination: Word
    inline: tuple[InlineSource, ...] = ()


class ValueInstruction(Instruction):
    """WORKDIR, USER, STOPSIGNAL and MAINTAINER: the rest of the line."""

    value: Word


class WordsInstruction(Instruction):
    """EXPOSE and VOLUME."""

    words: tuple[Word, ...]


class HealthcheckInstruction(Instruction):
    """``HEALTHCHECK [flags] CMD ...`` or ``HEALTHCHECK NONE``. Durations are nanoseconds; 0 is the engine's default."""

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class OnbuildInstruction(Instruction):
    """``ONBUILD trigger``. `expression` is what the image configuration keeps."""

    trigger: Instruction
    expression: str


class CheckOptions(NamedTuple):
    """``# check=skip=A,B;error=true``. `skip` holds names of checks; ``all`` means every one."""

    skip: frozenset[str] = frozenset()
    error: bool = False


class Stage(Record):
    """FROM and what follows it."""

    index: int
    start: FromInstruction
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """Its name in lower case; empty without AS."""
        return self.start.name


class Dockerfile(Record):
    """A parsed file. `args` stand before the first FROM. `source` are its lines, for messages.

    `warnings` are what the checks of the text found; planning and evaluating find more.
    """

    name: str
    stages: tuple[Stage, ...]
    args: tuple[ArgInstruction, ...] = ()
    directives: tuple[Directive, ...] = ()
    escape: str = "\\"
    check: CheckOptions = CheckOptions()
    warnings: tuple[Diagnostic, ...] = ()
    source: tuple[str, ...] = ()
