"""Making a container: everything that is decided once, before its first start, and written to the store."""

from __future__ import annotations

import _sqlite3 as sqlite3
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator import __version__
from orchestrator.engines.native.container import (
    DEFAULT_BRIDGE,
    ContainerSpec,
    read_process_start,
    uses_default_bridge,
)
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.network.endpoints import lease_endpoints, reserved_addresses
from orchestrator.engines.native.network.links import observe_host_subnets
from orchestrator.engines.native.network.networks import write_default_bridge
from orchestrator.engines.native.store import Store, dump_json, now
from orchestrator.errors import Conflict, NotFound
from orchestrator.model import Service, Stack, image_reference
from orchestrator.plan import CreateContainer

if TYPE_CHECKING:
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.store import ImageStore


def create_container(layout: Layout, store: Store, images: ImageStore, stack: Stack, request: CreateContainer) -> str:
    """Write a new container with its leases; return its id. NotFound: the image; Conflict: a name or an address."""
    with images.hold():  # nobody removes the image before it is written down that it is used
        return _create_container(layout, store, images, stack, request)


def _create_container(layout: Layout, store: Store, images: ImageStore, stack: Stack, request: CreateContainer) -> str:
    service = request.service
    image = find_image(images, stack, service.name)
    container_id = os.urandom(32).hex()
    spec = ContainerSpec(
        service=service,
        project=stack.name,
        number=request.number,
        directory=stack.directory,
        oneoff=request.oneoff,
        called=request.called,
        caller=(os.getpid(), read_process_start(os.getpid())) if request.oneoff else (),
        auto_remove=request.auto_remove,
        networks=_network_names(service, stack),
        volumes=_volume_names(service, stack),
        secrets={one.source: stack.secrets[one.source] for one in service.secrets},
        configs={one.source: stack.configs[one.source] for one in service.configs},
        command=(*_entrypoint(service, image), *_command(service, image)),
        labels=_labels(stack, request, image),
        mounted_images=_mounted_images(images, service),
    )
    values = {
        "id": container_id,
        "name": request.container_name,
        "project": stack.name,
        "service": service.name,
        "number": request.number,
        "oneoff": int(request.oneoff),
        "image": image_reference(stack, service),
        "image_id": image.id,
        "config_hash": request.config_hash,
        "spec": spec.dump(),
        "created_at": now(),
    }
    host = observe_host_subnets() if uses_default_bridge(service) else None
    with store.writing() as connection:
        if host is not None:
            write_default_bridge(layout, connection, host)
        inherited = _take_over(connection, request)
        mounts = list(_mounts(connection, spec, image, inherited))
        endpoints = lease_endpoints(
            layout,
            connection,
            container_id,
            request.container_name,
            spec,
            reserved=reserved_addresses(stack),
            replaces=request.replaces,
        )
        store.insert_container(values, endpoints=endpoints, mounts=mounts, connection=connection)
    return container_id


def _mounted_images(images: ImageStore, service: Service) -> Mapping[str, str]:
    references = {one.source for one in service.volumes if one.type == "image" and one.source}
    found = {one: images.resolve_image(one) for one in references}
    return {reference: image.id for reference, image in found.items() if image is not None}


def find_image(images: ImageStore, stack: Stack, service: str) -> Image:
    """The image of a service as it is in the store now. NotFound with what to do."""
    reference = image_reference(stack, stack.services[service])
    found = images.resolve_image(reference)
    if found is None:
        raise NotFound(
            f"no image {reference} for service {service}",
            resource=reference,
            operation="create container",
            hint=f"import one with: stack image import ROOTFS.tar --tag {reference}, or check the image's name",
        )
    return found


def _entrypoint(service: Service, image: Image) -> tuple[str, ...]:
    return (image.config.entrypoint or ()) if service.entrypoint is None else service.entrypoint


def _command(service: Service, image: Image) -> tuple[str, ...]:
    # An entrypoint in the file drops the image's command, as Docker does; what is empty does not.
    return service.command or (() if service.entrypoint else image.config.cmd or ())


def _labels(stack: Stack, request: CreateContainer, image: Image) -> Mapping[str, str]:
    # Tools look containers up by these; they are part of what Compose users rely on.
    dependencies = sorted(request.service.depends_on.values(), key=lambda one: one.service)
    return {
        **request.service.labels,
        "com.docker.compose.project": stack.name,
        "com.docker.compose.service": request.service.name,
        "com.docker.compose.container-number": str(request.number),
        "com.docker.compose.oneoff": str(request.oneoff),
        **({"com.docker.compose.slug": _slug(request, stack)} if request.oneoff else {}),
        "com.docker.compose.version": __version__,
        "com.docker.compose.config-hash": request.config_hash,
        "com.docker.compose.image": image.id,
        "com.docker.compose.depends_on": ",".join(
            f"{one.service}:{one.condition}:{'true' if one.restart else 'false'}" for one in dependencies
        ),
        "com.docker.compose.project.working_dir": stack.directory,
        "com.docker.compose.project.config_files": ",".join(stack.files),
    }


def _slug(request: CreateContainer, stack: Stack) -> str:
    return request.container_name.rpartition(stack.separator)[2]


def _network_names(service: Service, stack: Stack) -> Mapping[str, str]:
    if uses_default_bridge(service):
        return {DEFAULT_BRIDGE: DEFAULT_BRIDGE}
    return {key: stack.networks[key].name for key in service.networks if key in stack.networks}


def _volume_names(service: Service, stack: Stack) -> Mapping[str, str]:
    keys = [one.source for one in service.volumes if one.type == "volume" and one.source is not None]
    return {key: stack.volumes[key].name for key in keys if key in stack.volumes}


def _take_over(connection: sqlite3.Connection, request: CreateContainer) -> Mapping[str, str]:
    """Free the name held by the container that is replaced; return its anonymous volumes by target, if inherited."""
    if request.replaces is None:
        return {}
    old = connection.execute("SELECT id, name FROM containers WHERE id = ?", (request.replaces,)).fetchone()
    if old is None:
        return {}
    if old["name"] == request.container_name:
        connection.execute(
            "UPDATE containers SET name = ? WHERE id = ?", (f"{old['id'][:12]}_{old['name']}", old["id"])
        )
    if not request.inherit_volumes:
        return {}
    rows = connection.execute(
        "SELECT target, volume FROM mounts WHERE container_id = ? AND anonymous = 1", (old["id"],)
    )
    return {row["target"]: row["volume"] for row in rows}


def _mounts(
    connection: sqlite3.Connection, spec: ContainerSpec, image: Image, inherited: Mapping[str, str]
) -> Iterable[dict[str, Any]]:
    """The volumes that the container holds: named ones, anonymous ones of the file and of the image."""
    service = spec.service
    taken = {one.target for one in service.volumes} | {one.partition(":")[0] for one in service.tmpfs}
    for mount in service.volumes:
        if mount.type != "volume":
            continue
        if mount.source is not None:
            name = spec.volumes[mount.source]
            if connection.execute("SELECT 1 FROM volumes WHERE name = ?", (name,)).fetchone() is None:
                raise NotFound(f"no volume {name}", resource=name, operation="create container")
            yield {"target": mount.target, "volume": name, "anonymous": 0}
        else:
            yield _anonymous(connection, spec, mount.target, inherited)
    for target in image.config.volumes:
        clean = "/" + target.strip("/")
        if clean not in taken:
            yield _anonymous(connection, spec, clean, inherited)


def _anonymous(
    connection: sqlite3.Connection, spec: ContainerSpec, target: str, inherited: Mapping[str, str]
) -> dict[str, Any]:
    name = inherited.get(target)
    if name is None:
        name = os.urandom(32).hex()
        connection.execute(
            "INSERT INTO volumes (name, key, project, driver, config, created_at) VALUES (?, '', ?, 'local', ?, ?)",
            (name, spec.project, dump_json({}), now()),
        )
    return {"target": target, "volume": name, "anonymous": 1}


def rename_container(store: Store, container_id: str, new_name: str, number: int) -> None:
    """Change a container's name and number. Conflict when the name is taken."""
    try:
        store.update_container(container_id, name=new_name, number=number)
    except sqlite3.IntegrityError as error:
        raise Conflict(
            f"the container name {new_name} is taken", resource=new_name, operation="rename container"
        ) from error
