"""Patterns of paths: Go's ``filepath.Match`` for the sources of COPY, and lists of patterns with ``**`` and ``!``.

Both are defined by what Dockerfiles have always meant; shells and gitignore differ in detail. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WILD = frozenset("*?[")


def has_wildcard(text: str) -> bool:
    """Whether a path holds ``*``, ``?`` or ``[`` that no backslash takes the meaning of."""
    escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in _WILD:
            return True
    return False


def split_wildcard(path: str) -> tuple[str, str]:
    """The leading components without wildcards, and the rest from the first one that has any."""
    parts = [part for part in path.split("/") if part]
    for number, part in enumerate(parts):
        if has_wildcard(part):
            return "/".join(parts[:number]), "/".join(parts[number:])
    return "/".join(parts), ""


def compile_match(pattern: str) -> re.Pattern[str] | None:
    """Go's ``filepath.Match`` as a regular expression for the whole path; None for a malformed pattern."""
    try:
        return re.compile(f"(?s:{_translate(pattern, deep=False)})\\Z")
    except (re.error, ValueError):
        return None


def _translate(pattern: str, *, deep: bool) -> str:
    """A pattern as the text of a regular expression; with `deep`, ``**`` crosses slashes. ValueError if malformed."""
    out: list[str] = []
    at, end = 0, len(pattern)
    while at < end:
        char = pattern[at]
        at += 1
        if char == "*":
            if deep and pattern[at : at + 1] == "*":
                at += 1
                if pattern[at : at + 1] == "/":
                    at += 1
                out.append("(?:.*/)?" if at < end else ".*")
            else:
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, at = _translate_class(pattern, at)
            out.append(text)
        elif char == "\\":
            if at == end:
                raise ValueError(pattern)
            out.append(re.escape(pattern[at]))
            at += 1
        else:
            out.append(re.escape(char))
    return "".join(out)


def _translate_class(pattern: str, at: int) -> tuple[str, int]:
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[str] = []
    while True:
        if at < len(pattern) and pattern[at] == "]" and ranges:
            break
        low, at = _read_class_char(pattern, at)
        high = low
        if pattern[at : at + 1] == "-":
            high, at = _read_class_char(pattern, at + 1)
        if low > high:
            raise ValueError(pattern)
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    return f"(?!/)[{'^' if negated else ''}{''.join(ranges)}]", at + 1


def _read_class_char(pattern: str, at: int) -> tuple[str, int]:
    if at >= len(pattern) or pattern[at] in "-]":
        raise ValueError(pattern)
    if pattern[at] == "\\":
        at += 1
        if at >= len(pattern):
            raise ValueError(pattern)
    return pattern[at], at + 1


class PathPatterns:
    """A list of patterns, each of which can select paths or, with ``!``, take back what those before it selected.

    A pattern fits a path, and so everything below it. An exception that fits a directory holds for what is below only
    if the directory was selected: otherwise it had nothing to take back there.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        """Raises ValueError with the pattern that is malformed."""
        self._rules: list[tuple[bool, re.Pattern[str], str]] = []
        texts: list[str] = []
        for text in patterns:
            negated = text.startswith("!")
            clean = _clean(text[1:] if negated else text)
            if not clean:
                continue
            try:
                translated = _translate(clean, deep=True)
                rule = re.compile(f"(?s:{translated})\\Z")
            except (re.error, ValueError):
                raise ValueError(text) from None
            self._rules.append((not negated, rule, clean))
            texts.append(f"(?:{translated})")
        self._exceptions = [clean for positive, _, clean in self._rules if not positive]
        self._any = re.compile(f"(?s:{'|'.join(texts)})(?:/|\\Z)") if texts else None
        self._known: dict[str, tuple[bool, tuple[bool, ...]]] = {"": (False, (False,) * len(self._rules))}

    def matches(self, path: str) -> bool:
        """Whether the list selects `path` (relative, clean)."""
        if self._any is None:
            return False
        if not self._exceptions:
            return self._any.match(path) is not None
        return self._judge(path)[0]

    def _judge(self, path: str) -> tuple[bool, tuple[bool, ...]]:
        """Whether `path` is selected, and which patterns fit it or a directory above."""
        parent = path.rpartition("/")[0]
        above = self._known.get(parent)
        if above is None:
            above = self._known[parent] = self._judge(parent)
        selected = False
        fits = []
        for (positive, rule, _), fit in zip(self._rules, above[1], strict=True):
            if not fit and positive != selected:
                fit = rule.match(path) is not None
            fits.append(fit)
            if fit:
                selected = positive
        return selected, tuple(fits)

    def may_select_below(self, directory: str) -> bool:
        """Whether something below `directory` can be selected, though the directory is not."""
        return any(positive and _reaches_below(clean, directory) for positive, _, clean in self._rules)

    def may_spare_below(self, directory: str) -> bool:
        """Whether an exception (``!``) can apply to something below `directory`."""
        return any(_reaches_below(clean, directory) for clean in self._exceptions)


def _reaches_below(pattern: str, directory: str) -> bool:
    parts, above = pattern.split("/"), directory.split("/")
    for part, name in zip(parts, above, strict=False):
        if "**" in part:
            return True
        rule = compile_match(part)
        if rule is None or not rule.match(name):
            return False
    return len(parts) > len(above) or "**" in pattern


def _clean(pattern: str) -> str:
    """Go's ``filepath.Clean``. A pattern that begins with a slash fits no relative path."""
    text = pattern.strip()
    kept: list[str] = []
    for part in text.split("/"):
        if part == "..":
            if kept:
                kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    return ("/" if text.startswith("/") else "") + "/".join(kept)
