"""Variable substitution: ``$V ${V} ${V:-d} ${V-d} ${V:?e} ${V?e} ${V:+r} ${V+r}``, nesting, and ``$$`` for a dollar
sign.

Values are substituted, keys never. An unset variable becomes empty with a warning at its first place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from orchestrator.source import Path
from orchestrator.spec.positions import Map, Mark, Problems, Seq
from orchestrator.spec.yaml import Override

Lookup = Callable[[str], str | None]

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_MAX_DEPTH = 32
_MAX_LENGTH = 8 * 1024 * 1024
_MAX_VARIABLES = 1000
_MAX_SHOWN = 1000
_LONG = 4096
_BRACES = re.compile(r"\$\{|\}")


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


def substitute_variables(template: str, lookup: Lookup, on_unset: Callable[[str], None]) -> str:
    """Return `template` with every variable replaced.

    `lookup` answers None for an unset variable; `on_unset` is told the names that became empty. Raises TemplateError.
    """
    if "$" not in template:
        return template
    return _Substitution(template, lookup, on_unset).expand(0, len(template), 0)


def _pair_braces(template: str) -> dict[int, int]:
    """Return the place of the closing brace by the place of its ``${``, all found in one walk: no text is slow."""
    found: dict[int, int] = {}
    open_at: list[int] = []
    for brace in _BRACES.finditer(template):
        if brace[0] != "}":
            open_at.append(brace.start())
        elif open_at:
            found[open_at.pop()] = brace.start()
    return found


class _Substitution:
    """One template; positions are offsets into it."""

    def __init__(self, template: str, lookup: Lookup, on_unset: Callable[[str], None]) -> None:
        self._template = template
        self._lookup = lookup
        self._on_unset = on_unset
        self._ends = _pair_braces(template)

    def expand(self, position: int, stop: int, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise TemplateError("bad-interpolation", f"variables are nested more than {_MAX_DEPTH} deep")
        template = self._template
        parts: list[str] = []
        start = template.find("$", position, stop)
        while start >= 0:
            parts.append(template[position:start])
            following = template[start + 1] if start + 1 < stop else ""
            if following == "$":
                parts.append("$")
                position = start + 2
            elif following == "{":
                end = _closing_brace(template, start, self._ends)
                parts.append(self._expand_braces(start, end, depth))
                position = end + 1
            else:
                found = _NAME.match(template, start + 1, stop)
                # A dollar sign before anything else is one: the $(date) or $1 of a script, the end of a pattern.
                parts.append("$" if found is None else self._plain(found[0]))
                position = start + 1 if found is None else found.end()
            start = template.find("$", position, stop)
        parts.append(template[position:stop])
        return "".join(parts)

    def _expand_braces(self, start: int, end: int, depth: int) -> str:
        name, operator, argument = _split_braces(self._template, start, end)
        if not operator:
            return self._plain(name)
        value = self._lookup(name)
        present = value is not None and (value != "" or operator[0] != ":")
        if operator[-1] == "+":
            return self.expand(argument, end, depth + 1) if present else ""
        if present and value is not None:
            return value
        text = self.expand(argument, end, depth + 1)
        if operator[-1] == "-":
            return text
        state = "is not set" if value is None else "is empty"
        raise TemplateError(
            "required-variable",
            f"the required variable {name} {state}" + (f": {text}" if text else ""),
            f"set it in the environment or in .env: {name}=...",
        )

    def _plain(self, name: str) -> str:
        value = self._lookup(name)
        if value is None:
            self._on_unset(name)
            return ""
        return value


def _closing_brace(template: str, start: int, ends: dict[int, int]) -> int:
    if start not in ends:
        raise TemplateError(
            "bad-interpolation",
            f"no closing brace for {_shorten(template[start : start + 50])}",
            "close it with }, or write $$ for a $",
        )
    return ends[start]


def _split_braces(template: str, start: int, end: int) -> tuple[str, str, int]:
    """Return name, operator and the offset of the argument of the ``${`` at `start`. Raises TemplateError."""
    found = _NAME.match(template, start + 2, end)
    if found is None:
        raise _invalid(template[start : min(end + 1, start + 50)])
    after = found.end()
    if after == end:
        return found[0], "", end
    width = 2 if template[after] == ":" else 1
    operator = template[after : min(after + width, end)]
    if operator[-1] not in "-?+":
        raise _invalid(template[start : min(end + 1, start + 50)])
    return found[0], operator, after + width


def _invalid(text: str) -> TemplateError:
    hint = "write $$ for a dollar sign, or ${NAME} for a variable"
    meant = re.fullmatch(r"\$\{(\w+):([\w./-]+)\}", text)
    if meant is not None:
        hint = f"did you mean ${{{meant[1]}:-{meant[2]}}}?"
    return TemplateError("bad-interpolation", f"{_shorten(text)} is not a variable reference", hint)


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
        if len(text) > _LONG:
            self._problems.spend(text.count("$") // 4, mark, path)

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
    """List the variables that `template` names, those inside defaults and alternates included; at most 1,000."""
    found: list[Variable] = []
    ends = _pair_braces(template)
    position = template.find("$")
    while position >= 0 and len(found) < _MAX_VARIABLES:
        following = template[position + 1 : position + 2]
        if following == "{":
            # What stands inside is walked as well: it may name variables in its turn.
            position = _describe(template, position, ends, found)
        else:
            match = _NAME.match(template, position + 1)
            if match:
                found.append(Variable(match[0]))
            position += 1 if match else 2
        position = template.find("$", position)
    return found


def _describe(template: str, start: int, ends: dict[int, int], found: list[Variable]) -> int:
    """Add the variable of the ``${`` at `start`; return where to look on."""
    try:
        end = _closing_brace(template, start, ends)
        name, operator, argument = _split_braces(template, start, end)
    except TemplateError:
        return start + 2
    kind = operator[-1:]
    text = template[argument : min(end, argument + _MAX_SHOWN)]
    found.append(
        Variable(
            name,
            required=kind == "?",
            default=text if kind == "-" else None,
            alternate=text if kind == "+" else None,
        )
    )
    return argument if kind in ("-", "+") else end


def collect_variables(trees: Iterable[Any]) -> list[Variable]:
    """List the variables that the texts of `trees` name, one each, sorted; the first default or alternate counts."""
    found: dict[str, Variable] = {}
    seen: set[int] = set()
    waiting = list(trees)[::-1]
    while waiting:
        value = waiting.pop()
        if type(value) is str:
            for one in extract_variables(value) if "$" in value else ():
                known = found.get(one.name, one)
                found[one.name] = Variable(
                    one.name,
                    required=known.required or one.required,
                    default=one.default if known.default is None else known.default,
                    alternate=one.alternate if known.alternate is None else known.alternate,
                )
        elif isinstance(value, Map | Seq) and id(value) not in seen:
            seen.add(id(value))
            waiting.extend([*(value.values() if isinstance(value, Map) else value)][::-1])
        elif isinstance(value, Override):
            waiting.append(value.value)
    return [found[name] for name in sorted(found)]
