"""Go templates (text/template), as ``--format`` takes them: fields, pipelines, functions, if, range, with, variables.

Values are what JSON has; an object is a struct whose fields are known, so that a misspelt one is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.cli.gofunctions import FUNCTIONS, TemplateError, is_true, show
from orchestrator.errors import UsageError

Scope = dict[str, Any]
Value = Callable[[Any, Scope], Any]
"""Computes a value from the dot and the variables."""

_ACTION = re.compile(
    r"\{\{(-(?=\s))?\s*(/\*.*?\*/|(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`}]|\}(?!\}))*?)\s*((?<=\s)-)?\}\}", re.S
)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\])*"|`[^`]*`|'(?:\\.|[^'\\])')|(?P<number>-?\d+(?:\.\d+)?)|(?P<variable>\$\w*)"""
    r"""|(?P<field>\.\w+)|(?P<dot>\.)|(?P<word>\w+)|(?P<mark>:=|[|()=,]))"""
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


class Node:
    """A part of a template. `fields` are the names of the fields that it uses, in order; `bare_dot` is ``{{.}}``."""

    def __init__(
        self,
        render: Callable[[Any, Scope], str],
        fields: Sequence[str] = (),
        text: str = "",
        *,
        bare_dot: bool = False,
    ) -> None:
        self.render, self.fields, self.text, self.bare_dot = render, tuple(fields), text, bare_dot


def parse_template(form: str) -> list[Node]:
    """Read a template. Raises TemplateError."""
    parser = _Parser(_split(form))
    nodes, ending = parser.read_nodes()
    if ending:
        raise TemplateError(f"{{{{{ending}}}}} has nothing to end")
    return nodes


def render_template(form: str, data: Any) -> str:
    """Render `form` over `data`; ``\\t`` and ``\\n`` are what they stand for. Raises UsageError."""
    for written, meant in (("\\t", "\t"), ("\\n", "\n")):
        form = form.replace(written, meant)
    try:
        return render_nodes(parse_template(form), data)
    except TemplateError as error:
        raise UsageError(f"--format: {error}", hint=error.hint) from None


def render_nodes(nodes: Sequence[Node], dot: Any, scope: Scope | None = None) -> str:
    """Render a template for one value. Raises TemplateError for a field that it does not have."""
    variables = {"$": dot} if scope is None else scope
    return "".join(node.render(dot, variables) for node in nodes)


def _split(form: str) -> Iterator[tuple[bool, str]]:
    """Texts (False) and the insides of actions (True), without the white space that ``{{-`` and ``-}}`` take away."""
    at, trim = 0, False
    for match in _ACTION.finditer(form):
        text = form[at : match.start()]
        text = text.lstrip() if trim else text
        yield False, text.rstrip() if match.group(1) else text
        if not match.group(2).startswith("/*"):
            yield True, match.group(2)
        at, trim = match.end(), bool(match.group(3))
    rest = form[at:]
    if "{{" in rest:
        raise TemplateError("{{ is not closed")
    yield False, rest.lstrip() if trim else rest


class _Parser:
    def __init__(self, parts: Iterator[tuple[bool, str]]) -> None:
        self._parts = parts

    def read_nodes(self) -> tuple[list[Node], str]:
        """Nodes up to the ``end`` or ``else`` that ends them, and that."""
        nodes: list[Node] = []
        for is_action, text in self._parts:
            if not is_action:
                if text:
                    nodes.append(Node(lambda _dot, _scope, text=text: text, text=text))  # type: ignore[misc]
                continue
            keyword = re.match(r"\w*", text)
            word = keyword.group() if keyword else ""
            if word in ("end", "else"):
                return nodes, text
            if word in ("if", "with", "range"):
                nodes.append(self._read_block(word, text[len(word) :]))
            else:
                nodes.append(_Pipeline(text).to_node())
        return nodes, ""

    def _read_block(self, word: str, text: str) -> Node:
        condition = _Pipeline(text)
        body, ending = self.read_nodes()
        other: list[Node] = []
        if ending.startswith("else"):
            rest = ending[4:].strip()
            if rest:
                # ``else if`` is an ``if`` in the ``else``, and the two share their end.
                other = [self._read_block(rest.split(None, 1)[0], rest.partition(" ")[2])]
                ending = "end"
            else:
                other, ending = self.read_nodes()
        if ending != "end":
            raise TemplateError(f"{{{{{word}}}}} has no {{{{end}}}}")
        fields = [*condition.fields, *(name for node in (*body, *other) for name in node.fields)]
        render = {"if": _render_if, "with": _render_with, "range": _render_range}[word]
        return Node(lambda dot, scope: render(condition, body, other, dot, scope), fields)


def _render_if(condition: _Pipeline, body: list[Node], other: list[Node], dot: Any, scope: Scope) -> str:
    inner = dict(scope)
    return render_nodes(body if is_true(condition.compute(dot, inner)) else other, dot, inner)


def _render_with(condition: _Pipeline, body: list[Node], other: list[Node], dot: Any, scope: Scope) -> str:
    inner = dict(scope)
    value = condition.compute(dot, inner)
    return render_nodes(body, value, inner) if is_true(value) else render_nodes(other, dot, inner)


def _render_range(condition: _Pipeline, body: list[Node], other: list[Node], dot: Any, scope: Scope) -> str:
    values = condition.compute(dot, dict(scope))
    if isinstance(values, Mapping):
        pairs: list[tuple[Any, Any]] = sorted(values.items())
    elif isinstance(values, (list, tuple)):
        pairs = list(enumerate(values))
    elif values is None:
        pairs = []
    else:
        raise TemplateError(f"range: {show(values)!r} is no list")
    text = ""
    for key, value in pairs:
        inner = dict(scope)
        # ``$v := range x``, or ``$k, $v := range x``.
        for name, given in zip(
            condition.names, ((key, value) if len(condition.names) == 2 else (value,)), strict=False
        ):
            inner[name] = given
        text += render_nodes(body, value, inner)
    return text if pairs else render_nodes(other, dot, scope)


class _Pipeline:
    """``[$x :=] command | command``; commands are functions, fields or values."""

    def __init__(self, text: str) -> None:
        self.fields: list[str] = []
        self.names: tuple[str, ...] = ()
        self._assigns = False
        self._text = text
        self._tokens = self._tokenize(text)
        self._at = 0
        self._read_names()
        self._value = self._read_pipeline()
        if self._at < len(self._tokens):
            raise TemplateError(f"cannot read {{{{{text}}}}}")

    def to_node(self) -> Node:
        def render(dot: Any, scope: Scope) -> str:
            value = self.compute(dot, scope)
            return "" if self._assigns else show(value)

        return Node(render, self.fields, bare_dot=self._tokens == [("dot", ".")])

    def compute(self, dot: Any, scope: Scope) -> Any:
        value = self._value(dot, scope)
        if len(self.names) == 1:
            scope[self.names[0]] = value
        return value

    @staticmethod
    def _tokenize(text: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise TemplateError(f"cannot read {{{{{text}}}}}")
            kind = str(match.lastgroup)
            # A field belongs to what it stands right behind: ``$x.A``, ``(f).A``, ``.A.B``.
            before = found[-1] if found else ("", "")
            holds = before[0] in ("variable", "field", "chain") or before[1] == ")"
            glued = kind == "field" and holds and match.start(kind) == at
            found.append(("chain" if glued else kind, match.group(kind)))
            at = match.end()
        return found

    def _read_names(self) -> None:
        marks = [position for position, (_kind, word) in enumerate(self._tokens) if word in (":=", "=")]
        if not marks:
            return
        self.names = tuple(word for kind, word in self._tokens[: marks[0]] if kind == "variable")
        self._assigns = True
        self._at = marks[0] + 1

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def _read_pipeline(self) -> Value:
        value = self._read_command(None)
        while self._peek()[1] == "|":
            self._at += 1
            value = self._read_command(value)
        return value

    def _read_command(self, piped: Value | None) -> Value:
        kind, word = self._peek()
        if kind == "word" and word not in ("true", "false", "nil"):
            self._at += 1
            function = FUNCTIONS.get(word)
            if function is None:
                raise TemplateError(f"there is no function {word}", hint=f"there are {', '.join(sorted(FUNCTIONS))}")
            arguments = [*self._read_operands(), *([piped] if piped is not None else [])]
            return lambda dot, scope: _call(word, function, [one(dot, scope) for one in arguments])
        first = self._read_operand()
        if first is None or piped is not None:
            raise TemplateError(f"cannot read {{{{{self._text}}}}}")
        arguments = self._read_operands()
        if arguments:
            if self.fields[-1:] != ["Label"] or len(arguments) != 1:
                raise TemplateError(f"cannot read {{{{{self._text}}}}}", hint="only .Label takes an argument")
            return lambda dot, scope: _find_label(dot, arguments[0](dot, scope))
        return first

    def _read_operands(self) -> list[Value]:
        found = []
        while (one := self._read_operand()) is not None:
            found.append(one)
        return found

    def _read_operand(self) -> Value | None:
        kind, word = self._peek()
        value: Value
        if kind == "string":
            text = word[1:-1] if word[0] == "`" else re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), word[1:-1])
            value = lambda _dot, _scope: text  # noqa: E731
        elif kind == "number":
            number = float(word) if "." in word else int(word)
            value = lambda _dot, _scope: number  # noqa: E731
        elif kind == "word" and word in ("true", "false", "nil"):
            constant = {"true": True, "false": False}.get(word)
            value = lambda _dot, _scope: constant  # noqa: E731
        elif kind == "variable":
            value = lambda _dot, scope: _find_variable(scope, word)  # noqa: E731
        elif kind == "dot":
            value = lambda dot, _scope: dot  # noqa: E731
        elif kind == "field":
            self.fields.append(word[1:])
            value = lambda dot, _scope: _find_field(dot, word[1:])  # noqa: E731
        elif word == "(":
            self._at += 1
            value = self._read_pipeline()
            if self._peek()[1] != ")":
                raise TemplateError(f"( is not closed in {{{{{self._text}}}}}")
        elif kind == "word":
            # A function without arguments, as the argument of another.
            return self._read_command(None)
        else:
            return None
        self._at += 1
        while self._peek()[0] == "chain":
            value = self._follow(value, self._peek()[1][1:])
            self._at += 1
        return value

    @staticmethod
    def _follow(value: Value, name: str) -> Value:
        return lambda dot, scope: _find_deeper(value(dot, scope), name)


def _call(name: str, function: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return function(*arguments)
    except TemplateError:
        raise
    except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise TemplateError(f"{name}: {error}") from None


def _find_field(value: Any, name: str) -> Any:
    if name == "Label":
        return value
    if not isinstance(value, Mapping):
        raise TemplateError(f"there is no field .{name} in {show(value)!r}")
    if name == "ID" and "Id" in value and name not in value:
        return value["Id"]  # what Docker's structures call it; JSON has the other spelling
    if name not in value and value:
        raise TemplateError(f"there is no field .{name}", hint=f"there are {', '.join(map(str, value))}")
    return value.get(name)


def _find_deeper(value: Any, name: str) -> Any:
    """A field of a field: what one object has may be missing from another, and then there is no value."""
    if isinstance(value, Mapping):
        return value.get(name)
    return None if value is None else _find_field(value, name)


def _find_label(value: Any, name: Any) -> str:
    """``.Label "x"``: one out of the field ``Labels``, which is ``a=b,c=d``."""
    labels = str(_find_field(value, "Labels"))
    for pair in re.split(r",(?=[^,=]+=)", labels):
        key, _, text = pair.partition("=")
        if key == name:
            return text
    return ""


def _find_variable(scope: Scope, name: str) -> Any:
    if name not in scope:
        raise TemplateError(f"there is no variable {name}")
    return scope[name]
