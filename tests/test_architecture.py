"""The rules of the house: who may import whom, what is kept pure, where system calls stand, how long files are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "orchestrator"

LAYERS = (
    {"addresses", "errors", "source", "record", "evidence", "plain_json", "code_cache"},
    {"model", "state", "codec"},
    {
        *("spec", "graph", "digest", "goal", "superseding", "plan", "timeline", "events", "reconcile", "restart"),
        "health",
    },
    {"engines"},
    {"detach", "workers", "watching"},
    {"control_loop"},
    {"supervision"},
    {"actions"},
    {"cli", "__main__"},
)
"""Each layer imports from itself and from those before it."""

PURE = {
    *("addresses", "errors", "source", "record", "model", "state", "codec"),
    *("graph", "digest", "goal", "superseding", "plan", "events", "reconcile", "restart", "health", "spec"),
}
DOORS = {"spec.reader": "what the loader is given to read files with"}
"""Modules of the pure core that are an edge by themselves, each with the reason."""

IMPURE = {
    *("os", "io", "time", "random", "secrets", "uuid", "logging", "subprocess", "socket", "threading", "asyncio"),
    *("pathlib", "shutil", "tempfile", "signal", "select", "sqlite3", "multiprocessing", "getpass", "platform"),
}

SYSTEM_CALLS = {
    "engines.native.host": "raw system calls",
    "engines.native.network.network_syscalls": "namespaces and links",
    "engines.native.files.file_syscalls": "what renames and exchanges files",
    "engines.native.network.nftables": "libnftables",
    "engines.native.runtime.seccomp": "libseccomp",
    "engines.native.files.copying": "archives may hold device nodes",
    "engines.native.diagnosis": "asks whether the libraries can be loaded",
    "engines.native.images.content": "brings blobs to the disk",
    "engines.native.images.unpack": "whiteouts are device nodes",
    "supervision.supervisor": "gives memory back to the kernel",
}
"""The only modules that reach below Python's standard library, each with the reason."""

HEAVY = {"pyroute2", "networkx", "jsonschema"}
"""Too slow to be imported by a module's mere import."""

LONGEST_FILE = 450


class Module:
    """One source file: its name below the package, its text and its tree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.room = parts[0]
        self.text = path.read_text()
        self.tree = ast.parse(self.text)

    def imports(self, *, top_level: bool = False) -> Iterator[str]:
        """Full names of what is imported, type-only imports included."""
        for node in self.tree.body if top_level else ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (one.name for one in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} imports relatively"
                yield from (f"{node.module}.{one.name}" for one in node.names)


@cache
def modules() -> tuple[Module, ...]:
    return tuple(Module(path) for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py")


def room_of(imported: str) -> str:
    return imported.split(".")[1] if imported.startswith("orchestrator.") else ""


def test_imports_point_one_way() -> None:
    rank = {room: place for place, rooms in enumerate(LAYERS) for room in rooms}
    unknown = {one.room for one in modules()} - rank.keys()
    assert not unknown, f"{sorted(unknown)} belong to no layer; say in LAYERS where they stand"
    wrong = [
        f"{one.name} imports {imported}"
        for one in modules()
        for imported in one.imports()
        if rank.get(room_of(imported), 0) > rank[one.room]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_builder_has_storeys() -> None:
    """Each uses only those before it: the front end, the sources, the performing of one step, the builder."""
    below = {"front": {"sources", "performing", ""}, "sources": {"performing", ""}, "performing": {""}}
    house = "engines.native.dockerfile."
    allowed = {"request", "narrator", "cache"}
    callback = f"orchestrator.{house}performing.copying.plan_copy"  # a context is asked what a COPY from it would bring
    wrong = [
        f"{one.name} imports {imported}"
        for one in modules()
        if one.name.startswith(house) and (storey := one.name.removeprefix(house).partition(".")[0]) in below
        for imported in one.imports()
        if imported.startswith(f"orchestrator.{house}")
        and imported != callback
        and (other := imported.removeprefix(f"orchestrator.{house}").split("."))[0] not in allowed
        and (other[0] if other[0] in below else "") in below[storey]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_stack_file_and_the_engines_know_nothing_of_each_other() -> None:
    pairs = (("spec", "engines"), ("engines", "spec"))
    assert not [f"{m.name} imports {i}" for m in modules() for i in m.imports() if (m.room, room_of(i)) in pairs]


@pytest.mark.parametrize(("library", "room"), [("click", "cli"), ("rich", "cli")])
def test_only_the_command_line_draws_on_the_screen(library: str, room: str) -> None:
    users = {one.name for one in modules() for name in one.imports() if name.split(".")[0] == library}
    assert not {name for name in users if name.split(".")[0] != room}


def test_the_pure_core_touches_nothing() -> None:
    wrong = [
        f"{one.name} imports {imported}"
        for one in modules()
        if one.room in PURE and one.name not in DOORS
        for imported in one.imports()
        if imported.split(".")[0] in IMPURE
    ]
    assert not wrong, "\n".join(wrong)


def test_the_pure_core_opens_and_prints_nothing() -> None:
    wrong = [
        f"{one.name}:{node.lineno} calls {node.func.id}"
        for one in modules()
        if one.room in PURE and one.name not in DOORS
        for node in ast.walk(one.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "print", "input")
    ]
    assert not wrong, "\n".join(wrong)


def test_system_calls_stand_in_few_places() -> None:
    users = {one.name for one in modules() if _reaches_below(one)}
    assert users <= SYSTEM_CALLS.keys(), f"system calls in {sorted(users - SYSTEM_CALLS.keys())}"
    assert users == SYSTEM_CALLS.keys(), f"no system calls any more in {sorted(SYSTEM_CALLS.keys() - users)}"


def _reaches_below(module: Module) -> bool:
    calls = {"setns", "unshare", "mknod", "pivot_root", "chroot"}
    return any(name.split(".")[0] in ("ctypes", "cffi", "pyroute2") for name in module.imports()) or any(
        isinstance(node, ast.Attribute)
        and node.attr in calls
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        for node in ast.walk(module.tree)
    )


def test_slow_libraries_are_imported_where_they_are_needed() -> None:
    wrong = [
        f"{one.name} imports {imported}"
        for one in modules()
        for imported in one.imports(top_level=True)
        if imported.split(".")[0] in HEAVY
    ]
    assert not wrong, "\n".join(wrong)


def test_files_stay_small() -> None:
    long = {one.name: one.text.count("\n") for one in modules()}
    assert not {name: lines for name, lines in long.items() if lines > LONGEST_FILE}


def test_nothing_is_left_for_later() -> None:
    marked = [one.name for one in modules() if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", one.text)]
    assert not marked
    stubs = [f"{one.name}:{line}" for one in modules() for line in _stubs(one.tree)]
    assert not stubs, "\n".join(stubs)


def _stubs(tree: ast.Module) -> Iterator[int]:
    """Lines that raise NotImplementedError, unless in a class that others in the same file build upon."""
    bases = {
        base.id
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name)
    }
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in bases:
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Raise) and "NotImplementedError" in ast.unparse(inner):
                yield inner.lineno


def test_every_module_says_what_it_is_for() -> None:
    assert not [one.name for one in modules() if not ast.get_docstring(one.tree)]
