"""What somebody took away by hand from under a project: bridges, links, firewall tables. Found, made again, and told.

A look costs one dump of the kernel's links where containers run, and one question about the project's table.
"""

from __future__ import annotations

import _sqlite3 as sqlite3
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.engines.base import Finding
from orchestrator.engines.native.container import is_alive, load_spec, read_boot_id
from orchestrator.engines.native.network.firewall import name_table
from orchestrator.engines.native.network.links import name_link
from orchestrator.engines.native.network.netlink import Conversation, Link
from orchestrator.engines.native.network.networks import CHILD_DRIVERS, NetworkRow, find_network
from orchestrator.engines.native.network.nftables import has_table
from orchestrator.errors import Diagnostic, EngineError, NotFound

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.network.publishing import Publisher
    from orchestrator.engines.native.starting import Starter
    from orchestrator.engines.native.store import Store

_PLACES = """
SELECT e.container_id, e.network, e.position FROM endpoints e JOIN containers c ON c.id = e.container_id
WHERE c.project = ? ORDER BY e.network, c.name
"""


class Damage(dict[str, list[str]]):
    """The ids of running containers that have lost their way, by the network's name; `bare` ones have no link."""

    def __init__(self) -> None:
        super().__init__()
        self.bare: set[str] = set()


def find_damage(layout: Layout, store: Store, project: str, alive: Sequence[str]) -> Damage:
    """Compare the places of containers that run (by id) with the kernel's links."""
    damage = Damage()
    running = set(alive)
    places = [row for row in store.rows(_PLACES, project) if row["container_id"] in running]
    if not places:
        return damage
    networks: dict[str, NetworkRow] = {}
    for name in {row["network"] for row in places}:
        with suppress(NotFound):  # another project may have taken it away just now
            networks[name] = find_network(layout, store, name)
    with Conversation() as host:
        links = {link.name: link for link in host.list_links()}
    for row in places:
        network = networks.get(row["network"])
        if network is None:
            continue
        if network.link not in links:
            damage.bare.add(network.name)
        if not _is_in_place(layout, row, network, links):
            damage.setdefault(network.name, []).append(row["container_id"])
    return damage


def _is_in_place(layout: Layout, row: sqlite3.Row, network: NetworkRow, links: Mapping[str, Link]) -> bool:
    base = links.get(network.link)
    if base is None or network.driver in CHILD_DRIVERS:
        return base is not None
    outer = links.get(name_link(layout.tag, f"v{row['position']}", row["container_id"]))
    return outer is not None and outer.master == base.number


def misses_table(layout: Layout, store: Store, project: str) -> bool:
    """True when the project has networks and the kernel does not have its firewall table. Raises as has_table."""
    owned = store.row("SELECT 1 FROM networks WHERE project = ? LIMIT 1", project)
    return owned is not None and not has_table(name_table(layout.tag, project))


def mend_project(
    layout: Layout,
    store: Store,
    starter: Starter,
    publisher: Publisher,
    project: str,
    alive: Sequence[sqlite3.Row],
    warn: Callable[[Diagnostic], None],
) -> None:
    """Make again what is missing, and tell of it where containers (`alive`) went without it; also where it failed."""
    try:
        if misses_table(layout, store, project):
            publisher.sync(project)
            if alive:
                _tell_of_table(layout, project, warn)
    except (EngineError, OSError) as error:
        message = f"whether the firewall table of {project} is as it should be is not known: {error}"
        warn(Diagnostic("firewall-lost", message, hint="`stack doctor` looks at it", severity="warning"))
    rows = {row["id"]: row for row in alive}
    damage = find_damage(layout, store, project, tuple(rows))
    failed = set()
    for key in sorted({one for lost in damage.values() for one in lost}):
        try:
            starter.reconnect(rows[key], load_spec(rows[key]))
        except (EngineError, OSError) as error:
            failed.add(key)
            name = rows[key]["name"]
            warn(
                Diagnostic(
                    "network-lost",
                    f"{name} has lost its network and could not be connected again: {error}",
                    hint=f"`stack restart {rows[key]['service']}`",
                    severity="warning",
                )
            )
    for network, lost in damage.items():
        names = ", ".join(rows[key]["name"] for key in lost if key not in failed)
        if names:
            bare = network in damage.bare
            what = f"the link of network {network} was gone" if bare else f"links to {network} were gone"
            warn(Diagnostic("network-mended", f"{what}; connected again: {names}", severity="warning"))


def _tell_of_table(layout: Layout, project: str, warn: Callable[[Diagnostic], None]) -> None:
    warn(
        Diagnostic(
            "firewall-mended",
            f"the firewall table of {project} was gone: its ports and its networks were cut off; it is back",
            hint=f"something on this machine has deleted the nftables table {name_table(layout.tag, project)}",
            severity="warning",
        )
    )


def find_lost_volumes(layout: Layout, store: Store) -> list[tuple[str, str]]:
    """(name, project) of every named volume whose folder is not there."""
    rows = store.rows("SELECT name, project FROM volumes WHERE key != '' ORDER BY name")
    return [(row["name"], row["project"]) for row in rows if not os.path.isdir(layout.volumes / row["name"] / "_data")]


def is_mount_stale(pid: int, target: str) -> bool:
    """Whether what process `pid` has mounted at `target` is a folder that was deleted (proc(5), mountinfo)."""
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.split(" ", 5)
                if fields[4] == target.rstrip("/") and fields[3].endswith("//deleted"):
                    return True
    except OSError:
        return False
    return False


def diagnose_projects(layout: Layout, store: Store) -> Iterator[Finding]:
    """What is missing of projects: of networks and firewall tables where containers run, and of volumes anywhere."""
    boot_id = read_boot_id()
    alive: dict[str, list[str]] = {}
    for row in store.containers():
        if row["state"] == "running" and is_alive(row, boot_id):
            alive.setdefault(row["project"], []).append(row["id"])
    for project, running in sorted(alive.items()):
        hint = f"`stack -p {project} up -d` makes it again"
        try:
            if misses_table(layout, store, project):
                detail = f"the firewall table of {project} is gone: its ports and networks are cut off"
                yield Finding(name="firewall", state="warning", detail=detail, hint=hint)
        except EngineError as error:
            yield Finding(name="firewall", state="warning", detail=error.message, hint=error.hint)
        damage = find_damage(layout, store, project, running)
        for network, lost in damage.items():
            what = "its link is gone" if network in damage.bare else "links to it are gone"
            detail = f"network {network}: {what}; {len(lost)} of the containers that run cannot reach others"
            yield Finding(name="network", state="warning", detail=detail, hint=hint)
    for name, project in find_lost_volumes(layout, store):
        detail = f"volume {name}: somebody has deleted its folder, and what was in it"
        yield Finding(name="volume", state="warning", detail=detail, hint=f"`stack -p {project} up -d` makes it again")
