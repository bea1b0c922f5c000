"""Shapes of attributes that are a mapping or a list of ``NAME=value``: environment, labels, build arguments, hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.source import Path
from orchestrator.spec.casts import INVALID, deduplicate, refuse_type
from orchestrator.spec.positions import Map, Mark, Problems, Seq
from orchestrator.spec.scalars import Timestamp, render_scalar

if TYPE_CHECKING:
    from orchestrator.spec.rows import Row


def shape_pairs(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a mapping of scalars or a list of ``NAME=value``, and make it a mapping of strings.

    A name without a value becomes None where the row keeps nulls, otherwise an empty string.
    """
    result = Map()
    if type(value) is Map:
        for key, item in value.items():
            marks = value.marks[key]
            if type(item) is str:
                result[key] = item
            elif item is None:
                result[key] = None if row.null == "keep" else ""
            elif isinstance(item, bool | int | float):
                result[key] = render_scalar(item)
            elif isinstance(item, Timestamp):
                result[key] = item.shown
                hint = "put it between quotes to keep it as it is written"
                message = f"the date becomes {item.shown!r}, as in docker compose"
                problems.warn("date-value", message, marks[1], (*path, key), hint)
            else:
                refuse_type(problems, "a string, a number, a boolean or null", item, marks[1], (*path, key))
                continue
            result.marks[key] = marks
        return result
    if type(value) is not Seq:
        return refuse_type(problems, "a mapping or a list of NAME=value", value, mark, path)
    for index, item in enumerate(value):
        place = value.marks[index]
        if type(item) is not str:
            refuse_type(problems, "a string", item, place, (*path, index))
            continue
        name, equals, text = item.partition("=")
        if name and name[-1].isspace() and path[-1] == "environment":
            problems.warn(
                "bad-name",
                f"the name of the variable {name!r} ends in a space",
                place,
                (*path, index),
                f"write {name.strip()}={text.strip()}",
            )
        empty = None if row.null == "keep" else ""
        result.put(name, text if equals else empty, (place, place))
    return result


def shape_contexts(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a mapping or a list of ``NAME=context``; every name has a value."""
    if type(value) is Map:
        for key, item in value.items():
            if item is None:
                return refuse_type(problems, "a string", item, value.marks[key][1], (*path, key))
    if type(value) is Seq:
        for index, item in enumerate(value):
            if type(item) is str and "=" not in item:
                hint = f"write {item or 'NAME'}=CONTEXT"
                problems.report("bad-context", f"{item!r} names no context", value.marks[index], (*path, index), hint)
                return INVALID
    return shape_pairs(problems, row, value, mark, path)


def shape_ssh(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a mapping or a list of SSH agents; the canonical form is a list of ``default`` and ``ID=path``."""
    shaped = shape_pairs(problems, row, value, mark, path)
    if shaped is INVALID:
        return INVALID
    result = Seq()
    for name, text in shaped.items():
        result.add(f"{name}={text}" if text else name, shaped.marks[name][1])
    return result


def shape_hosts(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    """Accept a mapping of host names to addresses or a list of ``host=address``; the canonical form is such a list."""
    result = Seq()
    if type(value) is Map:
        for host, item in value.items():
            place = value.marks[host][1]
            for address in item if type(item) is Seq else [item]:
                if type(address) is str:
                    _add_host(problems, result, host, address, place, (*path, host))
                else:
                    refuse_type(problems, "a string or a list of strings", address, place, (*path, host))
    elif type(value) is Seq:
        for index, item in enumerate(value):
            place = value.marks[index]
            if type(item) is not str:
                refuse_type(problems, "a string", item, place, (*path, index))
                continue
            host, separator, address = item.partition("=" if "=" in item else ":")
            if not separator or not host:
                problems.report(
                    "bad-host", f"{item!r} names no host and address", place, (*path, index), "write host=address"
                )
                continue
            _add_host(problems, result, host, address, place, (*path, index))
    else:
        return refuse_type(problems, "a mapping or a list of host=address", value, mark, path)
    return deduplicate(problems, row, result, path)


def _add_host(problems: Problems, result: Seq, host: str, address: str, mark: Mark, path: Path) -> None:
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if not address:
        problems.warn("bad-host", f"the host {host} has no address", mark, path, "write host=address")
    result.add(f"{host}={address}", mark)
