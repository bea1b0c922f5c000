"""A Stack as JSON-able data, for another process; what canonical output hides travels in a side table."""

from __future__ import annotations

from typing import Any

from orchestrator.model import Stack
from orchestrator.source import SourceMap
from orchestrator.spec.bind import bind_stack
from orchestrator.spec.positions import Map
from orchestrator.spec.sources import TreeSources, dump_marks, load_marks


def dump_stack(stack: Stack) -> dict[str, Any]:
    """Return `stack` as data that JSON can carry. It holds secret values: hand it over in private only."""
    sources = stack.sources
    positioned = isinstance(sources, TreeSources) and isinstance(stack.tree, Map)
    values = [
        [section, key, source.value]
        for section, entries in (("secrets", stack.secrets), ("configs", stack.configs))
        for key, source in entries.items()
        if source.value is not None
    ]
    return {
        # A stack that no file was read for (`down` with a name alone) has no tree.
        "tree": stack.tree or {"name": stack.name},
        "marks": dump_marks(stack.tree) if positioned else None,
        "mark_files": list(sources.files) if isinstance(sources, TreeSources) else [],
        "directory": stack.directory,
        "files": list(stack.files),
        "disabled": list(stack.disabled),
        "dormant": {name: service.config for name, service in stack.dormant.items()},
        "values": values,
        "separator": stack.separator,
        "environment": dict(stack.environment),
    }


def load_dumped_stack(data: dict[str, Any]) -> Stack:
    """Rebuild the Stack that :func:`dump_stack` was given."""
    tree, sources = data["tree"], SourceMap()
    if data.get("marks") is not None:
        tree = load_marks(tree, data["marks"])
        sources = TreeSources(tree, data["mark_files"])
    return bind_stack(
        tree,
        sources,
        directory=data["directory"],
        files=tuple(data["files"]),
        disabled=tuple(data["disabled"]),
        dormant=data.get("dormant") or {},
        values={(section, key): value for section, key, value in data["values"]},
    ).replace(separator=data.get("separator", "-"), environment=data.get("environment", {}))
