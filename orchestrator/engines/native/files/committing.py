"""An image out of a container: its writable layer becomes the last layer, its configuration the image's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator.engines.native.container import ContainerSpec, is_alive, load_spec, read_boot_id
from orchestrator.engines.native.runtime.cgroups import freeze_cgroup, render_cgroups_path
from orchestrator.engines.native.spawn import find_program, run
from orchestrator.errors import EngineError, NotFound, Unavailable

if TYPE_CHECKING:
    import sqlite3

    from orchestrator.engines.base import CommitRequest
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.store import Store


def commit_container(
    layout: Layout, store: Store, images: ImageStore, container_id: str, request: CommitRequest
) -> str:
    """Make an image of a container, running or not, and return its id. What volumes hold is not part of it.

    NotFound: the container, or its image; EngineError: its files cannot be copied; InvalidChange.
    """
    from orchestrator.engines.native.images.changes import apply_changes
    from orchestrator.engines.native.images.importer import render_now
    from orchestrator.engines.native.images.layers import SNAPSHOT

    row = store.container(container_id)
    if row is None:
        raise NotFound(f"no container {container_id[:12]}", resource=container_id, operation="commit")
    image = images.resolve_image(row["image_id"])
    raw = images.read_configuration(image.id) if image is not None else None
    if image is None or raw is None:
        raise NotFound(f"the image of container {row['name']} is gone", resource=row["image"], operation="commit")
    document: dict[str, Any] = json.loads(raw)
    spec = load_spec(row)
    config = apply_changes(describe_config(spec, document.get("config") or {}), request.changes)
    created = render_now()
    layer_id = f"{SNAPSHOT}commit-{os.urandom(16).hex()}"
    with images.open_workspace() as workspace:
        workspace.keep([layer_id])
        copy = workspace.make_directory("commit")
        with _held_still(layout, row, spec, pause=request.pause):
            _copy_layer(f"{layout.container_state(container_id)}/upper", str(copy), row["name"])
        layer = images.layers.adopt_directory(copy, layer_id)
        entry = {"created": created, "created_by": " ".join(spec.command)}
        if request.author:
            entry["author"] = request.author
            document["author"] = request.author
        if request.message:
            entry["comment"] = request.message
        document.update(
            created=created,
            config=config,
            rootfs={"type": "layers", "diff_ids": [*image.diff_ids, layer.id]},
            history=[*(document.get("history") or ()), entry],
        )
        made = images.commit_image(
            json.dumps(document, separators=(",", ":")).encode(),
            [*image.diff_ids, layer.id],
            workspace,
            references=[request.reference] if request.reference else (),
        )
    return made.id


def describe_config(spec: ContainerSpec, base: dict[str, Any]) -> dict[str, Any]:
    """The image configuration (Docker's field names) that runs as the container does. Pure."""
    service = spec.service
    config = dict(base)
    variables = dict(one.partition("=")[::2] for one in base.get("Env") or ())
    for name, value in service.environment.items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    config["Env"] = [f"{name}={value}" for name, value in variables.items()]
    if service.entrypoint is not None:
        config["Entrypoint"] = list(service.entrypoint)
    if service.entrypoint:
        config["Cmd"] = None
    if service.command:
        config["Cmd"] = list(service.command)
    for field, value in (
        ("User", service.user),
        ("WorkingDir", service.working_dir),
        ("StopSignal", service.stop_signal),
    ):
        if value:
            config[field] = value
    config["Labels"] = {**(base.get("Labels") or {}), **spec.labels}
    exposed = [one if "/" in one else f"{one}/tcp" for one in service.expose if "-" not in one]
    exposed += [f"{one.target}/{one.protocol}" for one in service.ports]
    if exposed:
        config["ExposedPorts"] = {**(base.get("ExposedPorts") or {}), **{one: {} for one in exposed}}
    return {name: value for name, value in config.items() if value is not None}


@contextmanager
def _held_still(layout: Layout, row: sqlite3.Row, spec: ContainerSpec, *, pause: bool) -> Iterator[None]:
    """Freeze the container meanwhile, so that no file is caught half-written; one that is frozen stays so."""
    path = render_cgroups_path(layout.tag, row["id"], spec.service.cgroup_parent)
    freeze = pause and not row["paused"] and is_alive(row, read_boot_id())
    frozen = freeze and freeze_cgroup(path, frozen=True)
    try:
        yield
    finally:
        if frozen:
            freeze_cgroup(path, frozen=False)


def _copy_layer(upper: str, target: str, name: str) -> None:
    """Copy a writable layer with everything that overlay keeps in it: whiteouts, attributes, links."""
    if not os.path.isdir(upper):
        return
    program = find_program("cp")
    if program is None:
        raise Unavailable("cp is not installed", resource="cp", operation="commit", hint="apt-get install coreutils")
    done = run([program, "--archive", "--reflink=auto", "--no-target-directory", upper, target])
    if done.exit_code != 0:
        raise EngineError(
            f"the files of {name} cannot be copied: {done.output.strip().splitlines()[-1] if done.output else ''}",
            resource=name,
            operation="commit",
        )
