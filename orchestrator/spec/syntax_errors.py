"""What libyaml says of a text that is no YAML, in the words of somebody who wrote it: a tab, a quote."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.source import Path
from orchestrator.spec.positions import Problems, pack_mark

# Control characters. The set is compiled only for a text that has failed: it takes longer than reading a small file.
_UNREADABLE = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
_NO_PATH: Path = ()


def report_syntax(error: Exception, text: str, file: int, problems: Problems) -> None:
    """Report the `error` that the parser has raised over `text`, at the place where it can be mended."""
    unreadable = None if hasattr(error, "problem_mark") else re.search(_UNREADABLE, text)
    if unreadable is not None:
        at = unreadable.start()
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        message = f"the control character U+{ord(text[at]):04X} cannot stand in a YAML file"
        hint = 'write it as an escape between double quotes, as in "\\x1b"'
    else:
        line, column, message, hint = _explain(error, text.splitlines())
    problems.report("yaml-syntax", message, pack_mark(file, line, column), _NO_PATH, hint)


def _explain(error: Any, lines: list[str]) -> tuple[int, int, str, str]:
    """Line and column from 1, message, hint."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    reason = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "not a YAML document")
    context = getattr(error, "context", None)
    said = f"{reason} ({context})" if context else reason
    text = lines[line - 1] if line <= len(lines) else ""
    if "\\t" in reason or "cannot start any token" in reason:
        return (line, column, *_explain_letter(text, column, said))
    if "mapping values are not allowed" in reason:
        return _explain_mapping(lines, line, column, said)
    begun = getattr(error, "context_mark", None)
    if begun is not None and begun.line < len(lines):
        there = (begun.line + 1, begun.column + 1)
        word = lines[begun.line][begun.column :].strip()
        if "could not find expected ':'" in reason:
            return (*there, *_explain_name(word))
        if "unexpected end of stream" in reason and word[:1] in ("'", '"'):
            return (*there, f"the quote {word[0]} that begins here is not closed", f"write {word[0]} at its end")
        if "unknown escape" in reason:
            return line, column, said, "write the backslash twice, or put the value between single quotes"
        if "flow" in str(context) and "did not find expected ',' or" in reason:
            return _explain_bracket(lines, there, (line, column))
    if "did not find expected" in reason:
        return (line, column, *_explain_unexpected(lines, line, said))
    return line, column, said, ""


def _explain_mapping(lines: list[str], line: int, column: int, said: str) -> tuple[int, int, str, str]:
    """A line that goes on with the one before it, which was meant to end with a colon."""
    before = lines[line - 2] if 2 <= line <= len(lines) + 1 else ""
    word = before.strip()
    lone = word and ":" not in word and not word.startswith(("-", "#", "'", '"', "[", "{", "|", ">"))
    if lone and _measure(before) == _measure(lines[line - 1]):
        return (line - 1, before.index(word) + 1, *_explain_name(word))
    return line, column, said, "check the indentation, and quote values that contain ': '"


def _explain_name(word: str) -> tuple[str, str]:
    return f"{_shorten(word)} is followed by no colon", "write NAME: VALUE, or end the name of a mapping with ':'"


def _explain_bracket(lines: list[str], begun: tuple[int, int], failed: tuple[int, int]) -> tuple[int, int, str, str]:
    opening = lines[begun[0] - 1][begun[1] - 1]
    closing = "]" if opening == "[" else "}"
    hint = f"write {closing} where it ends, and a comma between two values"
    if begun[0] == failed[0]:
        return (*failed, f"neither a comma nor {closing} stands here", hint)
    return (*begun, f"the {opening} that begins here is not closed where line {failed[0]} begins", hint)


def _explain_letter(text: str, column: int, said: str) -> tuple[str, str]:
    letter = text[column - 1 : column]
    if letter == "\t" or "\t" in text[: len(text) - len(text.lstrip())]:
        return "a tab stands where the line is indented", "indent with spaces: YAML takes no tabs there"
    if letter in ("@", "`", "%"):
        return f"a value cannot begin with {letter}", f"quote it: {_quote(text[column - 1 :])}"
    return said, "indent with spaces, and quote values that begin with a special character"


def _explain_unexpected(lines: list[str], line: int, said: str) -> tuple[str, str]:
    if "did not find expected '-' indicator" in said:
        return "a line without '-' stands among the values of a list", "begin it with '- ', or indent it differently"
    hint = "something before this place is not closed or not indented: a quote, a bracket, a line"
    own = _measure(lines[line - 1]) if line <= len(lines) else None
    if own is None:
        return said, hint
    levels: list[int] = []
    for other in reversed(lines[: line - 1]):
        indent = _measure(other)
        if indent is not None and (not levels or indent < levels[-1]):
            levels.append(indent)
        if indent == 0:
            break
    # Only a line that ends something can stand at a level that nothing has begun at.
    if not levels or own > levels[0] or own in levels:
        return said, hint
    *first, last = (str(one) for one in reversed(levels))
    known = f"{', '.join(first)} or {last}" if first else last
    return (
        f"this line is indented by {own} spaces, and no line above that it could belong to is",
        f"indent it by {known}",
    )


def _measure(line: str) -> int | None:
    """By how many spaces a line is indented; None for one that says nothing."""
    bare = line.lstrip(" ")
    return None if not bare.strip() or bare.startswith("#") else len(line) - len(bare)


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


def _quote(text: str) -> str:
    return f'"{text.strip()}"' if '"' not in text and len(text) <= 60 else "put it between quotes"
