r"""Variables, quotes and escapes in the arguments of instructions. Pure.

What a Dockerfile knows of a shell's words: ``$v``, ``${v}``, ``${v:-x}`` ``${v-x}`` ``${v:+x}`` ``${v+x}`` ``${v:?x}``
``${v?x}``, ``${v#p}`` ``${v##p}`` ``${v%p}`` ``${v%%p}``, ``${v/p/r}`` ``${v//p/r}``, nested, in single and double
quotes, escaped by ``\`` or by what the ``escape`` directive says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.engines.native.dockerfile.front.patterns import replace_pattern, trim_prefix, trim_suffix
from orchestrator.engines.native.dockerfile.front.problems import Problem

SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What separates words: Unicode's white space. Python's own idea of it counts some control characters too."""

_SPECIAL = frozenset("@*#?-$!0")
_DEEPEST = 100


class Expansion(NamedTuple):
    """What a text comes to. `words` is the same split at unquoted white space, also at that of values.

    `found` and `missing` are the names of variables that were looked up.
    """

    text: str
    words: tuple[str, ...]
    found: frozenset[str]
    missing: frozenset[str]


class Style(NamedTuple):
    """How to read. `escape` is the escaping character.

    `keep_quotes` and `keep_escapes` leave these characters in the result; `plain_quotes` gives quotes no meaning (the
    body of a heredoc); `keep_unset` leaves references to variables that are not set as they are.
    """

    escape: str = "\\"
    keep_quotes: bool = False
    keep_escapes: bool = False
    plain_quotes: bool = False
    keep_unset: bool = False


PLAIN = Style()


def expand_text(text: str, variables: Mapping[str, str], style: Style = PLAIN) -> Expansion:
    """Expand `text`. Raises Problem with the offset in `text`."""
    reader = _Reader(text, variables, style)
    result, words = reader.read_until("", style.keep_escapes)
    return Expansion(result, tuple(words), frozenset(reader.found), frozenset(reader.missing))


class _Words:
    """Collects words. Quoted text and escaped characters never separate."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._word: list[str] = []

    def add(self, text: str) -> None:
        for char in text:
            if char not in SPACES:
                self._word.append(char)
            elif self._word:
                self._end()

    def add_quoted(self, text: str) -> None:
        if text:
            self._word.append(text)

    def finish(self) -> list[str]:
        if self._word:
            self._end()
        return self.done

    def _end(self) -> None:
        self.done.append("".join(self._word))
        self._word.clear()


class _Reader:
    def __init__(self, text: str, variables: Mapping[str, str], style: Style) -> None:
        self.text = text
        self.at = 0
        self.variables = variables
        self.style = style
        self.keep_escapes = style.keep_escapes
        self.found: set[str] = set()
        self.missing: set[str] = set()
        self._depth = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        char = self.text[self.at : self.at + 1]
        self.at += 1
        return char

    def read_until(self, stop: str, keep_escapes: bool) -> tuple[str, list[str]]:
        """Read up to `stop` (taken, not returned), or to the end if it is empty."""
        before, self.keep_escapes = self.keep_escapes, keep_escapes
        result: list[str] = []
        words = _Words()
        try:
            while self.at < len(self.text):
                char = self.peek()
                if stop and char == stop:
                    self.at += 1
                    return "".join(result), words.finish()
                self._read_piece(char, result, words)
        finally:
            self.keep_escapes = before
        if stop:
            raise Problem(f"missing {stop!r} in a substitution", code="bad-substitution")
        return "".join(result), words.finish()

    def _read_piece(self, char: str, result: list[str], words: _Words) -> None:
        if char == "$":
            piece = self._read_dollar()
            words.add(piece)
        elif char in "'\"" and not self.style.plain_quotes:
            piece = self._read_single() if char == "'" else self._read_double()
            words.add_quoted(piece)
        elif char == self.style.escape:
            self.at += 1
            piece = char if self.keep_escapes else ""
            piece += self.take()
            words.add_quoted(piece)
        else:
            self.at += 1
            piece = char
            words.add(char)
        result.append(piece)

    def _read_single(self) -> str:
        begin = self.at
        end = self.text.find("'", begin + 1)
        if end < 0:
            raise Problem("a single quote is not closed", offset=begin, code="unclosed-quote")
        self.at = end + 1
        return self.text[begin : end + 1] if self.style.keep_quotes else self.text[begin + 1 : end]

    def _read_double(self) -> str:
        begin = self.at
        self.at += 1
        quote = '"' if self.style.keep_quotes else ""
        result = [quote]
        while self.at < len(self.text):
            char = self.peek()
            if char == '"':
                self.at += 1
                return "".join([*result, quote])
            if char == "$":
                result.append(self._read_dollar())
                continue
            self.at += 1
            if char == self.style.escape:
                if self.keep_escapes:
                    result.append(char)
                # Other characters keep the escape character in front of them.
                if self.peek() and self.peek() in ('"', "$", self.style.escape):
                    char = self.take()
            result.append(char)
        raise Problem("a double quote is not closed", offset=begin, code="unclosed-quote")

    def _read_dollar(self) -> str:
        begin = self.at
        self.at += 1
        if self.peek() != "{":
            name = self._read_name()
            if not name:
                return "$"
            value = self._look_up(name)
            return self.text[begin : self.at] if value is None and self.style.keep_unset else value or ""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Problem("substitutions are nested too deeply", offset=begin, code="bad-substitution")
        try:
            return self._read_braces()
        except Problem as problem:
            if not problem.code:
                problem.code = "bad-substitution"
            raise problem.at(begin) from None
        finally:
            self._depth -= 1

    def _read_braces(self) -> str:
        self.at += 1
        if self.peek() in ("{", "}", ":"):
            raise Problem("bad substitution: ${ needs the name of a variable")
        name = self._read_name()
        operator = self.take()
        if not operator:
            raise Problem("bad substitution: the closing } is missing")
        if operator == "}":
            value = self._look_up(name)
            return f"${{{name}}}" if value is None and self.style.keep_unset else value or ""
        if operator == "/":
            return self._replace(name)
        colon = operator == ":"
        if colon:
            operator = self.take()
        if not operator or operator not in ("+-?" if colon else "+-?#%"):
            raise Problem(
                f"unsupported modifier {':' if colon else ''}{operator} in ${{{name}...}}",
                hint="supported are :- - :+ + :? ? # ## % %% / and //",
            )
        return self._modify(name, colon, operator)

    def _modify(self, name: str, colon: bool, operator: str) -> str:
        word, _ = self.read_until("}", operator in "#%")
        value = self._look_up(name)
        if value is None and self.style.keep_unset:
            return f"${{{name}{':' if colon else ''}{operator}{word}}}"
        usable = value is not None and not (colon and value == "")
        if operator == "-":
            return value or "" if usable else word
        if operator == "+":
            return word if usable else ""
        if operator == "?":
            if usable:
                return value or ""
            reason = word or f"is not allowed to be {'unset' if value is None else 'empty'}"
            raise Problem(f"{name}: {reason}", code="variable-required")
        longest = word.startswith(operator)
        pattern = word[1:] if longest else word
        trim = trim_suffix if operator == "%" else trim_prefix
        return trim(value or "", pattern, longest=longest)

    def _replace(self, name: str) -> str:
        every = self.peek() == "/"
        self.at += every
        pattern, _ = self.read_until("/", True)
        replacement, _ = self.read_until("}", True)
        value = self._look_up(name)
        if value is None and self.style.keep_unset:
            return f"${{{name}{'//' if every else '/'}{pattern}/{replacement}}}"
        return replace_pattern(value or "", pattern, replacement, every=every)

    def _read_name(self) -> str:
        begin = self.at
        first = self.peek()
        if first.isdecimal():
            while self.peek().isdecimal():
                self.at += 1
        elif first and first in _SPECIAL:
            self.at += 1
        else:
            while (char := self.peek()) and (char.isalpha() or char.isdecimal() or char == "_"):
                self.at += 1
        return self.text[begin : self.at]

    def _look_up(self, name: str) -> str | None:
        value = self.variables.get(name)
        (self.missing if value is None else self.found).add(name)
        return value
