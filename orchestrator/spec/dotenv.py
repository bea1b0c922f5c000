"""The dotenv dialect of Compose: ``export``, quotes, multi-line values, comments, references to variables."""

from __future__ import annotations

import re

from orchestrator.spec.interpolate import Lookup, TemplateError, substitute_variables
from orchestrator.spec.positions import Mark, Problems, pack_mark

_EXPORT = re.compile(r"export[ \t]+")
_KEY = re.compile(r"[^\s=:]+")
_KEY_CHARACTERS = re.compile(r"[\w.\-\[\]]+")
_ESCAPE = re.compile(r'\\(0[0-7]{1,3}|[abfnrtv$"\\])')
_ESCAPES = {
    "$": "$$", "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
}  # fmt: skip


def parse_dotenv(
    text: str, file: int, problems: Problems, lookup: Lookup, *, raw: bool = False
) -> dict[str, tuple[str, Mark]]:
    """Parse an env file into values with their marks; what is wrong is reported.

    `lookup` answers for variables that a value refers to (earlier lines come after it) and for names without a value.
    With `raw`, values are taken as they stand after the first ``=``.
    """
    if raw:
        return _parse_raw(text, file)
    return _Parser(text, file, problems, lookup).parse()


def _parse_raw(text: str, file: int) -> dict[str, tuple[str, Mark]]:
    found: dict[str, tuple[str, Mark]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        key, equals, value = line.partition("=")
        if equals and key.strip() and not key.lstrip().startswith("#"):
            found[key.strip()] = (value, pack_mark(file, number, 1))
    return found


class _Parser:
    def __init__(self, text: str, file: int, problems: Problems, lookup: Lookup) -> None:
        self._text = text.removeprefix("\ufeff").replace("\r\n", "\n")
        self._file = file
        self._problems = problems
        self._environment = lookup
        self._found: dict[str, tuple[str, Mark]] = {}
        self._position = 0
        self._line = 1
        self._counted = 0

    def parse(self) -> dict[str, tuple[str, Mark]]:
        text = self._text
        size = len(text)
        while True:
            while self._position < size and text[self._position].isspace():
                self._position += 1
            if self._position >= size:
                return self._found
            if text[self._position] == "#":
                self._skip_line()
            else:
                self._statement()

    def _skip_line(self) -> None:
        end = self._text.find("\n", self._position)
        self._position = len(self._text) if end < 0 else end + 1

    def _place(self) -> Mark:
        self._line += self._text.count("\n", self._counted, self._position)
        self._counted = self._position
        begin = self._text.rfind("\n", 0, self._position) + 1
        return pack_mark(self._file, self._line, self._position - begin + 1)

    def _statement(self) -> None:
        export = _EXPORT.match(self._text, self._position)
        if export:
            self._position = export.end()
        place = self._place()
        key = _KEY.match(self._text, self._position)
        name = key[0] if key else ""
        if not name or not _KEY_CHARACTERS.fullmatch(name):
            self._problems.report(
                "bad-env-file",
                f"{name or '='!r} is not the name of a variable",
                place,
                (),
                "write NAME=value; quote values that hold line breaks",
            )
            self._skip_line()
            return
        self._position += len(name)
        self._skip_blanks()
        separator = self._text[self._position : self._position + 1]
        if separator in ("=", ":"):
            self._position += 1
            self._skip_blanks()
            value = self._value(name, place)
            if value is not None:
                self._found[name] = (value, place)
        elif separator in ("", "\n", "#"):
            inherited = self._environment(name)
            if inherited is not None:
                self._found[name] = (inherited, place)
            self._skip_line()
        else:
            self._problems.report(
                "bad-env-file",
                f"{name!r} is followed by neither = nor the end of the line",
                place,
                (),
                "write NAME=value",
            )
            self._skip_line()

    def _skip_blanks(self) -> None:
        text = self._text
        while self._position < len(text) and text[self._position] in " \t\v\f\r\x85\xa0":
            self._position += 1

    def _value(self, name: str, place: Mark) -> str | None:
        quote = self._text[self._position : self._position + 1]
        if quote in ("'", '"'):
            return self._quoted(quote, name, place)
        end = self._text.find("\n", self._position)
        end = len(self._text) if end < 0 else end
        value = self._text[self._position : end]
        self._position = end
        if value.startswith("#"):
            return ""
        return self._expand(value.partition(" #")[0].rstrip(), place)

    def _quoted(self, quote: str, name: str, place: Mark) -> str | None:
        text = self._text
        index = self._position + 1
        while True:
            index = text.find(quote, index)
            if index < 0:
                self._problems.report(
                    "bad-env-file", f"the quoted value of {name} is not closed", place, (), f"close it with {quote}"
                )
                self._position = len(text)
                return None
            if text[index - 1] != "\\" or index - 1 == self._position:
                break
            index += 1
        value = text[self._position + 1 : index]
        self._position = index + 1
        rest = self._text[self._position :].partition("\n")[0].strip()
        if rest and not rest.startswith("#"):
            self._problems.warn(
                "bad-env-file",
                f"{rest[:20]!r} is ignored; it follows the closing quote of {name}",
                place,
                (),
                "quote the whole value",
            )
        self._skip_line()
        if quote == "'":
            return value.replace("\\'", "'")
        return self._expand(_ESCAPE.sub(_unescape, value), place)

    def _expand(self, value: str, place: Mark) -> str:
        if "$" not in value:
            return value
        try:
            return substitute_variables(value, self._lookup, lambda name: None)
        except TemplateError as error:
            self._problems.report(error.code, str(error), place, (), error.hint)
            return ""

    def _lookup(self, name: str) -> str | None:
        value = self._environment(name)
        if value is None and name in self._found:
            return self._found[name][0]
        return value


def _unescape(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] == "0" and len(code) > 1:
        return chr(int(code, 8))
    return _ESCAPES.get(code, code)
