"""Shapes of single values: what a scalar attribute accepts, and the canonical value that it becomes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from orchestrator.source import Path
from orchestrator.spec.durations import parse_duration, parse_size, render_duration
from orchestrator.spec.positions import Map, Mark, Problems, Seq
from orchestrator.spec.scalars import Timestamp, render_scalar
from orchestrator.spec.words import split_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.spec.rows import Row


class Invalid:
    """Stands for a value that was refused; containers leave it out."""


INVALID = Invalid()

_MAX_COMPARED = 500
_TRUE = frozenset(("true", "yes", "y", "on", "1", "t"))
_FALSE = frozenset(("false", "no", "n", "off", "0", "f"))


def name_type(value: Any) -> str:
    """Name the YAML type of `value` for a message: ``a mapping``, ``a list``, ``a number`` ..."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Timestamp):
        return "a date"
    if isinstance(value, str):
        return "a string"
    return "a list" if type(value) is Seq else "a mapping"


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean X?`` for the nearest of `known`, or an empty text."""
    nearest = find_nearest(name, known)
    return f"did you mean {nearest}?" if nearest else ""


def find_nearest(name: str, known: Iterable[str]) -> str:
    """Return the one of `known` that `name` is most likely meant to be, or an empty text."""
    from difflib import get_close_matches

    known = list(known)
    if len(known) > _MAX_COMPARED:
        known = [one for one in known if one[:2].lower() == name[:2].lower()][:_MAX_COMPARED]
    near = get_close_matches(str(name).lower(), [one.lower() for one in known], n=1, cutoff=0.6)
    return next((one for one in known if one.lower() == near[0]), "") if near else ""


def refuse_type(problems: Problems, expected: str, value: Any, mark: Mark, path: Path) -> Invalid:
    """Report that `value` is not `expected`."""
    name = path[-1] if path and isinstance(path[-1], str) else "the item"
    if value is None:
        problems.report("null-value", f"{name} must be {expected}, not null", mark, path, _hint_null(path))
        return INVALID
    hint = hint_type(expected, value, path)
    problems.report("wrong-type", f"{name} must be {expected}, not {name_type(value)}", mark, path, hint)
    return INVALID


def hint_type(expected: str, value: Any, path: Path) -> str:
    """Return what to write where `value` is of another type than `expected`, or an empty text."""
    if isinstance(value, Timestamp):
        return "quote it: dates are strings only between quotes"
    if "string" in expected and isinstance(value, bool | int | float):
        return f'quote it: "{render_scalar(value)}"'
    if isinstance(value, str):
        if "list" in expected and value.startswith("-"):
            return "put a space after the dash"
        if "mapping" in expected and re.fullmatch(r"[a-z_]+:\S+", value):
            name, _, rest = value.partition(":")
            return f"put a space after the colon: {name}: {rest}"
        if "list" in expected and "\n" not in value:
            return f'write a list: ["{value[:60]}"]'
        return _hint_mapping(value, path)
    if type(value) is Seq and expected == "a mapping":
        return "leave the dashes away, and end each name with a colon"
    if type(value) is Map and expected == "a string" and len(value) == 1 and "environment" in path:
        name, item = next(iter(value.items()))
        return f"write {name}={render_scalar(item)}, or leave the dashes away" if not isinstance(item, dict) else ""
    if type(value) is Map and "labels" in path and len(value):
        return f"labels are flat: write {path[-1]}.{next(iter(value))}"
    return ""


def _hint_mapping(text: str, path: Path) -> str:
    """What a text may be meant for, where a mapping is expected."""
    if len(path) != 2 or "\n" in text:
        return ""
    if path[0] in ("secrets", "configs"):
        return f"write file: {text} below it"
    if text == "external":
        return "write external: true below it"
    return f"write image: {text} below it" if path[0] == "services" else ""


def shape_string(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a string; one of the allowed ones where there are such."""
    if type(value) is not str:
        return refuse_type(problems, "a string", value, mark, path)
    if row.allowed and value not in row.allowed:
        problems.report(
            "not-allowed",
            f"{value!r} is not one of {', '.join(row.allowed)}",
            mark,
            path,
            suggest_name(value, row.allowed),
        )
        return INVALID
    return value


def shape_text(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a string or a number, and make it a string."""
    if type(value) is str:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return refuse_type(problems, "a string or a number", value, mark, path)
    return render_scalar(value)


def shape_scalar(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a string or a boolean, and make it a string."""
    if type(value) is str:
        return value
    if not isinstance(value, bool):
        return refuse_type(problems, "a string or a boolean", value, mark, path)
    return render_scalar(value)


def shape_true_boolean(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a boolean and nothing else."""
    return value if isinstance(value, bool) else refuse_type(problems, "true or false", value, mark, path)


def shape_boolean(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a boolean or a string that says true or false."""
    if isinstance(value, bool):
        return value
    if type(value) is not str:
        return refuse_type(problems, "true or false", value, mark, path)
    word = value.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    hint = _empty_hint(value) or "write true or false"
    problems.report("bad-boolean", f"{value!r} is neither true nor false", mark, path, hint)
    return INVALID


def _empty_hint(value: str) -> str:
    return "an unset variable becomes empty; give it a default: ${NAME:-value}" if value == "" else ""


def _hint_null(path: Path) -> str:
    if len(path) == 2 and path[0] == "services":
        return "write image: or build: below it"
    if len(path) == 2 and path[0] in ("secrets", "configs"):
        return "write file:, environment: or external: below it"
    return "give it a value, or remove the line"


def shape_integer(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a whole number, or a string of decimal digits, within the row's bounds."""
    number = value
    if type(value) is str:
        digits = value[1:] if value[:1] in ("-", "+") else value
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            hint = _empty_hint(value) or ("-1 is no limit" if "ulimits" in path else "")
            problems.report("bad-number", f"{value!r} is not a whole number", mark, path, hint)
            return INVALID
        number = int(value)
    elif type(value) is float and value.is_integer():
        number = int(value)
    elif type(value) is not int:
        return refuse_type(problems, "a whole number", value, mark, path)
    return _bounded(problems, row, number, mark, path)


def shape_number(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a number, or a string that is one, within the row's bounds."""
    number = value
    if type(value) is str:
        try:
            number = float(value)
        except ValueError:
            problems.report("bad-number", f"{value!r} is not a number", mark, path, _empty_hint(value))
            return INVALID
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return refuse_type(problems, "a number", value, mark, path)
    if number != number or number in (float("inf"), float("-inf")):
        problems.report("bad-number", f"{value} is not a finite number", mark, path)
        return INVALID
    if type(number) is float and number.is_integer():
        number = int(number)
    return _bounded(problems, row, number, mark, path)


def _bounded(problems: Problems, row: Row, number: int | float, mark: Mark, path: Path) -> Any:
    if not -(2**63) <= number < 2**63:
        problems.report("out-of-range", f"{number} does not fit into 64 bits", mark, path)
        return INVALID
    if row.minimum is not None and number < row.minimum:
        problems.report("out-of-range", f"{number} is less than {row.minimum}", mark, path)
        return INVALID
    if row.maximum is not None and number > row.maximum:
        problems.report("out-of-range", f"{number} is more than {row.maximum}", mark, path)
        return INVALID
    return number


def shape_size(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept bytes as a number or with a unit, and make them a decimal string."""
    if isinstance(value, bool | Timestamp) or not isinstance(value, str | int | float):
        return refuse_type(problems, "a size in bytes, such as 64m", value, mark, path)
    if type(value) is int:
        number = _bounded(problems, row, value, mark, path)
        return number if number is INVALID else str(number)
    return shape_size_text(problems, row, render_scalar(value), mark, path)


def shape_size_text(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a size written as a string, and make it a decimal string of bytes."""
    if type(value) is not str:
        return refuse_type(problems, 'a string such as "64m"', value, mark, path)
    size = parse_size(value)
    if size is None:
        problems.report(
            "bad-size",
            f"{value!r} is not a size",
            mark,
            path,
            _empty_hint(value) or "write bytes, or a unit: 512k, 64m, 2g",
        )
        return INVALID
    return str(size)


def shape_duration(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a duration such as ``1m30s`` and write it canonically."""
    if type(value) is not str:
        return refuse_type(problems, "a duration such as 30s", value, mark, path)
    duration = parse_duration(value)
    if duration is None:
        hint = f"did you mean {value}s?" if value.isdigit() else _empty_hint(value) or "write 30s, 1m30s or 500ms"
        problems.report("bad-duration", f"{value!r} is not a duration", mark, path, hint)
        return INVALID
    return render_duration(duration)


def shape_count(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a number of devices, or ``all`` (which is -1)."""
    return -1 if value == "all" else shape_integer(problems, row, value, mark, path)


def shape_command(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a list of strings, or a string that is split into words; null means "not set"."""
    if value is None:
        return None
    if type(value) is Seq:
        return shape_strings(problems, row, value, mark, path)
    if type(value) is not str:
        return refuse_type(problems, "a string or a list of strings", value, mark, path)
    result = Seq()
    try:
        words, rest = split_words(value)
    except ValueError as error:
        problems.report("bad-command", str(error), mark, path, "close it, or write the command as a list")
        return INVALID
    if rest:
        problems.warn(
            "shell-syntax",
            f"the command ends before {rest[:20]!r}: no shell reads it",
            mark,
            path,
            'write ["sh", "-c", "..."] for a command line with shell syntax',
        )
    for word in words:
        result.add(word, mark)
    return result


def shape_probe(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept the test of a health check; a string is run by the shell."""
    if type(value) is not str:
        return shape_strings(problems, row, value, mark, path)
    result = Seq()
    result.add("CMD-SHELL", mark)
    result.add(value, mark)
    return result


def shape_strings(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a list of strings."""
    if type(value) is not Seq:
        return refuse_type(problems, "a list of strings", value, mark, path)
    return _collect(problems, row, value, path, shape_plain_string)


def shape_plain_string(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept any string."""
    return value if type(value) is str else refuse_type(problems, "a string", value, mark, path)


def shape_string_or_strings(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a string or a list of strings, and make it a list."""
    if type(value) is str:
        result = Seq()
        result.add(value, mark)
        return result
    if type(value) is not Seq:
        return refuse_type(problems, "a string or a list of strings", value, mark, path)
    return _collect(problems, row, value, path, shape_plain_string)


def shape_texts(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a list of strings and numbers, and make it a list of strings."""
    if type(value) is not Seq:
        return refuse_type(problems, "a list", value, mark, path)
    return _collect(problems, row, value, path, shape_text)


def _collect(problems: Problems, row: Row, value: Seq, path: Path, shape: Any) -> Seq:
    result = Seq()
    for index, item in enumerate(value):
        mark = value.marks[index]
        if type(item) is not str:
            item = shape(problems, row, item, mark, (*path, index))
            if item is INVALID:
                continue
        result.append(item)
        result.marks.append(mark)
    return deduplicate(problems, row, result, path) if row.unique and len(result) > 1 else result


def _find_repeat(keys: list[str]) -> int:
    seen: set[str] = set()
    for index, key in enumerate(keys):
        if key in seen:
            return index
        seen.add(key)
    raise ValueError("no key repeats")


def deduplicate(problems: Problems, row: Row, items: Seq, path: Path) -> Seq:
    """Keep one of equal items, at the first one's place; refuse repeats where the row says so."""
    keys = [item.partition("=")[0] for item in items] if row.unique == "key" else list(items)
    if len(set(keys)) == len(keys):
        return items
    if row.unique == "refuse":
        first = _find_repeat(keys)
        problems.report(
            "duplicate-item",
            f"{items[first]!r} is listed twice",
            items.marks[first],
            (*path, first),
            "remove one of them",
        )
        return items
    result = Seq()
    places: dict[str, int] = {}
    for key, item, mark in zip(keys, items, items.marks, strict=True):
        if key in places:
            result[places[key]] = item
            result.marks[places[key]] = mark
        else:
            places[key] = len(result)
            result.add(item, mark)
    return result


def shape_texts_by_name(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a mapping of strings and numbers, and make the values strings."""
    return _by_name(problems, row, value, mark, path, shape_text)


def shape_strings_by_name(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a mapping of strings."""
    return _by_name(problems, row, value, mark, path, shape_plain_string)


def _by_name(problems: Problems, row: Row, value: Any, mark: Mark, path: Path, shape: Any) -> Any:
    if type(value) is not Map:
        return refuse_type(problems, "a mapping", value, mark, path)
    result = Map()
    for key, item in value.items():
        marks = value.marks[key]
        shaped = "" if item is None and row.null == "empty" else shape(problems, row, item, marks[1], (*path, key))
        if shaped is not INVALID:
            result.put(key, shaped, marks)
    return result


def shape_options(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a mapping of scalars and lists of scalars; every value becomes a list of strings."""
    if type(value) is not Map:
        return refuse_type(problems, "a mapping", value, mark, path)
    result = Map()
    for key, item in value.items():
        items = item if type(item) is Seq else [item]
        texts = Seq()
        for one in items:
            if isinstance(one, str | bool | int | float):
                texts.add(render_scalar(one), value.marks[key][1])
            else:
                refuse_type(problems, "a string, a number or a boolean", one, value.marks[key][1], (*path, key))
        result.put(key, texts, value.marks[key])
    return result
