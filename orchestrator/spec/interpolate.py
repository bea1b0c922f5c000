"""Variable substitution: ``$V ${V} ${V:-d} ${V-d} ${V:?e} ${V?e} ${V:+r} ${V+r}``, nesting, and ``$$`` for a dollar
sign.

Values are substituted, keys never. An unset variable becomes empty with a warning at its first place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.source import Path
from orchestrator.spec.positions import Map, Mark, Problems, Seq

Lookup = Callable[[str], str | None]

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_MAX_DEPTH = 32
_MAX_LENGTH = 8 * 1024 * 1024


class Variable(NamedTuple):
    """A variable that a template names; `default` and `alternate` are None unless written."""

    name: str
    required: bool = False
    default: str | None = None
    alternate: str | None = None


class TemplateError(Exception):
    """A template that cannot be substituted; `code` is the diagnostic's code, `hint` the way out."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def substitute_variables(template: str, lookup: Lookup, on_unset: Callable[[str], None], depth: int = 0) -> str:
    """Return `template` with every variable replaced.

    `lookup` answers None for an unset variable; `on_unset` is told the names that became empty. Raises TemplateError.
    """
    if depth > _MAX_DEPTH:
        raise TemplateError("bad-interpolation", f"variables are nested more than {_MAX_DEPTH} deep")
    start = template.find("$")
    if start < 0:
        return template
    parts: list[str] = []
    position = 0
    while start >= 0:
        parts.append(template[position:start])
        following = template[start + 1 : start + 2]
        if following == "$":
            parts.append("$")
            position = start + 2
        elif following == "{":
            end = _closing_brace(template, start)
            parts.append(_expand(template[start + 2 : end], lookup, on_unset, depth))
            position = end + 1
        else:
            found = _NAME.match(template, start + 1)
            if found is None:
                raise _invalid(template, start)
            parts.append(_plain(found[0], lookup, on_unset))
            position = found.end()
        start = template.find("$", position)
    parts.append(template[position:])
    return "".join(parts)


def _closing_brace(template: str, start: int) -> int:
    depth = 0
    index = start
    size = len(template)
    while index < size:
        if template.startswith("${", index):
            depth += 1
            index += 2
            continue
        if template[index] == "}":
            depth -= 1
            if depth == 0:
                return index
        index += 1
    raise TemplateError(
        "bad-interpolation",
        f"no closing brace for {_shorten(template[start:])}",
        "close it with }, or write $$ for a $",
    )


def _expand(inside: str, lookup: Lookup, on_unset: Callable[[str], None], depth: int) -> str:
    found = _NAME.match(inside)
    if found is None:
        raise _invalid("${" + inside + "}", 0)
    name = found[0]
    operator, argument = _split_operator(inside, found.end())
    if not operator:
        return _plain(name, lookup, on_unset)
    value = lookup(name)
    present = value is not None and (value != "" or operator[0] != ":")
    if operator[-1] == "+":
        return substitute_variables(argument, lookup, on_unset, depth + 1) if present else ""
    if present and value is not None:
        return value
    text = substitute_variables(argument, lookup, on_unset, depth + 1)
    if operator[-1] == "-":
        return text
    state = "is not set" if value is None else "is empty"
    raise TemplateError(
        "required-variable",
        f"the required variable {name} {state}" + (f": {text}" if text else ""),
        f"set it in the environment or in .env: {name}=...",
    )


def _split_operator(inside: str, end: int) -> tuple[str, str]:
    rest = inside[end:]
    if not rest:
        return "", ""
    width = 2 if rest[0] == ":" else 1
    operator = rest[:width]
    if operator[-1] not in "-?+":
        raise _invalid("${" + inside + "}", 0)
    return operator, rest[width:]


def _plain(name: str, lookup: Lookup, on_unset: Callable[[str], None]) -> str:
    value = lookup(name)
    if value is None:
        on_unset(name)
        return ""
    return value


def _invalid(template: str, start: int) -> TemplateError:
    return TemplateError(
        "bad-interpolation",
        f"{_shorten(template[start:])} is not a variable reference",
        "write $$ for a dollar sign, or ${NAME} for a variable",
    )


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def interpolate_tree(value: Any, mark: Mark, lookup: Lookup, problems: Problems, warned: set[str]) -> Any:
    """Return the tree with every string substituted; containers without a dollar sign are returned as they are.

    `warned` holds the variables that a warning was given for; it is added to.
    """
    return _Interpolation(lookup, problems, warned).convert(value, mark, ())


class _Interpolation:
    def __init__(self, lookup: Lookup, problems: Problems, warned: set[str]) -> None:
        self._lookup = lookup
        self._problems = problems
        self._warned = warned
        self._done: dict[int, Any] = {}
        self._written = 0

    def convert(self, value: Any, mark: Mark, path: Path) -> Any:
        kind = type(value)
        if kind is str:
            return self._substitute(value, mark, path) if "$" in value else value
        if kind is Map:
            known = self._done.get(id(value))
            if known is None:
                known = self._done[id(value)] = self._mapping(value, path)
            return known
        if kind is Seq:
            known = self._done.get(id(value))
            if known is None:
                known = self._done[id(value)] = self._sequence(value, path)
            return known
        return value

    def _mapping(self, value: Map, path: Path) -> Map:
        result: Map | None = None
        for key, item in value.items():
            if type(item) is str and "$" not in item:
                continue
            converted = self.convert(item, value.marks[key][1], (*path, key))
            if converted is not item:
                if result is None:
                    result = Map()
                    result.update(value)
                    result.marks = value.marks
                result[key] = converted
        return value if result is None else result

    def _sequence(self, value: Seq, path: Path) -> Seq:
        result: Seq | None = None
        for index, item in enumerate(value):
            if type(item) is str and "$" not in item:
                continue
            converted = self.convert(item, value.marks[index], (*path, index))
            if converted is not item:
                if result is None:
                    result = Seq()
                    result.extend(value)
                    result.marks = value.marks
                result[index] = converted
        return value if result is None else result

    def _substitute(self, text: str, mark: Mark, path: Path) -> str:
        def warn_unset(name: str) -> None:
            if name not in self._warned:
                self._warned.add(name)
                self._problems.warn(
                    "unset-variable",
                    f"the variable {name} is not set; it becomes an empty string",
                    mark,
                    path,
                    f"set it in the environment or in .env, or give a default: ${{{name}:-value}}",
                )

        try:
            result = substitute_variables(text, self._lookup, warn_unset)
        except TemplateError as error:
            self._problems.report(error.code, str(error), mark, path, error.hint)
            return ""
        self._written += len(result)
        if self._written > _MAX_LENGTH:
            self._problems.report(
                "file-too-large", f"substitution yields more than {_MAX_LENGTH >> 20} MiB of text", mark, path
            )
            return ""
        return result


def extract_variables(template: str) -> list[Variable]:
    """List the variables that `template` names, those inside defaults and alternates included."""
    found: list[Variable] = []
    position = template.find("$")
    while position >= 0:
        following = template[position + 1 : position + 2]
        if following == "{":
            try:
                end = _closing_brace(template, position)
                _describe(template[position + 2 : end], found)
            except TemplateError:
                return found
            position = template.find("$", end)
            continue
        match = _NAME.match(template, position + 1)
        if match:
            found.append(Variable(match[0]))
        position = template.find("$", position + 2)
    return found


def _describe(inside: str, found: list[Variable]) -> None:
    match = _NAME.match(inside)
    if match is None:
        return
    operator, argument = _split_operator(inside, match.end())
    kind = operator[-1:]
    found.append(
        Variable(
            match[0],
            required=kind == "?",
            default=argument if kind == "-" else None,
            alternate=argument if kind == "+" else None,
        )
    )
    if kind in ("-", "+"):
        found.extend(extract_variables(argument))
