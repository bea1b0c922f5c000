"""``extends``: a service that begins as a copy of another one, of the same file or of another."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.source import Path
from orchestrator.spec.attributes import SERVICE
from orchestrator.spec.casts import INVALID, suggest_name
from orchestrator.spec.merge import clear_paths, clone_tree, copy_map, count_values, merge_service
from orchestrator.spec.positions import Map, Mark
from orchestrator.spec.schema import shape_service
from orchestrator.spec.yaml import extract_merge_tags

if TYPE_CHECKING:
    from orchestrator.spec.layers import LayerLoader

_MAX_CHAIN = 100

_Chain = tuple[tuple[str, str, Mark], ...]


class _Source:
    """The services that ``extends`` can name in one file; shaped when asked for."""

    def __init__(self, file: str, directory: str, services: Map, shaped: bool) -> None:
        self.file = file
        self.directory = directory
        self.services = services
        self.shaped = shaped


class Extender:
    """Resolves ``extends`` within the services of one layer."""

    def __init__(self, loader: LayerLoader, environment: Mapping[str, str]) -> None:
        self._loader = loader
        self._problems = loader.problems
        self._environment = environment
        self._sources: dict[str, _Source | None] = {}
        self._resolved: dict[tuple[str, str], Map] = {}
        self._circles: set[frozenset[Mark]] = set()

    def extend_services(self, file: str, layer: Map, cleared: list[Path], directory: str) -> None:
        """Replace every service of `layer` that extends another by the merged one, in place."""
        services = layer.get("services")
        if type(services) is not Map or not any("extends" in one for one in services.values()):
            return
        source = _Source(file, directory, services, True)
        # Two references to one file must see the definitions as written, not as extended so far.
        written = copy_map(services)
        source.services = written
        for name in services:
            services[name] = self._extend(name, source, (), cleared)

    def _extend(self, name: str, source: _Source, chain: _Chain, cleared: list[Path]) -> Map:
        service = self._find(name, source)
        if "extends" not in service:
            return service
        known = self._resolved.get((source.file, name))
        if known is not None and not cleared:
            return known
        path = ("services", name, "extends")
        extends = service["extends"]
        mark = service.marks["extends"][1]
        service = copy_map(service)
        del service["extends"]
        if any(file == source.file and one == name for file, one, _ in chain):
            self._report_cycle(name, source.file, chain, mark, path)
            return service
        if len(chain) >= _MAX_CHAIN:
            self._problems.report("extends-too-deep", f"more than {_MAX_CHAIN} services extend each other", mark, path)
            return service
        chain = (*chain, (source.file, name, mark))
        base_source, wanted = self._follow(extends, source, mark, path)
        if base_source is None:
            return service
        if wanted not in base_source.services:
            self._report_unknown(name, wanted, base_source, extends, path)
            return service
        base = self._extend(wanted, base_source, chain, [])
        self._problems.spend(count_values(base), mark, path)
        base = clone_tree(base)
        if base_source is not source:
            holder = Map()
            holder.put("services", Map(), (mark, mark))
            holder["services"].put(wanted, base, (mark, mark))
            self._loader.resolve_tree(holder, base_source.directory)
        base = clear_paths(base, [one[2:] for one in cleared if one[:2] == ("services", name) and len(one) > 2])
        merged = merge_service(SERVICE, base, service, ("services", name), self._problems)
        if not cleared:
            self._resolved[source.file, name] = merged
        return merged

    def _find(self, name: str, source: _Source) -> Map:
        value = source.services[name]
        if source.shaped:
            return value if type(value) is Map else Map()
        mark = source.services.marks[name][1]
        tree = self._loader.substitute(value, mark, self._environment)
        shaped = shape_service(tree, mark, ("services", name), self._problems)
        return Map() if shaped is INVALID or shaped is None else shaped

    def _follow(self, extends: Any, source: _Source, mark: Mark, path: Path) -> tuple[_Source | None, str]:
        wanted = extends.get("service", "")
        file = extends.get("file")
        if file is None:
            return source, wanted
        place = extends.marks["file"][1]
        file = self._loader.substitute_path(file, place, self._environment)
        if not file:
            self._loader.report_empty_path("the file to extend", place, (*path, "file"))
            return None, wanted
        target = self._loader.find_file(file, source.directory, place, (*path, "file"))
        if target is None:
            return None, wanted
        if target == source.file:
            return source, wanted
        if target not in self._sources:
            self._sources[target] = self._open(target, place, (*path, "file"))
        return self._sources[target], wanted

    def _open(self, file: str, mark: Mark, path: Path) -> _Source | None:
        known = len(self._problems.found)
        services: Map | None = None
        for tree, _ in self._loader.read_documents(file, mark, path):
            document = extract_merge_tags(tree)[0] if self._loader.is_tagged(file) else tree
            if type(document) is Map and type(document.get("services")) is Map:
                services = document["services"]
        if services is None:
            if len(self._problems.found) == known:
                self._problems.report(
                    "unknown-service", f"{self._loader.display_name(file)} has no services to extend", mark, path
                )
            return None
        return _Source(file, posixpath.dirname(file), services, False)

    def _report_unknown(self, name: str, wanted: str, source: _Source, extends: Any, path: Path) -> None:
        if "service" not in extends:
            return
        mark = extends.marks["service"][1]
        self._problems.report(
            "unknown-service",
            f"{name} extends {wanted}, which {self._loader.display_name(source.file)} does not define",
            mark,
            path,
            suggest_name(wanted, source.services),
        )

    def _report_cycle(self, name: str, file: str, chain: _Chain, mark: Mark, path: Path) -> None:
        start = next(index for index, (one, other, _) in enumerate(chain) if one == file and other == name)
        loop = chain[start:]
        circle = frozenset(place for _, _, place in loop)
        for _, service, _ in loop:
            self._problems.mark_broken(("services", service, "extends"))
        if circle in self._circles:
            return
        self._circles.add(circle)
        steps = [f"{service} ({self._problems.locate(place)})" for _, service, place in loop]
        self._problems.report(
            "extends-cycle",
            f"services extend each other in a circle: {' -> '.join([*steps, name])}",
            loop[0][2],
            ("services", loop[0][1], "extends"),
            "remove one of the extends",
        )
