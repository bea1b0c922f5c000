"""Go templates over plain data, as ``inspect --format`` takes them.

Understood are fields (``.Config.Env``), ``$``, literals, pipelines, parentheses, ``if``, ``else``, ``range``, ``with``,
``end``, the functions below, and ``{{-`` / ``-}}``; not variables, ``define`` and ``template``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.errors import UsageError

_PIECES = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"\s*(\"(?:[^\"\\]|\\.)*\"|`[^`]*`|'(?:[^'\\]|\\.)'|\||\(|\)|[-+]?\d+(?:\.\d+)?|[$.]?[\w.]*(?=[\s|()]|$)|\S)"
)

Node = tuple[str, Any]
"""("text", str), ("show", pipeline), ("if" | "range" | "with", [(pipeline or None, nodes), ...])."""


def render_template(form: str, data: Any) -> str:
    """Render `form` over `data`. Raises UsageError for what cannot be read, and for a field that does not exist."""
    for written, meant in (("\\t", "\t"), ("\\n", "\n")):
        form = form.replace(written, meant)
    nodes, rest, _ = _parse(_split(form), 0, inside="")
    assert rest == -1
    return _render(nodes, data, data)


def _split(form: str) -> list[tuple[str, str]]:
    pieces: list[tuple[str, str]] = []
    at, trim = 0, False
    for found in _PIECES.finditer(form):
        text = form[at : found.start()]
        text = text.lstrip() if trim else text
        pieces.append(("text", text.rstrip() if found[1] else text))
        if not found[2].lstrip().startswith("/*"):
            pieces.append(("action", found[2].strip()))
        at, trim = found.end(), bool(found[3])
    rest = form[at:]
    if "{{" in rest:
        raise _refuse(rest, "{{ is not closed")
    pieces.append(("text", rest.lstrip() if trim else rest))
    return pieces


def _parse(pieces: Sequence[tuple[str, str]], at: int, *, inside: str) -> tuple[list[Node], int, str]:
    """Nodes up to ``end``, ``else`` or the end; the place after it (-1 at the end), and which of them it was."""
    nodes: list[Node] = []
    while at < len(pieces):
        kind, text = pieces[at]
        at += 1
        word = text.split(maxsplit=1)[0] if kind == "action" and text else ""
        if kind == "text":
            nodes.append(("text", text))
        elif word in ("if", "range", "with"):
            node, at = _parse_block(pieces, at, word, text)
            nodes.append(node)
        elif word in ("end", "else"):
            if not inside:
                raise _refuse(text, f"{word} ends nothing")
            return nodes, at, text
        else:
            nodes.append(("show", _parse_pipeline(text)))
    if inside:
        raise _refuse(inside, f"{inside} has no end")
    return nodes, -1, ""


def _parse_block(pieces: Sequence[tuple[str, str]], at: int, word: str, text: str) -> tuple[Node, int]:
    branches: list[tuple[Any, list[Node]]] = []
    condition: Any = _parse_pipeline(text[len(word) :])
    while True:
        nodes, at, ended = _parse(pieces, at, inside=word)
        branches.append((condition, nodes))
        if ended == "end":
            return (word, branches), at
        rest = ended[len("else") :].strip()
        condition = _parse_pipeline(rest[2:]) if rest.startswith("if ") else None


def _parse_pipeline(text: str) -> list[list[Any]]:
    """Commands, each a list of operands; a parenthesis is a pipeline of its own."""
    stack: list[list[list[Any]]] = [[[]]]
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        token = found[1] if found else ""
        if not found or not token:
            raise _refuse(text, "cannot read it")
        at = found.end()
        if token == "(":
            stack.append([[]])
        elif token == ")":
            if len(stack) == 1:
                raise _refuse(text, "a parenthesis is closed that was not opened")
            inner = stack.pop()
            stack[-1][-1].append(("pipeline", inner))
        elif token == "|":
            stack[-1].append([])
        else:
            stack[-1][-1].append(_parse_operand(text, token))
    if len(stack) > 1 or not all(stack[0]):
        raise _refuse(text, "cannot read it")
    return stack[0]


def _parse_operand(text: str, token: str) -> tuple[str, Any]:
    if token[0] == '"':
        try:
            return ("value", json.loads(token))
        except ValueError:
            raise _refuse(text, f"{token} is no text") from None
    if token[0] in "`'":
        return ("value", token[1:-1])
    if re.fullmatch(r"[-+]?\d+(\.\d+)?", token):
        return ("value", float(token) if "." in token else int(token))
    if token in ("true", "false", "nil"):
        return ("value", {"true": True, "false": False, "nil": None}[token])
    if token == "$" or token.startswith("$."):
        return ("root", [part for part in token[1:].split(".") if part])
    if token.startswith("."):
        return ("field", [part for part in token.split(".") if part])
    if token in _FUNCTIONS:
        return ("function", token)
    raise _refuse(text, f"there is no function {token}", hint=f"there are {', '.join(sorted(_FUNCTIONS))}")


def _render(nodes: Sequence[Node], dot: Any, root: Any) -> str:
    text = ""
    for kind, body in nodes:
        if kind == "text":
            text += body
        elif kind == "show":
            text += show_value(_evaluate(body, dot, root))
        else:
            text += _render_block(kind, body, dot, root)
    return text


def _render_block(kind: str, branches: Sequence[tuple[Any, list[Node]]], dot: Any, root: Any) -> str:
    for number, (condition, nodes) in enumerate(branches):
        if condition is None:
            return _render(nodes, dot, root)
        value = _evaluate(condition, dot, root)
        if kind == "range" and number == 0:
            items = [value[key] for key in sorted(value)] if isinstance(value, Mapping) else list(value or ())
            if items:
                return "".join(_render(nodes, item, root) for item in items)
        elif value:
            return _render(nodes, value if kind == "with" else dot, root)
    return ""


def _evaluate(pipeline: Sequence[Sequence[Any]], dot: Any, root: Any) -> Any:
    value: Any = None
    for number, command in enumerate(pipeline):
        extra = [value] if number else []
        kind, first = command[0]
        operands = [_resolve(one, dot, root) for one in command[1:]]
        if kind == "function":
            value = _call(first, [*operands, *extra])
        elif operands or extra:
            raise UsageError("--format: only a function takes something", hint=f"there are {', '.join(_FUNCTIONS)}")
        else:
            value = _resolve(command[0], dot, root)
    return value


def _resolve(operand: tuple[str, Any], dot: Any, root: Any) -> Any:
    kind, body = operand
    if kind == "value":
        return body
    if kind == "pipeline":
        return _evaluate(body, dot, root)
    if kind == "function":
        return _call(body, [])
    value = root if kind == "root" else dot
    for depth, name in enumerate(body):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, Mapping) and depth == 0 and value:
            shown = ", ".join(map(str, value))
            raise UsageError(f"--format: there is no field .{name}", hint=f"there are {shown}")
        else:
            # What is deeper down may be missing from one image and there in another.
            return None
    return value


def show_value(value: Any) -> str:
    """A value as Go prints it: lists in brackets, mappings as ``map[key:value]``."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{show_value(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show_value(one) for one in value) + "]"
    return str(value)


def _call(name: str, operands: list[Any]) -> Any:
    try:
        return _FUNCTIONS[name](*operands)
    except (TypeError, IndexError, ValueError, AttributeError) as error:
        raise UsageError(f"--format: {name} cannot be used so: {error}") from None


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else value[key]
    return value


def _printf(form: str, *values: Any) -> str:
    return re.sub(r"%[vdq]", "%s", form) % tuple(map(show_value, values))


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    "join": lambda values, separator: separator.join(map(show_value, values or ())),
    "split": lambda text, separator: text.split(separator),
    "upper": lambda value: show_value(value).upper(),
    "lower": lambda value: show_value(value).lower(),
    "title": lambda value: show_value(value).title(),
    "len": lambda value: len(value or ()),
    "index": _index,
    "print": lambda *values: "".join(map(show_value, values)),
    "println": lambda *values: " ".join(map(show_value, values)) + "\n",
    "printf": _printf,
    "eq": lambda one, *others: one in others,
    "ne": lambda one, other: one != other,
    "lt": lambda one, other: one < other,
    "le": lambda one, other: one <= other,
    "gt": lambda one, other: one > other,
    "ge": lambda one, other: one >= other,
    "not": lambda value: not value,
    "and": lambda *values: next((one for one in values if not one), values[-1]),
    "or": lambda *values: next((one for one in values if one), values[-1]),
}


def _refuse(text: str, why: str, *, hint: str = "") -> UsageError:
    return UsageError(f"--format: cannot read {{{{{text.strip()}}}}}: {why}", hint=hint)
