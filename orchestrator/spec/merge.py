"""Merging canonical trees: several files, and a service with what it extends.

Mappings merge by key, lists follow one another and keep one of equal items, scalars are replaced; an attribute's row
may name another rule. The result carries the marks of the winning values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.source import Path
from orchestrator.spec.attributes import ROOT
from orchestrator.spec.positions import Map, Mark, Problems, Seq
from orchestrator.spec.rows import Row
from orchestrator.spec.schema import unify_items


def merge_layers(base: Map, over: Map, problems: Problems) -> Map:
    """Merge `over` into `base`; both are canonical trees of whole files, neither is changed."""
    return _merge_maps(ROOT, base, over, (), problems)


def merge_service(row: Row, base: Map, over: Map, path: Path, problems: Problems) -> Map:
    """Merge a service over the one that it extends."""
    return _merge_maps(row, base, over, path, problems)


def clear_paths(tree: Map, paths: Iterable[Path]) -> Map:
    """Return `tree` without the values at `paths` (what a later file marks with ``!reset`` or ``!override``)."""
    for path in paths:
        tree = _without(tree, path)
    return tree


def drop_nulls(row: Row | None, base: Map, over: Any) -> Any:
    """Return `over` without its nulls where `base` has a value: a null in an overriding file changes nothing.

    Where `base` has none, a null stays, and is a value of the wrong type. In lists of NAME=value it is one of the right
    type.
    """
    if type(over) is not Map or (row is not None and row.kind == "pairs"):
        return over
    result = over
    for key, item in over.items():
        before = base.get(key)
        if before is None or key.startswith("x-"):
            continue
        child = (row.fields.get(key) or row.item) if row is not None else None
        if child is not None and child.merge == "replace":
            continue
        kept = drop_nulls(child, before, item) if type(before) is Map else item
        if item is None or kept is not item:
            if result is over:
                result = copy_map(over)
            if item is None:
                del result[key]
                del result.marks[key]
            else:
                result[key] = kept
    return result


def drop_extending_nulls(tree: Any) -> Any:
    """Return a file's tree without the nulls of services that extend another one of the file, as drop_nulls does."""
    services = tree.get("services") if type(tree) is Map else None
    if type(services) is not Map:
        return tree
    changed = copy_map(services)
    row = ROOT.fields["services"].item
    for name, service in services.items():
        extended = service.get("extends") if type(service) is Map else None
        base = services.get(str(extended.get("service") if type(extended) is Map else extended))
        if type(base) is Map and not (type(extended) is Map and extended.get("file")):
            changed[name] = drop_nulls(row, base, service)
    if all(changed[name] is services[name] for name in services):
        return tree
    result = copy_map(tree)
    result["services"] = changed
    return result


def _without(tree: Map, path: Path) -> Map:
    key = path[0] if path else None
    if not isinstance(key, str) or key not in tree:
        return tree
    result = copy_map(tree)
    if len(path) == 1:
        del result[key]
        del result.marks[key]
    elif type(tree[key]) is Map:
        result[key] = _without(tree[key], path[1:])
    return result


def copy_map(tree: Map) -> Map:
    """Return a shallow copy that can be changed without touching `tree`."""
    result = Map()
    result.update(tree)
    result.marks = dict(tree.marks)
    return result


def count_values(value: Any) -> int:
    """Return how many values a tree holds, itself included."""
    if type(value) is Map:
        return 1 + sum([count_values(item) for item in value.values()])
    if type(value) is Seq:
        return 1 + sum([count_values(item) for item in value])
    return 1


def clone_tree(value: Any) -> Any:
    """Return a deep copy with the same marks."""
    if type(value) is Map:
        copied = Map()
        copied.update({key: clone_tree(item) for key, item in value.items()})
        copied.marks = dict(value.marks)
        return copied
    if type(value) is Seq:
        items = Seq()
        items.extend(clone_tree(item) for item in value)
        items.marks = list(value.marks)
        return items
    return value


def _merge_maps(row: Row | None, base: Map, over: Map, path: Path, problems: Problems) -> Map:
    result = copy_map(base)
    for key, item in over.items():
        marks = over.marks[key]
        if key in base and not (key.startswith("x-") and not path):
            child = (row.fields.get(key) or row.item) if row is not None else None
            if row is not None and row.kind == "pairs":
                # Also a name without a value takes the place of an earlier value.
                result.put(key, item, marks)
                continue
            merged = _merge_values(child, base[key], item, marks[1], (*path, key), problems)
            result[key] = merged
            if merged is not base[key]:
                result.marks[key] = marks
        else:
            result.put(key, item, marks)
    return result


def _merge_values(row: Row | None, base: Any, over: Any, mark: Mark, path: Path, problems: Problems) -> Any:
    rule = row.merge if row is not None else ""
    if rule == "replace" or (rule == "gpus" and base == over):
        return over
    if over is None:
        return base
    if base is None:
        return over
    if type(base) is Map and type(over) is Map:
        if rule == "logging" and base.get("driver", over.get("driver")) != over.get("driver", base.get("driver")):
            return over
        return _merge_maps(row, base, over, path, problems)
    if type(base) is Seq and type(over) is Seq:
        return _merge_pools(base, over) if rule == "pools" else _append(row, base, over)
    if isinstance(base, Map | Seq) and rule != "ulimit" and (row is None or row.kind != "external"):
        problems.report("cannot-override", "a scalar cannot override a mapping or a list", mark, path)
    return over


def _append(row: Row | None, base: Seq, over: Seq) -> Seq:
    result = Seq()
    result.extend(base)
    result.extend(over)
    result.marks = [*base.marks, *over.marks]
    if row is None or not row.unique:
        return result
    if any(not isinstance(item, str) for item in result):
        return unify_items(row, result)
    return _keep_last(result, row.unique == "key")


def _keep_last(items: Seq, by_name: bool) -> Seq:
    places: dict[str, int] = {}
    result = Seq()
    for item, mark in zip(items, items.marks, strict=True):
        key = item.partition("=")[0] if by_name else item
        if key in places:
            result[places[key]] = item
            result.marks[places[key]] = mark
        else:
            places[key] = len(result)
            result.add(item, mark)
    return result


def _merge_pools(base: Seq, over: Seq) -> Seq:
    """Pools of the same subnet are one pool."""
    result = Seq()
    result.extend(base)
    result.marks = list(base.marks)
    subnets = {pool.get("subnet"): index for index, pool in enumerate(base)}
    for pool, mark in zip(over, over.marks, strict=True):
        index = subnets.get(pool.get("subnet"))
        if index is None:
            result.add(pool, mark)
            continue
        merged = copy_map(result[index])
        for key, item in pool.items():
            merged.put(key, item, pool.marks[key])
        result[index] = merged
        result.marks[index] = mark
    return result
