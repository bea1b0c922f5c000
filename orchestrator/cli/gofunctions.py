"""What values look like in Go templates, and the functions that templates may call."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class TemplateError(Exception):
    """A template that cannot be read, or asks for what is not there."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def show(value: Any) -> str:
    """A value as Go prints it: ``true``, ``[a b]``, ``map[port:80 protocol:tcp]``."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{show(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(one) for one in value) + "]"
    return str(value)


def is_true(value: Any) -> bool:
    """Whether ``if`` takes a value for true: not false, 0, nil or empty."""
    return bool(value)


def to_json(value: Any) -> str:
    """JSON without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


_VERB = re.compile(r"%([-+# 0]*)(\d*)(\.\d+)?([a-zA-Z%])")


def format_values(form: str, *values: Any) -> str:
    """Go's Sprintf for the verbs of everyday: %s %v %d %q %t %x %f %%."""
    rest = list(values)

    def replace(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups(default="")
        if verb == "%":
            return "%"
        if not rest:
            raise TemplateError(f"printf: no value for {match.group()}")
        value = rest.pop(0)
        if verb in "sv":
            return f"%{flags.replace('0', '')}{width}{precision}s" % show(value)
        if verb == "q":
            return f"%{flags}{width}s" % to_json(show(value))
        if verb == "t":
            return f"%{flags}{width}s" % show(bool(value))
        if verb in "dxXofeg":
            return str(f"%{flags}{width}{precision}{verb}" % value)
        raise TemplateError(f"printf: there is no verb %{verb}")

    return _VERB.sub(replace, form)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else value[key]
    return value


def _slice(value: Sequence[Any], start: int = 0, end: int | None = None) -> Any:
    return value[start:end]


def _compare(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda one, other: bool(test(one, other))


def _equal(one: Any, *others: Any) -> bool:
    return any(one == other for other in others)


def _and(*values: Any) -> Any:
    return next((one for one in values if not is_true(one)), values[-1])


def _or(*values: Any) -> Any:
    return next((one for one in values if is_true(one)), values[-1])


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _and,
    "eq": _equal,
    "ge": _compare(lambda one, other: one >= other),
    "gt": _compare(lambda one, other: one > other),
    "index": _index,
    "join": lambda values, separator: str(separator).join(show(one) for one in values or ()),
    "json": to_json,
    "le": _compare(lambda one, other: one <= other),
    "len": lambda value: 0 if value is None else len(value),
    "lower": lambda value: show(value).lower(),
    "lt": _compare(lambda one, other: one < other),
    "ne": _compare(lambda one, other: one != other),
    "not": lambda value: not is_true(value),
    "or": _or,
    "pad": lambda text, before, after: " " * before + text + " " * after if text else text,
    "print": lambda *values: "".join(show(one) for one in values),
    "printf": format_values,
    "println": lambda *values: " ".join(show(one) for one in values) + "\n",
    "slice": _slice,
    "split": lambda text, separator: show(text).split(separator),
    "title": lambda value: re.sub(r"\b\w", lambda found: found.group().upper(), show(value)),
    "truncate": lambda text, length: show(text)[:length],
    "upper": lambda value: show(value).upper(),
}
"""By name. The value that is piped in is the last argument."""
