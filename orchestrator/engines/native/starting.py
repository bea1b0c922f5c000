"""Starting one container: everything between its row in the store and its running process."""

from __future__ import annotations

import _sqlite3 as sqlite3
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.engines.native import host
from orchestrator.engines.native.container import ContainerSpec, is_alive, read_boot_id
from orchestrator.engines.native.files.rootfs import spread_folders, stack_layers
from orchestrator.engines.native.files.volume_store import read_volume_options
from orchestrator.engines.native.files.volumes import (
    MountRequest,
    find_shared_memory,
    prepare_mounts,
    render_file_mount,
)
from orchestrator.engines.native.network.dns_zone import render_hosts, render_resolv_conf
from orchestrator.engines.native.network.endpoints import plan_links, renew_endpoints
from orchestrator.engines.native.network.links import connect_endpoints, find_link
from orchestrator.engines.native.network.namespaces import create_namespace
from orchestrator.engines.native.network.naming import read_host_resolv
from orchestrator.engines.native.network.networks import NetworkRow, ensure_link, find_network
from orchestrator.engines.native.runtime.bundle import BundleSpec, plan_namespaces, render_bundle, resolve_capabilities
from orchestrator.engines.native.runtime.bundle import parse_security_options as parse_security
from orchestrator.engines.native.runtime.calling import await_caller
from orchestrator.engines.native.runtime.cdi import resolve_edits
from orchestrator.engines.native.runtime.cgroups import render_cgroups_path
from orchestrator.engines.native.runtime.devices import list_host_devices, resolve_block_devices, resolve_devices
from orchestrator.engines.native.runtime.init_program import require_init
from orchestrator.engines.native.runtime.log_rotation import parse_log_policy
from orchestrator.engines.native.runtime.monitor import Launched, LaunchSpec, launch
from orchestrator.engines.native.runtime.oci_runtime import Runtime, load_runtime
from orchestrator.engines.native.runtime.seccomp import Filter, load_filter
from orchestrator.engines.native.runtime.users import resolve_identity
from orchestrator.errors import Conflict, Diagnostic, EngineError, NotFound

if TYPE_CHECKING:
    from orchestrator.engines.native.images.image import Image
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.network.naming import NameService
    from orchestrator.engines.native.network.publishing import Publisher
    from orchestrator.engines.native.runtime.facts import HostFacts
    from orchestrator.engines.native.store import Store


class _Made(NamedTuple):
    """What a container is started from."""

    config: dict[str, Any]
    netns: str | None
    endpoints: list[sqlite3.Row]
    runtime: Runtime


class Starter:
    """Starts containers of one engine; what the host allows is looked up once."""

    def __init__(
        self,
        layout: Layout,
        store: Store,
        images: ImageStore,
        publisher: Publisher,
        names: NameService,
        warn: Callable[[Diagnostic], None],
    ) -> None:
        self._layout = layout
        self._store = store
        self._images = images
        self._publisher = publisher
        self._names = names
        self._warn = warn
        self._facts: HostFacts | None = None
        self._probing = threading.RLock()
        self._runtimes: dict[str | None, Runtime] = {}
        self._waiting: dict[str, tuple[_Made, Launched]] = {}
        self._spread = False
        self._linked: dict[str, int] = {}
        self._linking = threading.Lock()

    @property
    def facts(self) -> HostFacts:
        """What this host and this process allow."""
        if self._facts is None:
            from orchestrator.engines.native.runtime.facts import observe_host

            self._facts = observe_host()
        return self._facts

    def runtime(self, wanted: str | None = None) -> Runtime:
        """The OCI runtime that works here, or the one that the service asks for."""
        with self._probing:
            if wanted not in self._runtimes:
                self._runtimes[wanted] = load_runtime(self._layout, self.facts.cgroups, wanted)
            return self._runtimes[wanted]

    def start(self, row: sqlite3.Row, spec: ContainerSpec) -> Launched:
        """Bring a container to life. What it made before a failure is left for the caller to give back."""
        container_id = row["id"]
        waiting = self._waiting.pop(container_id, None)
        if waiting is not None:
            made, launched = waiting
            self._open_ways(row, spec, made)
            made.runtime.start(container_id)
            return launched
        made = self._make(row, spec)
        self._open_ways(row, spec, made)
        launched = self._launch(row, spec, made, start=not spec.called)
        if spec.called:
            await_caller(self._layout, container_id, row["name"])
            made.runtime.start(container_id)
        return launched

    def prepare(self, row: sqlite3.Row, spec: ContainerSpec) -> None:
        """Do all of :meth:`start` but the last step: the process waits before its first instruction, nobody finds it.

        What it made before a failure is left for the caller to give back.
        """
        made = self._make(row, spec)
        self._waiting[row["id"]] = made, self._launch(row, spec, made, start=False)

    def is_prepared(self, container_id: str) -> bool:
        """Whether the container waits for its start."""
        return container_id in self._waiting

    def forget(self, container_id: str) -> None:
        """What was prepared is given back."""
        self._waiting.pop(container_id, None)

    def _make(self, row: sqlite3.Row, spec: ContainerSpec) -> _Made:
        """Everything that the runtime starts a container from."""
        image = self._images.resolve_image(row["image_id"])
        if image is None:
            raise NotFound(
                f"the image of container {row['name']} is gone",
                resource=row["image"],
                operation="start container",
                hint="recreate the container: stack up --force-recreate",
            )
        container_id = row["id"]
        rootfs = self._mount_root(container_id, image)
        netns, endpoints, networks = self._connect(row, spec)
        mounts = self._prepare_mounts(row, spec, image, rootfs, endpoints, networks)
        config = self._render(row, spec, image, rootfs, netns, mounts)
        return _Made(config, netns, endpoints, self.runtime(spec.service.runtime))

    def _open_ways(self, row: sqlite3.Row, spec: ContainerSpec, made: _Made) -> None:
        """Let others reach the container, and answer its queries."""
        self._publisher.publish(row["id"], spec)
        if made.endpoints:
            assert made.netns is not None
            self._names.attach(row["id"], Path(made.netns), spec, made.endpoints)

    def _launch(self, row: sqlite3.Row, spec: ContainerSpec, made: _Made, *, start: bool) -> Launched:
        container_id = row["id"]
        policy = parse_log_policy(spec.service.logging)
        return launch(
            self._layout,
            made.runtime,
            LaunchSpec(
                container_id=container_id,
                config=made.config,
                cgroups_path=self.cgroups_path(container_id, spec),
                log_path=str(self._layout.container_log(container_id)) if policy.keep else None,
                tty=spec.service.tty,
                stdin_open=spec.service.stdin_open,
                stdin_once=spec.called,
                start=start,
                name=row["name"],
            ),
        )

    def cgroups_path(self, container_id: str, spec: ContainerSpec) -> str:
        """The container's control group."""
        return render_cgroups_path(self._layout.tag, container_id, spec.service.cgroup_parent)

    def _mount_root(self, container_id: str, image: Image) -> str:
        state, run = str(self._layout.container_state(container_id)), str(self._layout.container_run(container_id))
        upper, work, target = f"{state}/upper", f"{state}/work", f"{run}/rootfs"
        for folder in (upper, work, target):
            os.makedirs(folder, exist_ok=True)
        if not self._spread:
            self._spread = True
            for folder in (os.path.dirname(state), os.path.dirname(run)):
                spread_folders(folder)
        os.chmod(state, 0o711)
        # The container's / takes its mode from here, whatever this process's umask is.
        os.chmod(upper, 0o755)
        host.unmount(target)
        host.mount_overlay(stack_layers(self._layout, image.layers), target, upper=upper, work=work)
        return target

    def _connect(self, row: sqlite3.Row, spec: ContainerSpec) -> tuple[str | None, list[sqlite3.Row], list[NetworkRow]]:
        """The container's network namespace (None: the host's), with its endpoints and networks."""
        mode = spec.service.network_mode
        if mode == "host":
            return None, [], []
        if mode and mode.startswith(("service:", "container:")):
            peer = self.find_peer(spec, mode)
            return str(netns_path(self._layout, peer["id"])), [], []
        netns = netns_path(self._layout, row["id"])
        query = "SELECT * FROM endpoints WHERE container_id = ? ORDER BY position"
        endpoints = self._store.rows(query, row["id"])
        if len(endpoints) < len(spec.attachments):
            renew_endpoints(self._layout, self._store, row, spec)
            endpoints = self._store.rows(query, row["id"])
        networks = [find_network(self._layout, self._store, one["network"]) for one in endpoints]
        links = plan_links(self._layout, row["id"], spec, endpoints, networks)
        # One after the other: the kernel has one lock for all links, and threads would burn their time waiting for it.
        with self._linking:
            create_namespace(netns, loopback=not endpoints)
            for network in networks:
                self.ensure_link(network)
            connect_endpoints(netns, links)
        return str(netns), endpoints, networks

    def reconnect(self, row: sqlite3.Row, spec: ContainerSpec) -> None:
        """Connect a running container to its networks again where somebody has cut it off. EngineError, OSError."""
        self._connect(row, spec)

    def ensure_link(self, network: NetworkRow) -> None:
        """Make sure of the network's link, unless this process has seen to it and it is there still."""
        number = find_link(network.link)
        if not number or self._linked.get(network.link) != number:
            ensure_link(network)
            self._linked[network.link] = find_link(network.link)

    def find_peer(self, spec: ContainerSpec, mode: str) -> sqlite3.Row:
        """The running container that ``service:x`` or ``container:x`` means. NotFound, Conflict."""
        kind, _, name = mode.partition(":")
        if kind == "service":
            rows = self._store.rows(
                "SELECT * FROM containers WHERE project = ? AND service = ? AND oneoff = 0 "
                "ORDER BY number, created_at DESC",
                spec.project,
                name,
            )
        else:
            rows = self._store.rows("SELECT * FROM containers WHERE name = ? OR id LIKE ? || '%'", name, name)
        if not rows:
            raise NotFound(f"{mode}: there is no such container", resource=name, operation="start container")
        boot_id = read_boot_id()
        found = next((one for one in rows if is_alive(one, boot_id)), None)
        if found is None:
            raise Conflict(
                f"{mode}: {rows[0]['name']} is not running, and {spec.service.name} is to share its namespace",
                resource=name,
                operation="start container",
                hint=f"start it first: stack up {name}",
            )
        return found

    def _prepare_mounts(
        self,
        row: sqlite3.Row,
        spec: ContainerSpec,
        image: Image,
        rootfs: str,
        endpoints: Sequence[sqlite3.Row],
        networks: Sequence[NetworkRow],
    ) -> list[dict[str, Any]]:
        held = self._store.rows("SELECT target, volume FROM mounts WHERE container_id = ?", row["id"])
        names = {one["target"]: one["volume"] for one in held}
        request = MountRequest(
            service=spec.service,
            container_id=row["id"],
            rootfs=rootfs,
            image_volumes=tuple(
                one
                for one in ("/" + target.strip("/") for target in image.config.volumes)
                if one in names and all(one != mount.target for mount in spec.service.volumes)
            ),
            volume_names=names,
            volume_options=read_volume_options(self._store, set(names.values())),
            image_layers=self._image_layers(spec),
            secrets=spec.secrets,
            configs=spec.configs,
        )
        mounts, warnings = prepare_mounts(self._layout, request)
        for warning in warnings:
            self._warn(warning)
        mounts += self._inherit_mounts(row, spec, {one["destination"] for one in mounts})
        return mounts + self._render_etc(row, spec, endpoints, networks, {one["destination"] for one in mounts})

    def _image_layers(self, spec: ContainerSpec) -> Mapping[str, Sequence[str]]:
        found = {}
        for mount in spec.service.volumes:
            if mount.type == "image" and mount.source is not None:
                image = self._images.resolve_image(mount.source)
                if image is not None:
                    found[mount.source] = [str(one) for one in image.layers]
        return found

    def _inherit_mounts(self, row: sqlite3.Row, spec: ContainerSpec, taken: set[str]) -> list[dict[str, Any]]:
        """``volumes_from``: the mounts of other containers, where the service has none of its own."""
        import json

        found: dict[str, dict[str, Any]] = {}
        for entry in spec.service.volumes_from:
            source, _, access = entry.removeprefix("container:").partition(":")
            mode = f"container:{source}" if entry.startswith("container:") else f"service:{source}"
            peer = self.find_peer(spec, mode)
            with open(f"{self._layout.container_run(peer['id'])}/config.json", encoding="utf-8") as file:
                config = json.load(file)
            for mount in config["mounts"]:
                if mount["type"] == "bind" and str(mount["source"]).startswith(str(self._layout.volumes)):
                    options = [one for one in mount["options"] if one not in ("ro", "rw")]
                    writable = access or ("ro" if "ro" in mount["options"] else "rw")
                    found[mount["destination"]] = {**mount, "options": [*options, writable]}
        return [mount for target, mount in found.items() if target not in taken]

    def _render_etc(
        self,
        row: sqlite3.Row,
        spec: ContainerSpec,
        endpoints: Sequence[sqlite3.Row],
        networks: Sequence[NetworkRow],
        taken: set[str],
    ) -> list[dict[str, Any]]:
        """``/etc/hosts``, ``/etc/resolv.conf`` and ``/etc/hostname``, unless the service mounts its own."""
        service = spec.service
        if (service.network_mode or "").startswith(("service:", "container:")):
            return self._share_etc(spec, taken)
        gateways = [pool.gateway for network in networks for pool in network.pools if not network.internal]
        name = hostname(row, spec)
        texts = {
            "/etc/hosts": render_hosts(
                name,
                [address for one in endpoints for address in (one["ipv4"], one["ipv6"]) if address],
                service.extra_hosts,
                gateways=gateways or ["127.0.0.1"],
                domainname=service.domainname or "",
            ),
            "/etc/resolv.conf": render_resolv_conf(
                service.dns, service.dns_search, service.dns_opt, read_host_resolv(), embedded=bool(endpoints)
            ),
            "/etc/hostname": f"{name}\n",
        }
        return [
            render_file_mount(self._layout, row["id"], target, text)
            for target, text in texts.items()
            if target not in taken
        ]

    def _share_etc(self, spec: ContainerSpec, taken: set[str]) -> list[dict[str, Any]]:
        """Who shares a network namespace shares the files that describe it."""
        import json

        peer = self.find_peer(spec, spec.service.network_mode or "")
        with open(f"{self._layout.container_run(peer['id'])}/config.json", encoding="utf-8") as file:
            mounts = json.load(file)["mounts"]
        wanted = {"/etc/hosts", "/etc/resolv.conf", "/etc/hostname"} - taken
        return [mount for mount in mounts if mount["destination"] in wanted]

    def _render(
        self,
        row: sqlite3.Row,
        spec: ContainerSpec,
        image: Image,
        rootfs: str,
        netns: str | None,
        mounts: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        service, facts = spec.service, self.facts
        shared = [one for one in (service.pid, service.ipc, service.uts) if one]
        found = {mode: self.find_peer(spec, mode) for mode in shared if mode.startswith(("service:", "container:"))}
        peers = {mode: int(peer["pid"]) for mode, peer in found.items()}
        ipc = found.get(service.ipc or "")
        return render_bundle(
            BundleSpec(
                service=service,
                image=image.config,
                container_id=row["id"],
                rootfs=rootfs,
                hostname=hostname(row, spec),
                facts=facts,
                cgroups_path=self.cgroups_path(row["id"], spec),
                identity=resolve_identity(
                    rootfs,
                    service.user if service.user is not None else image.config.user,
                    service.group_add,
                    path=f"services.{service.name}.user",
                ),
                namespaces=plan_namespaces(service, netns, peers, unified=facts.cgroups.mode == "v2"),
                mounts=tuple(mounts),
                seccomp=self._load_filter(spec),
                devices=resolve_devices(service),
                host_devices=list_host_devices() if service.privileged else (),
                edits=resolve_edits(service),
                block_devices=resolve_block_devices(service),
                init_path=require_init(spec.service.name) if service.init else None,
                shm_path=find_shared_memory(self._layout, ipc["id"]) if ipc is not None else None,
            )
        )

    def _load_filter(self, spec: ContainerSpec) -> Filter | None:
        profile = parse_security(spec.service).seccomp
        if spec.service.privileged or profile == "unconfined":
            return None
        custom = None
        if profile:
            import json

            path = os.path.join(spec.directory, profile)
            try:
                with open(path, encoding="utf-8") as file:
                    custom = json.load(file)
            except (OSError, ValueError) as error:
                raise EngineError(
                    f"services.{spec.service.name}.security_opt: the seccomp profile {path} cannot be read: {error}",
                    resource=path,
                    operation="start container",
                ) from error
        held = resolve_capabilities(spec.service, self.facts.capabilities)
        compiled = self.runtime(spec.service.runtime).takes_bpf
        return load_filter(str(self._layout.cache), held, custom=custom, compiled=compiled)


def hostname(row: sqlite3.Row, spec: ContainerSpec) -> str:
    """The container's host name: the service's, the host's with ``network_mode: host``, else its short id."""
    if spec.service.hostname:
        return spec.service.hostname
    if spec.service.network_mode == "host" or spec.service.uts == "host":
        return os.uname().nodename
    return str(row["id"])[:12]


def netns_path(layout: Layout, container_id: str) -> Path:
    """Where a container's network namespace is held."""
    return layout.netns / container_id[:24]
