"""How the arguments of an instruction are split: flags, quoted words, plain words, JSON lists. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.engines.native.dockerfile.front.expansion import SPACES
from orchestrator.engines.native.dockerfile.front.problems import Problem

_PLAIN = re.compile(r"[^\t\v\f\r ]+")
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


class Word(NamedTuple):
    """A piece of an instruction, quotes and variables still in it. `offset` is in the text it was taken from."""

    text: str
    offset: int

    def shift(self, by: int) -> Word:
        """The same word, counted from `by` characters earlier."""
        return Word(self.text, self.offset + by)


class Flag(NamedTuple):
    """``--name=value``; `value` is None without an equals sign."""

    name: str
    value: str | None
    offset: int


def split_flags(text: str) -> tuple[tuple[Flag, ...], int]:
    r"""The flags at the beginning of `text`, and where the arguments begin.

    Quotes around a flag or a part of it are dropped; ``--`` ends the flags.
    """
    flags: list[Flag] = []
    at = 0
    while True:
        while at < len(text) and text[at] in SPACES:
            at += 1
        if not text.startswith("--", at):
            return tuple(flags), at
        word, end = _read_flag(text, at)
        if word == "--":
            rest = text[end:]
            return tuple(flags), end + len(rest) - len(rest.lstrip(SPACES))
        name, equals, value = word[2:].partition("=")
        flags.append(Flag(name, value if equals else None, at))
        at = end


def _read_flag(text: str, at: int) -> tuple[str, int]:
    word: list[str] = []
    quote = ""
    while at < len(text):
        char = text[at]
        if not quote and char in SPACES:
            break
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif char == "\\":
            at += 1
            word.append(text[at : at + 1])
        else:
            word.append(char)
        at += 1
    return "".join(word), min(at, len(text))


def split_plain(text: str) -> tuple[Word, ...]:
    """Words between white space; quotes mean nothing."""
    return tuple(Word(match[0], match.start()) for match in _PLAIN.finditer(text))


def split_quoted(text: str, escape: str) -> tuple[Word, ...]:
    """Words between white space that is neither quoted nor escaped. Quotes and escapes stay in the words."""
    return tuple(_read_quoted(text, escape))


def _read_quoted(text: str, escape: str) -> Iterator[Word]:
    at, size = 0, len(text)
    while at < size:
        if text[at] in SPACES:
            at += 1
            continue
        begin = at
        word: list[str] = []
        quote = ""
        while at < size and (quote or text[at] not in SPACES):
            char = text[at]
            if char == escape and quote != "'":
                if at + 1 == size:
                    # One at the very end stands for nothing.
                    at += 1
                    break
                word.append(char)
                at += 1
                char = text[at]
            elif quote:
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote = char
            word.append(char)
            at += 1
        if word:
            yield Word("".join(word), begin)


class StringList(NamedTuple):
    """A JSON list of strings, and where it ends in the text it was taken from."""

    words: tuple[Word, ...]
    end: int


def parse_string_list(text: str) -> StringList | None:
    """The JSON list of strings that `text` begins with; None if it begins with none.

    Raises Problem when it is a list of something else.
    """
    rest = text.lstrip(SPACES)
    if not rest.startswith("["):
        return None
    try:
        value, end = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode(rest)
    except (ValueError, RecursionError):
        return None
    offsets = [match.start() for match in _JSON_STRING.finditer(text)]
    for index, one in enumerate(value):
        if not isinstance(one, str):
            raise Problem(
                f"element {index + 1} of the JSON list is not a string",
                offset=len(text) - len(rest),
                code="invalid-json-list",
                hint="write every element in double quotes",
            )
    words = tuple(Word(_repair(one), offset) for one, offset in zip(value, offsets, strict=False))
    return StringList(words, len(text) - len(rest) + end)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _repair(text: str) -> str:
    """Without lone surrogates (``\\ud800``), which no UTF-8 text can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
