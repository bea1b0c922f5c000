"""``.dockerignore``: which files of a build context do not exist for the build. Pure."""

from __future__ import annotations

import posixpath
import re

from orchestrator.engines.native.dockerfile.front.expansion import SPACES
from orchestrator.engines.native.dockerfile.front.lexer import decode_dockerfile
from orchestrator.engines.native.dockerfile.front.problems import DockerfileInvalid
from orchestrator.engines.native.dockerfile.sources.matching import PathPatterns
from orchestrator.errors import Diagnostic
from orchestrator.source import Location

_SUFFIX = re.compile(r"\*\*([^/*?\[\]\\]+)")


class IgnoreRules:
    """The rules of one file, or of none. Paths are relative to the context and clean, with slashes.

    `patterns` are the rules as they were understood; exceptions begin with ``!``.
    """

    def __init__(self, patterns: tuple[str, ...] = ()) -> None:
        """Raises ValueError with the pattern that is malformed."""
        self.patterns = patterns
        self._rules = PathPatterns([_rewrite(one) for one in patterns])

    def matches(self, path: str, is_dir: bool = False) -> bool:
        """Whether `path` is hidden. Rules do not tell directories from files (`is_dir`); the last that fits decides."""
        return self._rules.matches(path)

    def may_spare_below(self, directory: str) -> bool:
        """Whether an exception can apply to something below `directory`."""
        return self._rules.may_spare_below(directory)

    def prunes(self, directory: str) -> bool:
        """Whether a walk need not enter `directory`: it is hidden, and nothing below it can be an exception."""
        return self.matches(directory) and not self.may_spare_below(directory)


def load_ignore(text: bytes | str, name: str = ".dockerignore") -> IgnoreRules:
    """Read the text of a ``.dockerignore``. Raises DockerfileInvalid with every line that is no pattern."""
    patterns: list[str] = []
    problems: list[Diagnostic] = []
    for number, line in enumerate(decode_dockerfile(text).split("\n"), 1):
        if line.startswith("#"):
            continue
        pattern = parse_ignore_line(line)
        if pattern is None:
            continue
        try:
            IgnoreRules((pattern,))
        except ValueError:
            where = Location(name, number, len(line) - len(line.lstrip(SPACES)) + 1)
            hint = (
                "an exception needs a path after the exclamation mark" if pattern == "!" else "escape [ and \\ with \\"
            )
            problems.append(Diagnostic("invalid-ignore-pattern", f"{pattern!r} is not a pattern", where, hint=hint))
        else:
            patterns.append(pattern)
    if problems:
        raise DockerfileInvalid(problems)
    return IgnoreRules(tuple(patterns))


def parse_ignore_line(line: str) -> str | None:
    """One line's pattern, relative and clean, with its ``!``; None if the line says nothing."""
    text = line.strip(SPACES)
    if not text:
        return None
    mark, text = ("!", text[1:].strip(SPACES)) if text.startswith("!") else ("", text)
    if text:
        text = posixpath.normpath(text.lstrip("/") or "/")
        if text == ".." or text.startswith("../"):
            return None
    return mark + text


def _rewrite(pattern: str) -> str:
    """``**name`` means every path that ends so, ``**/*name``; a malformed pattern raises ValueError."""
    if pattern == "!":
        raise ValueError(pattern)
    mark, text = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    match = _SUFFIX.fullmatch(text)
    return f"{mark}**/*{match[1]}" if match else pattern
