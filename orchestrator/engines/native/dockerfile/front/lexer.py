r"""From the bytes of a Dockerfile to its instructions' lines: directives, comments, continuations, heredocs. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.engines.native.dockerfile.front.expansion import SPACES, Style, expand_text
from orchestrator.engines.native.dockerfile.front.problems import Problem
from orchestrator.errors import Diagnostic
from orchestrator.record import Record
from orchestrator.source import Location

DIRECTIVES = ("syntax", "escape", "check")

_DIRECTIVE = re.compile(r"#[^\S\n]*([a-zA-Z][a-zA-Z0-9]*)[^\S\n]*=(.+)")
_HEREDOC = re.compile(r"([0-9]*)<<(-?)([^<]*)")
_STRAY = "[\ud800-\udfff]"
_BYTES = 0xDC00
"""What :pep:`383` adds to a byte."""
_GAP = re.compile(r"[\t\v\f\r ]+")
_HEREDOC_KEYWORDS = frozenset(("RUN", "COPY", "ADD"))
_SEEK = Style(keep_quotes=True, keep_escapes=True, keep_unset=True)
_NAME = Style(keep_unset=True)
_QUOTED_NAME = Style(keep_quotes=True, keep_unset=True)
_NO_VARIABLES: Mapping[str, str] = {}


class Mark(NamedTuple):
    """From `offset` on, the text of an instruction comes from this line and column (both from 1)."""

    offset: int
    line: int
    column: int


class Heredoc(Record):
    """``<<NAME`` and what follows. `content` is as it stands in the file from `line` on, its line ends included.

    `expand` is False when the name was quoted; `chomp` (``<<-``) asks to drop the tabs before each line.
    """

    name: str
    content: str = ""
    expand: bool = True
    chomp: bool = False
    line: int = 0

    @property
    def body(self) -> str:
        """The content, without its leading tabs if that was asked for."""
        return re.sub(r"(?m)^\t+", "", self.content) if self.chomp else self.content


class SourceLine(Record):
    """One instruction: its lines joined, `tail` is the white space behind them.

    `start` and `end` are the first and last line in the file, heredocs included.

    `comments` are those directly before it. `empty` holds the numbers of empty lines that continue it. `origin`, if
    there is one, is where everything in it is said to stand (a trigger that came with an image).
    """

    text: str
    file: str
    start: int
    end: int
    marks: tuple[Mark, ...]
    comments: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    empty: tuple[int, ...] = ()
    origin: Location | None = None
    tail: str = ""

    def locate(self, offset: int = 0) -> Location:
        """Where the character at `offset` of the text was written."""
        if self.origin is not None:
            return self.origin
        mark = self.marks[max(bisect_right(self.marks, offset, key=lambda one: one.offset) - 1, 0)]
        return Location(self.file, mark.line, mark.column + max(offset - mark.offset, 0))


class Directive(NamedTuple):
    """``# name=value`` at the top of the file."""

    name: str
    value: str
    location: Location


class Scan(Record):
    """A file's directives and instructions, and what is wrong with them so far."""

    directives: tuple[Directive, ...]
    lines: tuple[SourceLine, ...]
    problems: tuple[Diagnostic, ...]
    source: tuple[str, ...]

    @property
    def escape(self) -> str:
        """The escaping character."""
        return next((one.value for one in self.directives if one.name == "escape" and one.value in ("\\", "`")), "\\")


def scan_dockerfile(text: bytes | str, name: str) -> Scan:
    """Take a Dockerfile apart. Never raises: faults are in the result."""
    return _Scanner(decode_dockerfile(text), name).scan()


def decode_dockerfile(text: bytes | str) -> str:
    """UTF-8 with or without a byte order mark; bytes that are none become lone surrogates (:pep:`383`)."""
    decoded = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    return decoded.removeprefix("\ufeff")


def parse_heredoc(word: str) -> Heredoc | None:
    """``<<EOF``, ``<<-EOF``, ``<<"EOF"`` or ``3<<EOF`` as a word of its own; None if it is anything else."""
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    try:
        words = expand_text(match[3], _NO_VARIABLES, _NAME).words
        quoted = expand_text(match[3], _NO_VARIABLES, _QUOTED_NAME).words
    except Problem:
        return None
    if len(words) != 1 or len(quoted) != 1:
        return None
    return Heredoc(name=words[0], expand=_count_quotes(words[0]) == _count_quotes(quoted[0]), chomp=match[2] == "-")


def split_keyword(text: str) -> tuple[str, int]:
    """The instruction's name as written and the offset of what follows it. `text` begins with the name."""
    gap = _GAP.search(text)
    return (text, len(text)) if gap is None else (text[: gap.start()], gap.end())


def _show(text: str) -> str:
    """What is written into messages and histories, which are UTF-8."""
    return text if text.isascii() else re.sub(_STRAY, "\ufffd", text)


def _count_quotes(text: str) -> int:
    return text.count("'") + text.count('"')


class _Scanner:
    def __init__(self, text: str, name: str) -> None:
        self.raw = text.split("\n")
        if self.raw[-1] == "":
            self.raw.pop()
        self.name = name
        self.at = 0
        self.escape = "\\"
        self.directives: list[Directive] = []
        self.problems: list[Diagnostic] = []

    def scan(self) -> Scan:
        self._check_bytes()
        self._scan_directives()
        lines: list[SourceLine] = []
        comments: list[str] = []
        while self.at < len(self.raw):
            text = self.raw[self.at].strip("\r").strip(SPACES)
            if text.startswith("#"):
                comments.append(_show(text[1:].strip(SPACES)))
                self.at += 1
            elif not text:
                self.at += 1
            else:
                line = self._scan_instruction(tuple(comments))
                comments.clear()
                if line is not None:
                    lines.append(self._check_encoding(line))
        return Scan(
            directives=tuple(self.directives),
            lines=tuple(lines),
            problems=tuple(self.problems),
            source=tuple(_show(one.rstrip("\r")) for one in self.raw),
        )

    def _check_bytes(self) -> None:
        for number, line in enumerate(self.raw, 1):
            if "\0" in line:
                where = Location(self.name, number, line.index("\0") + 1)
                self.problems.append(Diagnostic("nul-byte", "a NUL byte; this is not a text file", where))
                self.raw[number - 1] = line.replace("\0", "\ufffd")

    def _check_encoding(self, line: SourceLine) -> SourceLine:
        """No command and no file could be told what a stray byte means. In comments they may stand."""
        texts = [line.text, line.tail, *(one.content for one in line.heredocs)]
        if all(map(str.isascii, texts)):
            return line
        if found := re.search(_STRAY, line.text):
            self._refuse_byte(found[0], line.locate(found.start()))
        for one in line.heredocs:
            if found := re.search(_STRAY, one.content):
                before = one.content[: found.start()]
                place = one.line + before.count("\n"), len(before) - before.rfind("\n")
                self._refuse_byte(found[0], Location(self.name, *place))
        heredocs = tuple(one.replace(name=_show(one.name), content=_show(one.content)) for one in line.heredocs)
        return line.replace(text=_show(line.text), heredocs=heredocs)

    def _refuse_byte(self, stray: str, where: Location) -> None:
        byte = ord(stray) - _BYTES
        what = f"a byte that is not UTF-8: 0x{byte:02x}" if 0 < byte < 0x100 else f"no character: U+{ord(stray):04X}"
        self.problems.append(Diagnostic("not-utf-8", what, where, hint="save the file as UTF-8"))

    def _scan_directives(self) -> None:
        if self.raw and self.raw[0].startswith("#!"):
            self.at = 1
        while self.at < len(self.raw):
            raw = self.raw[self.at].rstrip("\r")
            match = _DIRECTIVE.match(raw.lstrip(SPACES))
            name, value = (match[1].lower(), match[2].strip(SPACES)) if match else ("", "")
            if name not in DIRECTIVES or not value:
                return
            where = Location(self.name, self.at + 1, len(raw) - len(raw.lstrip(SPACES)) + 1)
            if any(one.name == name for one in self.directives):
                message = f"only one {name} directive can be used"
                self.problems.append(Diagnostic("duplicate-directive", message, where))
            elif name == "escape" and value not in ("\\", "`"):
                message = f"{value!r} cannot be the escape character"
                self.problems.append(Diagnostic("invalid-escape", message, where, hint=r"it is \ or `"))
            else:
                self.directives.append(Directive(name, _show(value), where))
                self.escape = value if name == "escape" else self.escape
            self.at += 1

    def _scan_instruction(self, comments: tuple[str, ...]) -> SourceLine | None:
        start = self.at + 1
        parts: list[str] = []
        marks: list[Mark] = []
        empty: list[int] = []
        length = 0
        more = True
        while more and self.at < len(self.raw):
            raw = self.raw[self.at].rstrip("\r")
            bare = raw.lstrip(SPACES)
            number = self.at + 1
            self.at += 1
            if number > start and bare.startswith("#"):
                continue
            if number > start and not bare:
                empty.append(number)
                continue
            line = bare if number == start else raw
            text, more = self._cut_continuation(line)
            marks.append(Mark(length, number, len(raw) - len(line) + 1))
            parts.append(text)
            length += len(text)
        return self._finish("".join(parts), start, marks, comments, tuple(empty))

    def _cut_continuation(self, line: str) -> tuple[str, bool]:
        text = line.rstrip(" \t")
        if text.endswith(self.escape) and not text[:-1].endswith(self.escape):
            return text[:-1], True
        return line, False

    def _finish(
        self, joined: str, start: int, marks: list[Mark], comments: tuple[str, ...], empty: tuple[int, ...]
    ) -> SourceLine | None:
        text = joined.strip(SPACES)
        lead = len(joined) - len(joined.lstrip(SPACES))
        if not text:
            where = Location(self.name, start, marks[0].column)
            self.problems.append(Diagnostic("empty-instruction", "a continued line without an instruction", where))
            return None
        line = SourceLine(
            text=text,
            file=self.name,
            start=start,
            end=self.at,
            marks=tuple(_shift(marks, lead)),
            comments=comments,
            empty=empty,
            tail=joined[lead + len(text) :],
        )
        heredocs = self._read_heredocs(line)
        return line.replace(heredocs=heredocs, end=self.at) if heredocs else line

    def _read_heredocs(self, line: SourceLine) -> tuple[Heredoc, ...]:
        result: list[Heredoc] = []
        for heredoc in _seek_heredocs(line.text):
            begin = self.at
            while self.at < len(self.raw):
                raw = self.raw[self.at].rstrip("\r")
                if (raw.lstrip("\t") if heredoc.chomp else raw) == heredoc.name:
                    break
                self.at += 1
            else:
                where = line.locate(max(line.text.find("<<"), 0))
                hint = f"put a line with nothing but {heredoc.name} after it"
                message = f"the heredoc {heredoc.name} is not terminated"
                self.problems.append(Diagnostic("unterminated-heredoc", message, where, hint=hint))
                return tuple(result)
            content = "".join(f"{one}\n" for one in self.raw[begin : self.at])
            result.append(heredoc.replace(content=content, line=begin + 1))
            self.at += 1
        return tuple(result)


def _shift(marks: list[Mark], lead: int) -> list[Mark]:
    """The marks of the text without its first `lead` characters."""
    gone = [mark for mark in marks if mark.offset <= lead]
    first = gone[-1]
    kept = [Mark(mark.offset - lead, mark.line, mark.column) for mark in marks[len(gone) :]]
    return [Mark(0, first.line, first.column + lead - first.offset), *kept]


def _seek_heredocs(text: str) -> list[Heredoc]:
    keyword, rest = split_keyword(text)
    if keyword.upper() == "ONBUILD":
        inner, after = split_keyword(text[rest:])
        keyword, rest = inner, rest + after
    if keyword.upper() not in _HEREDOC_KEYWORDS or "<<" not in text or _is_exec_form(text[rest:]):
        return []
    try:
        words = expand_text(text, _NO_VARIABLES, _SEEK).words
    except Problem:
        return []
    return [found for word in words if (found := parse_heredoc(word)) is not None]


def _is_exec_form(rest: str) -> bool:
    from orchestrator.engines.native.dockerfile.front.words import parse_string_list, split_flags

    _, arguments = split_flags(rest)
    try:
        found = parse_string_list(rest[arguments:])
    except Problem:
        return True
    return found is not None and not rest[arguments + found.end :].strip(SPACES)
