"""What stands on this machine under an engine's names and belongs to nothing that the engine knows of.

Ends and crashes are cleared up by the next command that touches a container. What no command will ever touch again,
because a killed one had struck it from the store already, or because the store itself was removed, is found here.
A container is written down before anything of it is made, and struck out when all of it is gone. Names are therefore
read first, and the store after them: what is not in there then, and still stands, is nobody's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from orchestrator.engines.native import host, recovery
from orchestrator.engines.native.files.mountinfo import list_mounts
from orchestrator.engines.native.network.firewall import name_table, table_prefix
from orchestrator.engines.native.network.links import delete_links, list_links, name_prefix
from orchestrator.engines.native.network.namespaces import delete_namespace
from orchestrator.engines.native.network.nftables import delete_table, list_tables
from orchestrator.engines.native.runtime.cgroups import (
    list_cgroup_folders,
    list_processes,
    remove_empty_parent,
    render_cgroups_path,
)
from orchestrator.engines.native.runtime.oci_runtime import forget_container
from orchestrator.engines.native.runtime.process import end_processes
from orchestrator.engines.native.starting import netns_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.store import Store

_ID_LENGTH: Final = 64
_KEY_LENGTH: Final = 24
_BRIDGE: Final = "b"
_BUILDS: Final = "BUILD-"


class Stray(NamedTuple):
    """One thing without an owner. `kind` is container, bridge, table or volume; `parts` is what there is of it."""

    kind: str
    name: str
    parts: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What the store is asked for: of a container, the part of the id that is in every name made from it."""
        return self.name[:_KEY_LENGTH] if self.kind == "container" else self.name

    def describe(self) -> str:
        """For people: ``container 0123456789ab: a process, a mount``."""
        name = self.name[:12] if self.kind == "container" else self.name
        return f"{self.kind} {name}" + (f": {', '.join(self.parts)}" if self.parts else "")


def find_strays(layout: Layout, store: Store) -> list[Stray]:
    """Everything without an owner, containers first. Blocking; reads the process table once. Needs root."""
    seen = list(_list_all(layout))
    containers = {row["id"][:_KEY_LENGTH] for row in store.rows("SELECT id FROM containers")}
    bridges = {row["bridge"] for row in store.rows("SELECT bridge FROM networks")}
    projects = {row[0] for row in store.rows("SELECT project FROM networks UNION SELECT project FROM containers")}
    volumes = {row["name"] for row in store.rows("SELECT name FROM volumes")}
    owned = {
        "volume": volumes,
        "container": containers,
        "bridge": bridges,
        "table": {name_table(layout.tag, project) for project in projects},
    }
    doubtful = {one.key for one in seen if one.key not in owned[one.kind]}
    if not doubtful:
        return []
    # What another command was about to remove when it was seen is gone by now.
    return [one for one in _list_all(layout) if one.key in doubtful]


def remove_strays(layout: Layout, strays: list[Stray]) -> None:
    """End and remove them, but no volume: what is in it may be wanted. What is gone already is fine."""
    for one in strays:
        if one.kind == "container":
            _remove_container(layout, one.name)
    delete_links([one.name for one in strays if one.kind == "bridge"])
    for one in strays:
        if one.kind == "table":
            delete_table(one.name)
    remove_empty_parent(layout.tag)


def _list_all(layout: Layout) -> Iterator[Stray]:
    parts: dict[str, list[str]] = {}
    full: dict[str, str] = {}
    for name, part in _list_parts(layout):
        known = parts.setdefault(name[:_KEY_LENGTH], [])
        if part not in known:
            known.append(part)
        full[name[:_KEY_LENGTH]] = max(name, full.get(name[:_KEY_LENGTH], ""), key=len)
    for key in sorted(parts):
        yield Stray("container", full[key], tuple(sorted(parts[key])))
    with suppress(FileNotFoundError):
        yield from (Stray("volume", name) for name in sorted(os.listdir(layout.volumes)) if not name.startswith("."))
    for link in list_links(name_prefix(layout.tag) + _BRIDGE):
        yield Stray("bridge", link)
    prefix = table_prefix(layout.tag)
    for table in list_tables(prefix):
        if not table.startswith(prefix + _BUILDS):
            yield Stray("table", table)


def _list_parts(layout: Layout) -> Iterator[tuple[str, str]]:
    """(container id, what there is of it)."""
    above = render_cgroups_path(layout.tag, "").rstrip("/")
    folders = [
        (str(layout.netns), "a network namespace"),
        (str(layout.container_run("")), "files of a run"),
        (str(layout.container_state("")), "files"),
        (str(layout.run / "exits"), "files of a run"),
        *((str(layout.run / name), "files of a run") for name in ("crun", "runc")),
        *((folder, "a control group") for folder in list_cgroup_folders(above)),
    ]
    for folder, part in folders:
        with suppress(FileNotFoundError, NotADirectoryError):
            yield from ((name, part) for name in os.listdir(folder) if _is_id(name))
    for folder in list_cgroup_folders(above):
        for name in filter(_is_id, os.listdir(folder)):
            if list_processes(f"{above}/{name}"):
                yield name, "processes"
    for place in _list_mounts(layout):
        for name in filter(_is_id, place.split("/")):
            yield name, "a mount"
    marks = (f"{layout.run}/".encode(), f"{layout.state}/".encode())
    for words in recovery.list_command_lines():
        if os.path.basename(words[0]) == b"conmon" and any(one.startswith(marks) for one in words):
            yield from ((one.decode(), "a monitor") for one in words if _is_id(one.decode(errors="replace")))


def _list_mounts(layout: Layout) -> list[str]:
    found = (one.target for root in (layout.run, layout.state) for one in list_mounts(str(root)))
    return list(dict.fromkeys(found))


def _is_id(name: str) -> bool:
    return len(name) in (_ID_LENGTH, _KEY_LENGTH) and all(one in "0123456789abcdef" for one in name)


def _remove_container(layout: Layout, container_id: str) -> None:
    group = render_cgroups_path(layout.tag, container_id)
    recovery.end_by_command(container_id)
    end_processes(group)
    forget_container(layout, container_id, group)
    for place in sorted(_list_mounts(layout), reverse=True):
        if container_id in place.split("/") and not place.startswith(f"{layout.netns}/"):
            host.unmount(place)
    delete_namespace(netns_path(layout, container_id))
    from shutil import rmtree

    rmtree(layout.container_run(container_id), ignore_errors=True)
    recovery.delete_state(layout, container_id)
    with suppress(FileNotFoundError):
        os.unlink(layout.run / "exits" / container_id)
