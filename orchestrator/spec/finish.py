"""The last form of a tree: zeros left out as the reference leaves them out, what was used up removed."""

from __future__ import annotations

from typing import Any

from orchestrator.spec.attributes import ROOT, ROWS
from orchestrator.spec.positions import Map, Seq
from orchestrator.spec.rows import Row

_ZERO_TEXTS = {"size": ("0",), "size_text": ("0",), "duration": ("0s",)}
_COMPLETED = frozenset(row for row in ROWS if any(child.default is not None for child in row.fields.values()))
_SECTIONS = ("networks", "volumes", "secrets", "configs", "models")


def finish_tree(tree: Map, name: str, services: Map, *, keep_env_files: bool = False) -> Map:
    """Return the canonical model: what ``stack config --format json`` prints and what binds to a Stack."""
    result = Map()
    if name:
        result.put("name", name, tree.marks.get("name", (0, 0)))
    done = finish_services(services, keep_env_files=keep_env_files)
    result.put("services", done, tree.marks.get("services", (0, 0)))
    for section in _SECTIONS:
        entries = tree.get(section)
        if not entries:
            continue
        child = ROOT.fields[section].item
        assert child is not None
        finished = Map()
        for key in sorted(entries):
            resource = _finish_map(child, entries[key])
            if section == "networks":
                resource.setdefault("ipam", Map())
            finished.put(key, resource, entries.marks[key])
        result.put(section, finished, tree.marks.get(section, (0, 0)))
    for key in sorted(tree):
        if key.startswith("x-"):
            result.put(key, tree[key], tree.marks[key])
    return result


def finish_services(services: Map, *, keep_env_files: bool = False) -> Map:
    """Return services in their canonical form, by name."""
    row = ROOT.fields["services"].item
    assert row is not None
    done = Map()
    for key in sorted(services):
        done.put(key, _finish_service(row, services[key], keep_env_files), services.marks[key])
    return done


def _finish_service(row: Row, service: Map, keep_env_files: bool) -> Map:
    result = _finish_map(row, service)
    for key in ("extends",) if keep_env_files else ("env_file", "label_file", "extends"):
        for holder in (result, *(result.get("pre_start") or ())):
            holder.pop(key, None)
    for key in ("command", "entrypoint"):
        result.setdefault(key, None)
    deploy = result.get("deploy")
    if type(deploy) is Map:
        deploy.setdefault("resources", Map())
        deploy.setdefault("placement", Map())
    return result


def _finish_map(row: Row, value: Map) -> Map:
    result = Map()
    fields, item = row.fields, row.item
    for key, entry in value.items():
        child = fields.get(key) or item
        finished = entry if child is None else _finish(child, entry)
        if finished or child is None or _is_kept(child, finished):
            result[key] = finished
            result.marks[key] = value.marks.get(key, (0, 0))
    if row in _COMPLETED:
        for key, child in fields.items():
            if key not in result and child.default is not None:
                result.put(key, child.default, (0, 0))
    return result


def _is_kept(row: Row, value: Any) -> bool:
    """Tell whether a zero `value` is part of the model: a choice that differs from saying nothing."""
    if row.kind == "command":
        return True
    if value is None:
        return row.null == "keep"
    return row.keep or row.kind == "object"


def _finish(row: Row, value: Any) -> Any:
    kind = row.kind
    if type(value) is Map:
        if row.fields or row.item is not None:
            return _finish_map(row, value)
        return value
    if type(value) is Seq:
        if row.item is not None:
            result = Seq()
            for entry, mark in zip(value, value.marks, strict=True):
                result.add(_finish_map(row.item, entry) if type(entry) is Map else entry, mark)
            return result
        if kind == "hosts":
            return _sorted(value)
        if kind == "addresses":
            return _without_empty(value)
        return value
    if kind == "ulimit" and value == 0:
        return Map()
    return None if not row.keep and value in _ZERO_TEXTS.get(kind, ()) else value


def _sorted(items: Seq) -> Seq:
    result = Seq()
    for item, mark in sorted(zip(items, items.marks, strict=True)):
        result.add(item, mark)
    return result


def _without_empty(items: Seq) -> Seq:
    if all(items):
        return items
    result = Seq()
    for item, mark in zip(items, items.marks, strict=True):
        if item:
            result.add(item, mark)
    return result
