"""The life of containers: created, started, stopped, settled after their end, removed.

A container that has ended is *settled* once, by whoever sees it first: its end is written to the store and what it held
of the host (mounts, namespace, ports, names, control group) is given back.
"""

from __future__ import annotations

import _sqlite3 as sqlite3
import os
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from orchestrator.engines.base import Change
from orchestrator.engines.native import creation
from orchestrator.engines.native.container import (
    ContainerSpec,
    is_alive,
    load_spec,
    read_boot_id,
)
from orchestrator.engines.native.files.parting import Parting
from orchestrator.engines.native.files.volume_store import VolumeStore
from orchestrator.engines.native.files.volumes import release_mounts
from orchestrator.engines.native.host_errors import explains_refusals
from orchestrator.engines.native.images.reserve import keep_reserve, release_reserve
from orchestrator.engines.native.journal import Journal
from orchestrator.engines.native.mending import mend_project
from orchestrator.engines.native.network.namespaces import delete_namespace
from orchestrator.engines.native.network.naming import NameService, adopt_names
from orchestrator.engines.native.network.neighbours import Neighbours
from orchestrator.engines.native.network.networks import leave_networks, remove_network, write_network
from orchestrator.engines.native.network.publishing import Publisher
from orchestrator.engines.native.observing import read_ending
from orchestrator.engines.native.preparing import stands_alone
from orchestrator.engines.native.recovery import await_exit_file, delete_state, end_launch, sweep_volumes
from orchestrator.engines.native.runtime.cgroups import freeze_cgroup, remove_empty_parent
from orchestrator.engines.native.runtime.monitor import remove_traces
from orchestrator.engines.native.runtime.oci_runtime import forget_container
from orchestrator.engines.native.runtime.process import parse_signal, send_signal
from orchestrator.engines.native.starting import Starter, netns_path
from orchestrator.engines.native.stopping import ask_to_stop, await_stop
from orchestrator.engines.native.store import now
from orchestrator.errors import Conflict, Diagnostic, EngineError, NotFound
from orchestrator.model import Network, Stack
from orchestrator.plan import CreateContainer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.network.hosting import Hosting
    from orchestrator.engines.native.runtime.exits import ExitWatch
    from orchestrator.engines.native.runtime.log_rotation import LogRotator
    from orchestrator.engines.native.runtime.monitor import ExitInfo, Launched
    from orchestrator.engines.native.store import Store

_ACTING = 8
"""How many containers are ended or cleared away at a time: more only wait for the same locks. Any number may be waited
for."""


class Lifecycle:
    """Every change that the native engine makes to containers and networks. Thread-safe."""

    def __init__(
        self,
        layout: Layout,
        store: Store,
        images: ImageStore,
        hosting: Hosting,
        warn: Callable[[Diagnostic], None],
    ) -> None:
        self._layout = layout
        self._store = store
        self._images = images
        self._hosting = hosting
        self._warn = warn
        self._journal = Journal(layout)
        self.publisher = Publisher(layout, store, hosting)
        self.names = NameService(store, hosting)
        self.volumes = VolumeStore(layout, store)
        self.starter = Starter(layout, store, images, self.publisher, self.names, warn)
        self.neighbours = Neighbours(layout, store)
        self.parting = Parting()
        self._cleared: set[str] = set()
        """What this process has seen end and given everything back of, until it is started again."""
        self._acting = threading.BoundedSemaphore(_ACTING)
        self._watch: ExitWatch | None = None
        self._rotator: LogRotator | None = None
        self._locks: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()
        self._locking = threading.Lock()

    # Networks

    @explains_refusals("create the network")
    def create_network(self, project: str, network: Network) -> None:
        """Create a network, its bridge, and the project's firewall table. One that exists is brought to life again."""
        self.starter.ensure_link(write_network(self._layout, self._store, project, network))
        self.publisher.sync(project)

    @explains_refusals("remove the network")
    def remove_network(self, project: str, name: str) -> None:
        """Remove a network and what the firewall knew of it."""
        # Most networks go with their project.
        self.parting.hasten()
        # Before its row goes, by which alone whoever comes after a crash knows of it.
        with self.publisher.leaving(project, name):
            remove_network(self._layout, self._store, project, name)

    # Containers

    @explains_refusals("create the container")
    def create(self, stack: Stack, request: CreateContainer) -> str:
        """Write a container to the store."""
        container_id = creation.create_container(self._layout, self._store, self._images, stack, request)
        keep_reserve(self._layout.images)
        self._journal.note(self._row(container_id), "create", request.service.labels)
        return container_id

    def rename(self, container_id: str, new_name: str, number: int) -> None:
        """Change name and number."""
        old = self._row(container_id)
        creation.rename_container(self._store, container_id, new_name, number)
        self._journal.note(self._row(container_id), "rename", load_spec(old).labels, oldName=f"/{old['name']}")

    def start(self, container_id: str, *, cause: str) -> None:
        """Start a created or exited container; one that runs is success. `cause` goes into the journal."""
        with self._locked(container_id):
            row = self._row(container_id)
            if is_alive(row, read_boot_id()):
                return
            spec = load_spec(row)
            if row["state"] == "running":
                self._settle(row)
            elif self._layout.container_run(container_id).exists() and not self.starter.is_prepared(container_id):
                # Whoever was starting or ending it has been killed.
                self._clear(row, spec)
            self._cleared.discard(container_id)
            try:
                launched = self._start_process(row, spec)
            except BaseException as error:
                taken = isinstance(error, FileNotFoundError) and container_id in str(error.filename)
                self._give_back(row, spec)
                if isinstance(error, Exception) and (taken or self._store.container(container_id) is None):
                    raise self._explain_removed(row) from error
                if isinstance(error, EngineError):
                    code = getattr(error, "exit_code", 128)
                    self._store.update_container(container_id, exit_code=code, error=error.message, finished_at=now())
                raise
            here = self._store.update_container(
                container_id,
                state="running",
                pid=launched.pid,
                pid_start=launched.start_time,
                monitor_pid=launched.monitor_pid,
                boot_id=read_boot_id(),
                started_at=now(),
                finished_at=0.0,
                exit_code=None,
                oom=0,
                error="",
                hold=0,
                paused=0,
                health=None,
                restart_at=0.0,
            )
            if not here:
                self._give_back(row, spec)
                raise self._explain_removed(row)
            # While the lock is held: the end of a short run must not come before its start.
            self._journal.note(row, "start", spec.labels, **({"cause": cause} if cause else {}))
        self._tend(container_id, spec)
        self.neighbours.announce(spec.project, set(spec.networks.values()))

    def _explain_removed(self, row: sqlite3.Row) -> NotFound:
        # By another process, say `rm`: the lock is one of this process alone.
        self.volumes.drop_unknown()
        if self._store.container(row["id"]) is None:
            delete_state(self._layout, row["id"])
        told = f"container {row['name']} was removed while it was being started"
        return NotFound(told, resource=row["name"], operation="start")

    @explains_refusals("start the container")
    def _start_process(self, row: sqlite3.Row, spec: ContainerSpec) -> Launched:
        if self.starter.is_prepared(row["id"]):
            try:
                return self.starter.start(row, spec)
            except EngineError:
                # What was prepared may have died meanwhile; what else is wrong shows again.
                self._give_back(row, spec)
        self.parting.finish(f"{self._layout.container_run(row['id'])}/rootfs")
        return self.starter.start(row, spec)

    def prepare(self, container_id: str) -> None:
        """Make a created container ready for a start that is to come, where that can do no harm; else do nothing."""
        with self._locked(container_id):
            row = self._store.container(container_id)
            if row is None or row["state"] != "created" or self._layout.container_run(container_id).exists():
                return
            spec = load_spec(row)
            if not stands_alone(self._store, row, spec):
                return
            try:
                self.starter.prepare(row, spec)
            except BaseException as error:
                self._give_back(row, spec)
                # The start will try again, and tell.
                if not isinstance(error, (EngineError, OSError)):
                    raise

    def unprepare(self, container_id: str) -> None:
        """Give back what was made ready for a start that does not come."""
        with self._locked(container_id):
            row = self._store.container(container_id)
            if row is not None and self.starter.is_prepared(container_id):
                self._give_back(row, load_spec(row))

    @explains_refusals("stop the container")
    def stop(self, container_id: str, *, timeout: float | None, hold: bool) -> None:
        """Stop signal, then SIGKILL when the grace period is over; returns when settled."""
        with self._locked(container_id):
            with self._acting:
                row = self._store.container(container_id)
                if row is None:
                    return
                if hold:  # what fills the disk may be what is stopped, or what is removed next
                    release_reserve(self._layout.images)
                if hold and not row["hold"]:
                    self._store.update_container(container_id, hold=1)
                if row["state"] != "running":
                    return
                spec = load_spec(row)
                stopped = is_alive(row, read_boot_id())
                if stopped and row["paused"]:
                    freeze_cgroup(self.starter.cgroups_path(container_id, spec), frozen=False)
                if stopped:
                    ask_to_stop(self._images, self._journal, row, spec)
            if stopped:
                await_stop(self._journal, row, spec, timeout)
            self._settle(self._row(container_id))
            if stopped:
                self._journal.note(row, "stop", spec.labels)

    def kill(self, container_id: str, signal: str) -> None:
        """Send a signal to the main process. Conflict when it does not run.

        Whoever kills a container outright wants it dead: like a stop, SIGKILL holds it back from its restart policy.
        """
        row, number = self._row(container_id), parse_signal(signal)
        alive = is_alive(row, read_boot_id())
        if alive and number == parse_signal("SIGKILL"):
            self._store.update_container(container_id, hold=1)
        if alive:
            self._journal.note(row, "kill", load_spec(row).labels, signal=str(number))
        if not alive or not send_signal(row["pid"], row["pid_start"], number):
            raise Conflict(f"{row['name']} is not running", resource=row["name"], operation="kill container")

    def pause(self, container_id: str, *, paused: bool) -> None:
        """Freeze or thaw. Conflict when it does not run; Unsupported without a freezer."""
        with self._locked(container_id):
            row = self._row(container_id)
            if not is_alive(row, read_boot_id()):
                raise Conflict(f"{row['name']} is not running", resource=row["name"], operation="pause container")
            if not freeze_cgroup(self.starter.cgroups_path(container_id, load_spec(row)), frozen=paused):
                raise EngineError(
                    f"{row['name']} cannot be frozen: this host has no freezer control group",
                    resource=row["name"],
                    operation="pause container",
                )
            self._store.update_container(container_id, paused=int(paused))
            self._journal.note(row, "pause" if paused else "unpause", load_spec(row).labels)

    @explains_refusals("remove the container")
    def remove(self, container_id: str, *, volumes: bool) -> None:
        """Remove a container, killed first if it runs; with `volumes` its anonymous volumes."""
        self.stop(container_id, timeout=0.0, hold=True)
        with self._locked(container_id):
            row = self._store.container(container_id)
            if row is None:
                return
            spec = load_spec(row)
            if container_id not in self._cleared:
                self._clear(row, spec)
            self._cleared.discard(container_id)
            delete_state(self._layout, container_id)
            left = self._forget(container_id, spec, volumes=volumes)
            delete_state(self._layout, container_id)  # again: somebody may have looked at its files meanwhile
            self._journal.note(row, "destroy", spec.labels)
            if left:
                self.publisher.sync(spec.project)

    def _forget(self, container_id: str, spec: ContainerSpec, *, volumes: bool) -> bool:
        """Take a container out of the store, in one step with its anonymous volumes, the networks that it was alone on,
        and the engine's control group; True if it was on networks of others."""
        with self._store.writing() as connection:
            doomed = self.volumes.forget_anonymous(connection, container_id) if volumes else []
            connection.execute("DELETE FROM containers WHERE id = ?", (container_id,))
            left = leave_networks(self._layout, connection, spec.project, spec.networks.values())
            if connection.execute("SELECT 1 FROM containers LIMIT 1").fetchone() is None:
                # Nobody can be starting one now: a container is written down before.
                remove_empty_parent(self._layout.tag)
        self.volumes.delete(doomed)
        return left

    # The end of a container

    def _settle(self, row: sqlite3.Row) -> Change:
        """Write a container's end to the store and give back what it held. The caller holds its lock."""
        spec = load_spec(row)
        await_exit_file(self._layout, row["id"])
        code, finished_at, oom, error = read_ending(self._layout, row)
        # First of all, because its exit file is among what is given back, and others may be looking. Who is killed
        # after it leaves a run folder, by which the next one to take the project over, start or remove it knows.
        written = {"state": "exited", "exit_code": code, "finished_at": finished_at or now(), "oom": int(oom)}
        gone = {"pid": 0, "pid_start": 0, "monitor_pid": 0, "paused": 0, "health": None}
        self._store.update_container(row["id"], **written, **gone, error=error)
        if oom:
            self._journal.note(row, "oom", spec.labels)
        self._journal.note(row, "die", spec.labels, exitCode=str(code))
        with self._acting:
            self._give_back(row, spec)
        self._cleared.add(row["id"])
        self.neighbours.announce(spec.project, set(spec.networks.values()))
        return Change(container_id=row["id"], kind="exited", exit_code=code, finished_at=finished_at or now())

    def _give_back(self, row: sqlite3.Row, spec: ContainerSpec) -> None:
        """Release everything of the host that a container may hold. Idempotent; each step stands alone."""
        container_id = row["id"]
        self.starter.forget(container_id)
        if self._watch is not None:
            self._watch.remove(container_id)
        if self._rotator is not None:
            self._rotator.remove(container_id)
        self.names.detach(container_id)
        self.publisher.unpublish(container_id, spec.project)
        run = self._layout.container_run(container_id)
        if run.exists():
            path = self.starter.cgroups_path(container_id, spec)
            end_launch(self._layout, container_id, path)
            forget_container(self._layout, container_id, path)
            self.parting.unmount(f"{run}/rootfs")
            release_mounts(self._layout, container_id)
            with suppress(FileNotFoundError):  # another process has seen it end, too, and gives it back
                os.rmdir(f"{run}/rootfs")
        # Also where the folder is gone: whoever removed it may have been killed before the rest.
        remove_traces(self._layout, container_id)
        delete_namespace(netns_path(self._layout, container_id))

    # Watching and hosting

    def watch(self, project: str, notify: Callable[[Change], None]) -> Callable[[], None]:
        """Settle every container of the project that ends, and tell of it."""
        from orchestrator.engines.native.runtime.exits import watch_exits
        from orchestrator.engines.native.runtime.log_rotation import LogRotator

        def ended(info: ExitInfo) -> None:
            row = self._store.container(info.container_id)
            if row is None or row["project"] != project:
                return
            with self._locked(info.container_id):
                row = self._store.container(info.container_id)
                if row is None or row["state"] != "running" or is_alive(row, read_boot_id()):
                    return
                try:
                    change = self._settle(row)
                except Exception as error:
                    # What could not be given back is given back before the next start, or on removal.
                    sys.excepthook(type(error), error, error.__traceback__)
                    code, at, _oom, _error = read_ending(self._layout, row)
                    change = Change(container_id=row["id"], kind="exited", exit_code=code, finished_at=at or now())
            notify(change)

        sweep_volumes(self._layout)
        self._rotator = LogRotator(self._layout)
        watch = self._watch = watch_exits(self._layout, ended)
        for row in self._store.containers(project):
            if row["state"] == "running":
                self._tend(row["id"], load_spec(row))

        def close() -> None:
            watch.close()
            if self._rotator is not None:
                self._rotator.close()
            self._watch = self._rotator = None

        return close

    def _tend(self, container_id: str, spec: ContainerSpec) -> None:
        """See a running container's end, and keep its log within limits, if this process watches."""
        from orchestrator.engines.native.runtime.log_rotation import parse_log_policy

        if self._rotator is not None:
            policy = parse_log_policy(spec.service.logging)
            self._rotator.add(container_id, str(self._layout.container_log(container_id)), policy)
        if self._watch is not None:
            self._watch.add(container_id)

    def adopt(self, project: str) -> None:
        """Host names and ports of what runs already; settle what ended while nobody watched; mend what was cut off."""
        boot_id = read_boot_id()
        known = self._store.containers(project)
        for row in known:
            if row["state"] == "exited" and self._layout.container_run(row["id"]).exists():
                self._clear_ended(row["id"])
        rows = [row for row in known if row["state"] == "running"]
        for row in rows:
            if not is_alive(row, boot_id):
                with self._locked(row["id"]):
                    self._settle(row)
        living = [row for row in rows if is_alive(row, boot_id)]
        mend_project(self._layout, self._store, self.starter, self.publisher, project, living, self._warn)
        alive = [row for row in living if not self._hosting.serves(row["id"])]
        if alive:
            for refusal in self.publisher.adopt(project):
                self._warn(Diagnostic(refusal.code, refusal.message, hint=refusal.hint, severity="warning"))
            paths = {row["id"]: netns_path(self._layout, row["id"]) for row in alive}
            for error in adopt_names(self.names, paths, alive, self._store):
                self._warn(Diagnostic(error.code, error.message, hint=error.hint, severity="warning"))

    def _clear_ended(self, container_id: str) -> None:
        """Give back what a container held whose end was written down by somebody who was killed then."""
        with self._locked(container_id):
            row = self._store.container(container_id)
            if row is not None and row["state"] == "exited" and not row["oneoff"]:
                self._clear(row, load_spec(row))

    def _clear(self, row: sqlite3.Row, spec: ContainerSpec) -> None:
        """Give back what a container holds that does not run, and tell of its end if its writer was killed before."""
        if row["state"] == "exited" and self._layout.container_run(row["id"]).exists():
            self._journal.note_lost_end(row, spec.labels)
        self._give_back(row, spec)

    def _row(self, container_id: str) -> sqlite3.Row:
        row = self._store.container(container_id)
        if row is None:
            raise NotFound(f"no container {container_id[:12]}", resource=container_id, operation="look up container")
        return row

    @contextmanager
    def _locked(self, container_id: str) -> Iterator[Any]:
        with self._locking:
            lock = self._locks.setdefault(container_id, threading.RLock())
        with lock:
            yield
