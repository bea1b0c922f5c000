"""Observation: the store's rows, checked against the kernel, as :class:`ObservedState`."""

from __future__ import annotations

import _sqlite3 as sqlite3
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.container import (
    ContainerSpec,
    is_alive,
    load_spec,
    read_boot_id,
    read_process_start,
)
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.listing import make_bindings, make_container
from orchestrator.engines.native.runtime.monitor import observe_process, read_exit
from orchestrator.engines.native.store import Store
from orchestrator.model import Probe, Stack
from orchestrator.state import (
    Container,
    ContainerStatus,
    Endpoint,
    ImageFacts,
    ObservedNetwork,
    ObservedState,
    ObservedVolume,
)

if TYPE_CHECKING:
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.store import ImageStore

LOST_EXIT_CODE = 255
"""What a container's exit code is taken for when its monitor, or the machine, went down before it could be recorded."""


class Ending(tuple[int, float, bool, str]):
    """(exit code, finished at, killed for want of memory, error) of a container that is not alive."""

    __slots__ = ()


def observe_containers(layout: Layout, store: Store, project: str | None) -> tuple[Container, ...]:
    """Every container of a project (of all projects for None), as it is now."""
    rows = store.containers(project)
    if not rows:
        return ()
    boot_id = read_boot_id()
    endpoints = _by_container(store, "SELECT * FROM endpoints ORDER BY position", project)
    ports = _by_container(store, "SELECT * FROM ports ORDER BY container_port, host_port", project)
    mounts = _by_container(store, "SELECT * FROM mounts", project)
    return tuple(
        _container(
            layout, row, boot_id, endpoints.get(row["id"], []), ports.get(row["id"], []), mounts.get(row["id"], [])
        )
        for row in rows
    )


def resolve_status(layout: Layout, row: sqlite3.Row, boot_id: str) -> tuple[ContainerStatus, Ending | None]:
    """What a container does now, and how it ended if it did since the store was last written."""
    if row["state"] != "running":
        return row["state"], None
    if is_alive(row, boot_id):
        return ("paused" if row["paused"] else "running"), None
    if read_exit(layout, row["id"]) is None:
        state = observe_process(layout, row["id"])
        if state is not None and state.monitored:
            # Its monitor is about to write how it ended; until then nobody knows, and nothing is lost.
            return "running", None
    return "exited", read_ending(layout, row)


def read_ending(layout: Layout, row: sqlite3.Row) -> Ending:
    """How a container that is not alive ended: from its exit file, or "lost" where there is none."""
    info = read_exit(layout, row["id"])
    if info is None and row["exit_code"] is not None and row["finished_at"] >= row["started_at"]:
        # Whoever settles it has noted its end and is giving back what it held.
        return Ending((row["exit_code"], row["finished_at"], bool(row["oom"]), row["error"]))
    if info is None or info.lost:
        return Ending(
            (LOST_EXIT_CODE, row["started_at"], False, "its monitor ended before it could record the exit code")
        )
    # A short run has ended before its start was written down.
    return Ending((info.exit_code, max(info.finished_at, row["started_at"]), info.oom_killed, ""))


def _container(
    layout: Layout,
    row: sqlite3.Row,
    boot_id: str,
    endpoints: Iterable[sqlite3.Row],
    ports: Iterable[sqlite3.Row],
    mounts: Iterable[sqlite3.Row],
) -> Container:
    status, ending = resolve_status(layout, row, boot_id)
    spec = load_spec(row)
    return make_container(
        row,
        status=status,
        ending=ending or (row["exit_code"], row["finished_at"], bool(row["oom"]), row["error"]),
        config=spec.service.config,
        auto_remove=spec.auto_remove,
        command=spec.command,
        labels=spec.labels,
        mounted_images=spec.mounted_images,
        hooks_due=row["hooks_due"],
        abandoned=_is_abandoned(row, spec),
        endpoints=tuple(_endpoint(one) for one in endpoints),
        bindings=tuple(binding for one in ports for binding in make_bindings(one))
        if status in ("running", "paused")
        else (),
        volumes={one["target"]: one["volume"] for one in mounts},
    )


def _is_abandoned(row: sqlite3.Row, spec: ContainerSpec) -> bool:
    if not (spec.oneoff and spec.caller) or row["state"] != "created" or row["finished_at"]:
        return False
    pid, start = spec.caller
    return read_process_start(pid) != start


def _endpoint(row: sqlite3.Row) -> Endpoint:
    return Endpoint(
        network=row["network"],
        ipv4=row["ipv4"],
        ipv6=row["ipv6"],
        mac=row["mac"],
        aliases=tuple(json.loads(row["aliases"])),
        interface=row["interface"],
    )


def _by_container(store: Store, query: str, project: str | None) -> Mapping[str, list[sqlite3.Row]]:
    if project is not None:
        head, _, order = query.partition(" ORDER BY ")
        query = f"{head} WHERE container_id IN (SELECT id FROM containers WHERE project = ?)"
        query += f" ORDER BY {order}" if order else ""
    found: dict[str, list[sqlite3.Row]] = defaultdict(list)
    for row in store.rows(query, *(() if project is None else (project,))):
        found[row["container_id"]].append(row)
    return found


def observe_project(
    layout: Layout, store: Store, images: ImageStore, project: str, stack: Stack | None
) -> ObservedState:
    """One project's containers, networks and volumes, and of `stack` what it refers to from outside."""
    networks = {one.name: one for one in observe_networks(store, project)}
    volumes = {one.name: one for one in observe_volumes(layout, store, project)}
    facts: dict[str, ImageFacts | None] = {}
    if stack is not None:
        for network in stack.networks.values():
            if network.name not in networks:
                networks.update((one.name, one) for one in observe_networks(store, None, network.name))
        for volume in stack.volumes.values():
            if volume.name not in volumes:
                volumes.update((one.name, one) for one in observe_volumes(layout, store, None, volume.name))
        # Only a cycle asks with a stack; `ps` and its like need nothing of the reconciler.
        from orchestrator.reconcile.images import list_references

        for reference in list_references(stack):
            found = images.resolve_image(reference)
            facts[reference] = image_facts(reference, found) if found else None
    containers = observe_containers(layout, store, project)
    return ObservedState(
        project=project,
        containers=_mark_stale(store, containers, volumes) if stack is not None else containers,
        networks=networks,
        volumes=volumes,
        images=facts,
    )


def _mark_stale(
    store: Store, containers: tuple[Container, ...], volumes: Mapping[str, ObservedVolume]
) -> tuple[Container, ...]:
    """Find containers under which somebody has deleted a volume. The times only say where it is worth a look."""
    if not any(one.volumes for one in containers):
        return containers
    made = {row["name"]: row["created_at"] for row in store.rows("SELECT name, created_at FROM volumes")}
    found = []
    for one in containers:
        suspects = {
            target: name
            for target, name in one.volumes.items()
            if one.pid and (made.get(name, 0.0) > one.started_at or (name in volumes and volumes[name].lost))
        }
        if suspects:
            from orchestrator.engines.native.mending import is_mount_stale

            stale = {name for target, name in suspects.items() if is_mount_stale(one.pid, target)}
            one = one.replace(stale_volumes=tuple(sorted(stale)))
        found.append(one)
    return tuple(found)


def image_facts(reference: str, image: Image) -> ImageFacts:
    """What reconciliation needs to know of an image."""
    from orchestrator.engines.native.images.reference import parse_reference

    check = _load_healthcheck(image.config.healthcheck)
    # An image may be named by its identifier, which nobody ever fetched.
    named = image.moments and not image.id.removeprefix("sha256:").startswith(reference.removeprefix("sha256:"))
    moments = image.moments.get(parse_reference(reference).pinned, {}) if named else {}
    return ImageFacts(
        id=image.id,
        reference=reference,
        has_healthcheck=check is not None,
        healthcheck=check,
        volumes=image.config.volumes,
        created=image.created,
        size=image.size,
        pulled_at=moments.get("pulled", 0.0),
        built_at=moments.get("built", 0.0),
        tagged_at=moments.get("tagged", 0.0),
    )


def _load_healthcheck(raw: Mapping[str, Any] | None) -> Probe | None:
    """An image's ``Healthcheck`` (durations in nanoseconds, 0 for "inherit") as a probe."""
    test = tuple((raw or {}).get("Test") or ())
    if raw is None or not test or test == ("NONE",):
        return None

    def seconds(name: str) -> float | None:
        value = raw.get(name)
        return value / 1e9 if value else None

    return Probe(
        test=test,
        interval=seconds("Interval"),
        timeout=seconds("Timeout"),
        retries=raw.get("Retries") or None,
        start_period=seconds("StartPeriod"),
        start_interval=seconds("StartInterval"),
    )


def observe_networks(store: Store, project: str | None, name: str | None = None) -> tuple[ObservedNetwork, ...]:
    """Networks of a project, or the one called `name`."""
    column, value = ("project", project) if name is None else ("name", name)
    return tuple(
        ObservedNetwork(
            name=row["name"],
            key=row["key"],
            project=row["project"],
            driver=row["driver"],
            config=_loads(row["config"]),
            subnets=tuple(pool["subnet"] for pool in json.loads(row["pools"])),
            internal=bool(row["internal"]),
        )
        for row in store.rows(f"SELECT * FROM networks WHERE {column} = ? ORDER BY name", value)
    )


def observe_volumes(
    layout: Layout, store: Store, project: str | None, name: str | None = None
) -> tuple[ObservedVolume, ...]:
    """Volumes of a project, or the one called `name`."""
    column, value = ("project", project) if name is None else ("name", name)
    return tuple(
        ObservedVolume(
            name=row["name"],
            key=row["key"],
            project=row["project"],
            driver=row["driver"],
            config=_loads(row["config"]),
            mountpoint=(place := f"{layout.volumes}/{row['name']}/_data"),
            # An anonymous one is made by the first start of its container.
            lost=bool(row["key"]) and not os.path.isdir(place),
        )
        for row in store.rows(f"SELECT * FROM volumes WHERE {column} = ? ORDER BY name", value)
    )


def _loads(text: str) -> Mapping[str, Any]:
    return MappingProxyType(json.loads(text))
