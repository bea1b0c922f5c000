"""Structure: every value is checked against its attribute's row and becomes canonical in the same walk.

This is the fast acceptance of a valid file and, since it collects every diagnostic with its place, the explanation of a
wrong one too; ``schemas/stack.schema.json`` describes the same structure to editors, and a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from orchestrator.source import Path
from orchestrator.spec import casts, pairs
from orchestrator.spec.attributes import ROOT
from orchestrator.spec.casts import INVALID, find_nearest, refuse_type
from orchestrator.spec.mounts import MountError, parse_device, parse_volume
from orchestrator.spec.ports import PortError, parse_ports
from orchestrator.spec.positions import Map, Mark, Problems, Seq
from orchestrator.spec.rows import Row

_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_ULIMIT_NAME = re.compile(r"[a-z]+")
_MAX_PORTS = 65_536
_TEMPLATED = frozenset(
    ("boolean", "count", "duration", "integer", "number", "probe", "size", "size_text", "true_boolean", "ulimit")
)
_NAMED = frozenset(("services", "volumes", "secrets", "configs"))

Shape = Callable[[Problems, Row, Any, Mark, Path], Any]


def shape_layer(tree: Map, mark: Mark, problems: Problems) -> Map:
    """Check one file's tree and return its canonical form; what is wrong is reported and left out.

    Top-level ``x-`` extensions are kept as they are, deeper ones dropped (except those that have a row of their own).
    """
    result = Map()
    for key, item in tree.items():
        marks = tree.marks[key]
        row = ROOT.fields.get(key)
        if row is None:
            if key.startswith("x-"):
                result.put(key, item, marks)
            else:
                _report_unknown(problems, ROOT, key, marks[0], ())
            continue
        if item is None and row.null == "drop":
            continue
        shaped = SHAPES[row.kind](problems, row, item, marks[1], (key,))
        if shaped is not INVALID:
            result.put(key, shaped, marks)
    return result


def _is_template(value: Any) -> bool:
    return type(value) is str and "$" in value


def shape_service(value: Any, mark: Mark, path: Path, problems: Problems) -> Any:
    """Check one service on its own, as :func:`shape_layer` does for whole files."""
    row = ROOT.fields["services"].item
    assert row is not None
    return SHAPES[row.kind](problems, row, value, mark, path)


def _report_unknown(problems: Problems, row: Row, key: str, mark: Mark, path: Path) -> None:
    nearest = find_nearest(key, row.fields)
    hint = f"did you mean {nearest}?" if nearest else ""
    if not nearest:
        hint = _hint_place(row, key)
    problems.report("unknown-attribute", f"{key} is not an attribute of {_describe(row)}", mark, (*path, key), hint)
    if nearest:
        # What was meant is not missing as well.
        problems.mark_broken((*path, nearest))


def _hint_place(row: Row, key: str) -> str:
    """Return where an attribute belongs that stands in the wrong mapping, or an empty text."""
    if not row.path:
        return "services stand under services:, own extensions begin with x-"
    for name, child in row.fields.items():
        if key in child.fields:
            return f"did you mean {name}.{key}?"
    service = ROOT.fields["services"].item
    if service is not None and row is not service and key in service.fields:
        return (
            f"{key} is an attribute of a service: it belongs beside {row.path.split('.')[2].removesuffix('[]')}"
            if (row.path.startswith("services.*."))
            else ""
        )
    return ""


def _describe(row: Row) -> str:
    """Name what a row's value is, as in ``a service`` or ``healthcheck``."""
    if not row.path:
        return "a stack file"
    owner = row.path.removesuffix("[]").removesuffix(".*").rpartition(".")[2]
    return f"a {owner.removesuffix('s')}" if row.path.endswith(("*", "[]")) else owner


def _shape_object(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    if type(value) is not Map:
        if value is None and row.null != "refuse":
            return None
        if row.short and (type(value) is str):
            return _SHORT[row.short](problems, row, value, mark, path)
        expected = "a string or a mapping" if row.short else "a mapping"
        return refuse_type(problems, expected, value, mark, path)
    result = Map()
    fields = row.fields
    marks = result.marks
    for key, item in value.items():
        place = value.marks[key]
        child = fields.get(key)
        if child is None:
            if not key.startswith("x-"):
                _report_unknown(problems, row, key, place[0], path)
            continue
        if item is None and child.null == "drop":
            continue
        if problems.keep_templates and child.kind in _TEMPLATED and _is_template(item):
            shaped = item
        else:
            shaped = SHAPES[child.kind](problems, child, item, place[1], (*path, key))
        if shaped is not INVALID:
            result[key] = shaped
            marks[key] = place
    for name in row.required:
        if name not in value and not problems.is_broken((*path, name)):
            problems.report("missing-attribute", f"{name} is missing", mark, (*path, name))
    return result


def _shape_names(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    if type(value) is not Map:
        return refuse_type(problems, "a mapping", value, mark, path)
    child = row.item
    assert child is not None
    pattern = _ULIMIT_NAME if child.kind == "ulimit" else _NAME
    checked = path[0] in _NAMED
    shape = SHAPES[child.kind]
    result = Map()
    for key, item in value.items():
        place = value.marks[key]
        if checked and not pattern.fullmatch(key):
            if key.startswith("x-"):
                continue
            problems.report(
                "bad-name",
                f"{key!r} is not a name",
                place[0],
                (*path, key),
                "names are lower-case letters"
                if pattern is _ULIMIT_NAME
                else "names are letters, digits, '.', '_' and '-'",
            )
            continue
        shaped = shape(problems, child, item, place[1], (*path, key))
        if shaped is not INVALID:
            result.put(key, shaped, place)
        elif len(path) == 1:
            # The name is known, so that nothing else is reported for what refers to it.
            result.put(key, Map(), place)
            problems.mark_broken((*path, key, "image"))
    return result


def _shape_list(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    if type(value) is not Seq:
        return refuse_type(problems, "a list", value, mark, path)
    child = row.item
    assert child is not None
    shape = SHAPES[child.kind]
    result = Seq()
    for index, item in enumerate(value):
        place = value.marks[index]
        if problems.keep_templates and _is_template(item):
            shaped = item
        else:
            shaped = shape(problems, child, item, place, (*path, index))
        if shaped is not INVALID:
            result.append(shaped)
            result.marks.append(place)
    return unify_items(row, result)


def unify_items(row: Row, items: Seq) -> Seq:
    """Keep the last of items that mean the same (by the row's unique key), at the first one's place."""
    if row.unique not in _UNIQUE or len(items) < 2:
        return items
    key_of = _UNIQUE[row.unique]
    places: dict[Any, int] = {}
    result = Seq()
    for item, mark in zip(items, items.marks, strict=True):
        key = item if type(item) is str else key_of(item)
        if key in places:
            result[places[key]] = item
            result.marks[places[key]] = mark
        else:
            places[key] = len(result)
            result.add(item, mark)
    return result


def _port_key(port: Map) -> Any:
    return (
        port.get("host_ip") or "0.0.0.0",
        port.get("published") or "",
        port.get("target"),
        port.get("protocol") or "tcp",
    )


_UNIQUE: dict[str, Callable[[Any], Any]] = {
    "target": lambda item: item.get("target") or f"/{item.get('source')}",
    "secret": lambda item: item.get("target") or f"/run/secrets/{item.get('source')}",
    "port": _port_key,
    "path": lambda item: item.get("path"),
}


def plant(values: dict[str, Any], mark: Mark) -> Map:
    """Turn what a short syntax means into a positioned mapping; every value stands where the short text does."""
    result = Map()
    for key, item in values.items():
        result.put(key, plant(item, mark) if isinstance(item, dict) else item, (mark, mark))
    return result


def _shape_ports(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    if type(value) is not Seq:
        return refuse_type(problems, "a list", value, mark, path)
    child = row.item
    assert child is not None
    result = Seq()
    for index, item in enumerate(value):
        place = value.marks[index]
        here = (*path, index)
        if len(result) > _MAX_PORTS:
            problems.report("too-many-ports", f"the ranges are more than {_MAX_PORTS:,} ports", place, here)
            break
        if problems.keep_templates and _is_template(item):
            result.add(item, place)
        elif type(item) is Map:
            shaped = _shape_object(problems, child, item, place, here)
            if "target" not in item:
                problems.report("missing-attribute", "target is missing: the container's port", place, here)
            _default(shaped, "protocol", "tcp")
            _default(shaped, "mode", "ingress")
            result.add(shaped, place)
        elif type(item) is str or (type(item) is int and item >= 0):
            try:
                ports = parse_ports(str(item))
                if len(ports) > 1:
                    problems.spend(len(ports), place, here)
                for port in ports:
                    result.add(plant(port, place), place)
            except PortError as error:
                problems.report(error.code, str(error), place, here, error.hint)
        else:
            refuse_type(problems, "a port, such as 8080:80", item, place, here)
    return unify_items(row, result)


def _default(item: Map, key: str, value: Any) -> None:
    if key not in item:
        item.put(key, value, (0, 0))


def _shape_ulimit(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    if type(value) is not Map:
        return casts.shape_integer(problems, row, value, mark, path)
    result = _shape_object(problems, row, value, mark, path)
    for name in ("soft", "hard"):
        if name not in value:
            problems.report("missing-attribute", f"{name} is missing", mark, (*path, name))
    return result


def _shape_references(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    return _references(problems, row, value, mark, path, lambda place: None)


def _shape_depends_on(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    return _references(
        problems, row, value, mark, path, lambda place: plant({"condition": "service_started", "required": True}, place)
    )


def _references(
    problems: Problems, row: Row, value: Any, mark: Mark, path: Path, make: Callable[[Mark], Map | None]
) -> Any:
    if type(value) is Map:
        return _shape_names(problems, row, value, mark, path)
    if type(value) is not Seq:
        return refuse_type(problems, "a list or a mapping", value, mark, path)
    result = Map()
    for index, name in enumerate(value):
        place = value.marks[index]
        if type(name) is not str:
            refuse_type(problems, "a string", name, place, (*path, index))
        elif name in result:
            problems.report("duplicate-item", f"{name!r} is listed twice", place, (*path, index), "remove one of them")
        elif row.path.endswith(".models") and not _NAME.fullmatch(name):
            # The others have to be defined, so that a name that is none is found anyhow.
            hint = "names are letters, digits, '.', '_' and '-'"
            problems.report("bad-name", f"{name!r} is not a name", place, (*path, index), hint)
        else:
            result.put(name, make(place), (place, place))
    return result


def _shape_external(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    if type(value) is Map:
        return _shape_object(problems, row, value, mark, path)
    return casts.shape_boolean(problems, row, value, mark, path)


def _shape_env_file(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    if type(value) is str:
        single = Seq()
        single.add(value, mark)
        value = single
    shaped = _shape_list(problems, row, value, mark, path)
    if shaped is not INVALID:
        for entry in shaped:
            if type(entry) is Map:
                _default(entry, "required", True)
    return shaped


def _shape_gpus(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    if value == "all":
        result = Seq()
        result.add(plant({"count": -1}, mark), mark)
        return result
    if type(value) is str:
        problems.report("not-allowed", f"{value!r} is not all", mark, path, "write all, or a list of device requests")
        return INVALID
    return _shape_list(problems, row, value, mark, path)


def _short_volume(problems: Problems, row: Row, value: str, mark: Mark, path: Path) -> Any:
    try:
        mount, unknown = parse_volume(value)
    except MountError as error:
        problems.report("bad-volume", str(error), mark, path, error.hint)
        return INVALID
    for option in unknown:
        problems.warn(
            "unknown-option",
            f"{option!r} is no volume option",
            mark,
            path,
            "options are ro, rw, nocopy, z, Z and others",
        )
    return plant(mount, mark)


def _short_device(problems: Problems, row: Row, value: str, mark: Mark, path: Path) -> Any:
    try:
        return plant(parse_device(value), mark)
    except MountError as error:
        problems.report("bad-device", str(error), mark, path, error.hint)
        return INVALID


def _short(name: str, **more: Any) -> Shape:
    def expand(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
        return plant({name: value, **more}, mark)

    return expand


def _short_include(problems: Problems, row: Row, value: Any, mark: Mark, path: Path) -> Any:
    entry = Map()
    entry.put("path", casts.shape_string_or_strings(problems, row, value, mark, path), (mark, mark))
    return entry


_SHORT: dict[str, Shape] = {
    "build": _short("context"),
    "config": _short("source"),
    "secret": _short("source"),
    "device": _short_device,
    "env_file": _short("path"),
    "extends": _short("service"),
    "include": _short_include,
    "volume": _short_volume,
}

SHAPES: dict[str, Shape] = {
    "addresses": casts.shape_string_or_strings,
    "boolean": casts.shape_boolean,
    "command": casts.shape_command,
    "contexts": pairs.shape_contexts,
    "count": casts.shape_count,
    "depends_on": _shape_depends_on,
    "duration": casts.shape_duration,
    "env_file": _shape_env_file,
    "external": _shape_external,
    "gpus": _shape_gpus,
    "hosts": pairs.shape_hosts,
    "integer": casts.shape_integer,
    "list": _shape_list,
    "names": _shape_names,
    "number": casts.shape_number,
    "object": _shape_object,
    "options": casts.shape_options,
    "pairs": pairs.shape_pairs,
    "ports": _shape_ports,
    "probe": casts.shape_probe,
    "references": _shape_references,
    "scalar": casts.shape_scalar,
    "size": casts.shape_size,
    "size_text": casts.shape_size_text,
    "ssh": pairs.shape_ssh,
    "string": casts.shape_string,
    "string_or_strings": casts.shape_string_or_strings,
    "strings": casts.shape_strings,
    "strings_by_name": casts.shape_strings_by_name,
    "text": casts.shape_text,
    "texts": casts.shape_texts,
    "texts_by_name": casts.shape_texts_by_name,
    "true_boolean": casts.shape_true_boolean,
    "ulimit": _shape_ulimit,
}
