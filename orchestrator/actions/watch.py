"""``watch``: files that change are copied into containers, which are restarted or built again where rules say so.

Copies are made at once, by the thread that hears of changes. What takes its time (restarts, builds, commands) is done
by another one, for everything that has been asked for meanwhile; copies for a service wait while that goes on, because
the container may be about to be replaced.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from orchestrator.actions.goals import UpOptions
from orchestrator.engines.base import Engine, ExecRequest, FileSync
from orchestrator.errors import StackError
from orchestrator.record import Record
from orchestrator.watching.rules import Batch, WatchRule, sort_changes
from orchestrator.watching.trees import TreeWatcher

if TYPE_CHECKING:
    from orchestrator.actions.project import Project
    from orchestrator.goal import Goal
    from orchestrator.state import Container

SETTLE: Final = 0.008
"""Seconds without a change after which changes are copied: an editor's save is several."""

SETTLE_OPEN: Final = 0.04
"""The same while a file is still being written; also how long copies are put off at most."""

CALM: Final = 0.25
"""Seconds without a change after which services are restarted, built, told: a program saves many files one by one."""

CALM_LIMIT: Final = 2.0
ATTEMPTS: Final = 5
HOOK_SECONDS: Final = 86400.0
HOOK_GRACE: Final = 0.5
"""Seconds for which the end of a watch waits for a command that is being run."""

Say = Callable[[str], None]
Converge = Callable[["Goal", str], bool]
"""Brings a project to a goal and tells the user what fails; whether it was reached."""


class WatchOptions(Record):
    """What ``watch`` can be asked for.

    `prune` removes the images that rebuilds replace; `verbose` tells when everything that a change asks for is done.
    """

    prune: bool = True
    verbose: bool = False


class _Errands:
    """What is owed to services and takes its time."""

    def __init__(self) -> None:
        self.rebuild: dict[str, None] = {}
        self.restart: dict[str, None] = {}
        self.hooks: dict[tuple[str, int], WatchRule] = {}

    def add(self, batch: Batch) -> None:
        self.rebuild.update(dict.fromkeys(batch.rebuild))
        self.restart.update(dict.fromkeys(batch.restart))
        self.hooks.update({(one.service, one.index): one for one in batch.hooks})

    @property
    def services(self) -> set[str]:
        return {*self.rebuild, *self.restart, *(service for service, _index in self.hooks)}


class Watcher:
    """Follows the rules of a project. `say` takes sentences for the user, from several threads.

    From its creation on no change is missed. Raises Unavailable then, where not everything can be watched.
    """

    def __init__(
        self,
        engine: Engine,
        project: Project,
        rules: Sequence[WatchRule],
        *,
        say: Say,
        converge: Converge,
        options: WatchOptions | None = None,
    ) -> None:
        assert project.stack is not None
        self._engine, self._project, self._stack = engine, project, project.stack
        self._rules, self._say, self._converge = tuple(rules), say, converge
        self._options = options or WatchOptions()
        self._trees = TreeWatcher((one.path for one in rules), self._is_pruned)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = threading.Event()
        self._errands = _Errands()
        self._worker: threading.Thread | None = None
        self._busy: set[str] = set()
        self._building: Goal | None = None
        self._in_hook = False
        self._rebuilt: set[str] = set()
        self._held: dict[str, dict[str, FileSync]] = {}
        self._changes: list[float] = []
        self._errands_since: list[float] = []

    def _is_pruned(self, folder: str) -> bool:
        return all(one.is_pruned(folder) for one in self._rules)

    def run(self) -> None:
        """Copy what is to be there from the beginning, and then what changes, until :meth:`stop` or Ctrl-C."""
        poll = select.poll()
        poll.register(self._trees.fileno(), select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        try:
            self._tell_rules()
            self._sync_initially(None)
            self._say("Watch enabled")
            while not self._stopping.is_set():
                ready = dict(poll.poll(self._choose_timeout()))
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                if self._trees.fileno() in ready:
                    self._trees.read()
                    if self._trees.changed:
                        now = time.monotonic()
                        self._changes = [self._changes[0] if self._changes else now, now]
                self._act()
        except KeyboardInterrupt:
            self._stopping.set()
        finally:
            self._stopping.set()
            self._await_worker()
            self._say("Watch disabled")

    def _await_worker(self) -> None:
        """Call off a build that is under way, and let everything else come to its end, but for commands."""
        worker, goal = self._worker, self._building
        if worker is None:
            return
        if goal is not None and worker.is_alive():
            from orchestrator.actions.goals import edit_interrupted

            self._converge(edit_interrupted(goal, self._engine.observe(self._project.name), time.time()), "watch")
        worker.join(None if not self._in_hook else HOOK_GRACE)

    def stop(self) -> None:
        """End :meth:`run` soon. From any thread."""
        self._stopping.set()
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Give back what is held, after :meth:`run` has ended."""
        self._trees.close()
        os.close(self._wake)

    def _due(self) -> float | None:
        """When (monotonic seconds) the changes are to be copied; None if there are none."""
        if not self._changes:
            return None
        first, last = self._changes
        return min(first + SETTLE_OPEN, last + (SETTLE_OPEN if self._trees.being_written else SETTLE))

    def _errands_due(self) -> float | None:
        if not self._errands_since or self._worker is not None:
            return None
        first, last = self._errands_since
        return min(first + CALM_LIMIT, last + CALM)

    def _choose_timeout(self) -> int | None:
        due = [one for one in (self._due(), self._errands_due()) if one is not None]
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1) if due else None

    def _act(self) -> None:
        worker = self._worker
        if worker is not None and not worker.is_alive():
            worker.join()
            self._worker = None
            self._busy.clear()
            if self._rebuilt:
                self._sync_initially(self._rebuilt)
                self._rebuilt.clear()
            held, self._held = self._held, {}
            for service, syncs in held.items():
                self._sync(service, tuple(syncs.values()))
        due, now = self._due(), time.monotonic()
        if due is not None and due <= now:
            self._take_changes(now)
        due = self._errands_due()
        if due is not None and due <= now:
            self._begin_errands()

    def _take_changes(self, now: float) -> None:
        self._changes = []
        batch = sort_changes(self._rules, self._trees.take())
        later = {*batch.rebuild, *batch.restart, *(one.service for one in batch.hooks)}
        for service, syncs in batch.syncs.items():
            self._sync(service, syncs)
            if service not in later:
                self._tell_complete(service)
        if batch.rebuild or batch.restart or batch.hooks:
            self._errands.add(batch)
            self._errands_since = [self._errands_since[0] if self._errands_since else now, now]

    def _sync(self, service: str, syncs: Sequence[FileSync]) -> None:
        if service in self._busy:
            self._held.setdefault(service, {}).update({one.target: one for one in syncs})
            return
        self._say(f'Syncing service "{service}" after {len(syncs)} changes were detected')
        self._copy(service, syncs, changed_only=False)

    def _tell_rules(self) -> None:
        if not self._options.verbose:
            return
        for service in dict.fromkeys(one.service for one in self._rules):
            lines = [f"  - Action {one.action} for path {one.path!r}" for one in self._rules if one.service == service]
            self._say("\n".join((f'Watch configuration for service "{service}":', *lines)))

    def _tell_complete(self, service: str) -> None:
        if self._options.verbose:
            self._say(f"batch complete: service[{service}]")

    def _copy(self, service: str, syncs: Sequence[FileSync], *, changed_only: bool) -> None:
        try:
            for container in self._find_containers(service):
                self._copy_into(container, syncs, changed_only=changed_only)
        except StackError as error:
            self._say(f"{service}: {error.message}")

    def _copy_into(self, container: Container, syncs: Sequence[FileSync], *, changed_only: bool) -> None:
        for left in reversed(range(ATTEMPTS)):
            try:
                self._engine.sync_files(container, syncs, changed_only=changed_only)
                return
            except StackError as error:
                self._say(f"{container.name}: {error.message}")
                return
            except OSError as error:
                # It ended, or was started, while its files were being opened: the next look finds it as it is then.
                if not left:
                    self._say(f"{container.name}: {error.strerror or error}")
                    return
                time.sleep(0.05)

    def _find_containers(self, service: str) -> tuple[Container, ...]:
        found = self._engine.observe(self._project.name).of_service(service)
        return tuple(one for one in found if not one.oneoff)

    def _sync_initially(self, services: Iterable[str] | None) -> None:
        """Bring what ``initial_sync`` asks for into the containers of `services` (None: all)."""
        found: dict[str, dict[str, FileSync]] = {}
        for rule in self._rules:
            if not (rule.initial_sync and rule.syncs) or (services is not None and rule.service not in services):
                continue
            for path in self._trees.list_below(rule.path):
                if rule.matches(path) and not rule.is_definition(path) and not (rule.is_folder and path == rule.path):
                    target = rule.map_path(path)
                    found.setdefault(rule.service, {})[target] = FileSync(source=path, target=target)
        for service, syncs in found.items():
            self._copy(service, tuple(syncs.values()), changed_only=True)

    # -- what takes its time: everything below runs in a thread of its own -------------------------------------------

    def _begin_errands(self) -> None:
        errands, self._errands, self._errands_since = self._errands, _Errands(), []
        self._busy = errands.services
        self._worker = threading.Thread(target=self._run_errands, args=(errands,), name="watch", daemon=True)
        self._worker.start()

    def _run_errands(self, errands: _Errands) -> None:
        try:
            if errands.rebuild:
                self._rebuild(tuple(errands.rebuild))
            restart = tuple(name for name in errands.restart if name not in errands.rebuild)
            if restart:
                self._restart(restart)
            self._in_hook = True
            for _key, rule in sorted(errands.hooks.items()):
                if rule.service not in errands.rebuild and not self._stopping.is_set():
                    self._run_hook(rule)
            for service in sorted(errands.services):
                self._tell_complete(service)
        except StackError as error:
            self._say(error.render())
        finally:
            self._in_hook = False
            os.eventfd_write(self._wake, 1)

    def _rebuild(self, services: tuple[str, ...]) -> None:
        from orchestrator.actions.prepare_up import prepare_up
        from orchestrator.actions.project import recall_goal

        names = _render_names(services)
        self._say(f"Rebuilding service(s) {names} after changes were detected...")
        before = self._find_images(services)
        previous = recall_goal(self._project.name)
        scale = {name: previous.scale[name] for name in services if previous and name in previous.scale}
        asked = UpOptions(services=services, dependencies=False, force_recreate=True, build="always", scale=scale)
        self._building = prepare_up(self._project, asked)
        try:
            done = self._converge(self._building, "watch")
        finally:
            self._building = None
        if not done:
            called_off = self._stopping.is_set()
            self._say(f"{'No longer' if called_off else 'Failed to'} rebuild service(s) {names}; what ran goes on")
            return
        self._say(f"service(s) {names} successfully built")
        self._rebuilt.update(services)
        if self._options.prune:
            self._remove_images(before - self._find_images(services))

    def _find_images(self, services: Iterable[str]) -> set[str]:
        return {one.image_id for name in services for one in self._find_containers(name) if one.image_id}

    def _remove_images(self, ids: Iterable[str]) -> None:
        from orchestrator.actions.images import list_used_images, open_image_store

        store = open_image_store()
        for one in ids:
            image = store.resolve_image(one)
            if image is not None and not image.references:
                try:
                    store.remove_image(one, in_use=lambda: list_used_images(self._engine))
                except StackError:
                    continue  # another image stands on it, or somebody was faster

    def _restart(self, services: tuple[str, ...]) -> None:
        from orchestrator.actions.lifecycle import prepare_restart

        goal = prepare_restart(self._engine, self._project, services, timeout=None, dependents=True)
        names = _render_names(services)
        done = goal is not None and self._converge(goal, "watch")
        self._say(f"service(s) {names} restarted" if done else f"Failed to restart service(s) {names}")

    def _run_hook(self, rule: WatchRule) -> None:
        assert rule.hook is not None
        request = ExecRequest(
            command=rule.hook.command,
            user=rule.hook.user,
            working_dir=rule.hook.working_dir,
            environment={name: value or "" for name, value in rule.hook.environment.items()},
            privileged=rule.hook.privileged,
        )
        for container in self._find_containers(rule.service):
            if container.status != "running":
                continue
            result = self._engine.exec_captured(container, request, timeout=HOOK_SECONDS)
            for line in result.output.splitlines():
                self._say(f"{container.name} | {line}")
            if result.exit_code:
                command = " ".join(rule.hook.command)
                self._say(f"{container.name}: `{command}` ended with exit code {result.exit_code}")


def _render_names(services: Sequence[str]) -> str:
    return "[" + " ".join(f'"{name}"' for name in services) + "]"


def describe_rules(rules: Sequence[WatchRule]) -> list[dict[str, Any]]:
    """What is watched, as plain data."""
    return [
        {
            "service": one.service,
            "action": one.action,
            "path": one.path,
            **({"target": one.target} if one.syncs else {}),
        }
        for one in rules
    ]
