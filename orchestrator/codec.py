"""Records as JSON and back, for the store and the control socket.

A record becomes ``{"$": "Port", field: value}`` with unset fields left out; what a later version no longer knows is
dropped on reading. Lists become tuples, except in the fields that a class names in ``_raw`` (plain data such as
``config``, which has to stay equal to what the loader makes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.record import Record

_PLAIN = frozenset((str, int, float, bool, type(None)))
"""Looked for first, since most values are: to ask an abstract class of each takes as long as all the rest."""


def dump_record(value: Any) -> Any:
    """Return `value` (a record, or tuples and mappings of them) as JSON-able data."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Record):
        data: dict[str, Any] = {"$": type(value).__name__}
        for name, item in value.__dict__.items():
            if name in value._defaults and item == value._defaults[name]:
                continue
            data[name] = _dump_raw(item) if name in value._raw else dump_record(item)
        return data
    if isinstance(value, Mapping):
        plain = {key: dump_record(item) for key, item in value.items()}
        return {"$": "", "map": plain} if "$" in plain else plain
    if isinstance(value, (tuple, list)):
        return [dump_record(item) for item in value]
    return value


def load_record(data: Any) -> Any:
    """The reverse of :func:`dump_record`. KeyError for a class that is not known."""
    if type(data) in _PLAIN:
        return data
    if isinstance(data, Mapping):
        kind = data.get("$")
        if kind is None:
            return {key: load_record(item) for key, item in data.items()}
        if kind == "":
            return {key: load_record(item) for key, item in data["map"].items()}
        cls = Record.kinds[kind]
        return cls(
            **{
                name: item if name in cls._raw else load_record(item)
                for name, item in data.items()
                if name in cls._names
            }
        )
    if isinstance(data, list):
        return tuple(load_record(item) for item in data)
    return data


def _dump_raw(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _dump_raw(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_dump_raw(item) for item in value]
    return value
