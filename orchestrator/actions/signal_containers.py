"""Signals, freezing and waiting: what is done to containers directly, without a new goal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from orchestrator.actions.containers import choose_containers
from orchestrator.actions.project import Project
from orchestrator.engines.base import Engine
from orchestrator.errors import Conflict, EngineError, NotFound, UsageError
from orchestrator.state import Container

Tell = Callable[[Container, str], None]
"""Takes a container and a word of progress."""


def kill_services(
    engine: Engine,
    project: Project,
    services: Sequence[str],
    signal: str,
    tell: Tell,
    *,
    orphans: bool = False,
    act: bool = True,
) -> int:
    """Send `signal` to every running container of `services`; return how many there were. Raises UsageError.

    One-off containers are among them; those of services that the file lacks if they are named, or with `orphans`.
    Without `act` it only tells which.
    """
    name = parse_signal(signal)
    observed = engine.observe(project.name)
    found = choose_containers(project, observed, services, oneoff=True, orphans=orphans or bool(services))
    chosen = [one for one in found if one.alive]
    for one in chosen:
        tell(one, "Killing")
        if act:
            engine.kill_container(one.id, name)
        tell(one, "Killed")
    return len(chosen)


def pause_services(
    engine: Engine, project: Project, services: Sequence[str], tell: Tell, *, paused: bool, act: bool = True
) -> None:
    """Freeze or thaw what runs of `services` (none: of all that the file has).

    All are tried; then Conflict is raised for one that was frozen already, or was named and not frozen.
    Without `act` it only tells which.
    """
    before, after = ("running", "Paused") if paused else ("paused", "Unpaused")
    observed = engine.observe(project.name)
    conflict: Conflict | None = None
    for one in choose_containers(project, observed, services, every=False, orphans=bool(services)):
        if one.status == before:
            if act:
                engine.pause_container(one.id, paused=paused)
            tell(one, after)
        elif conflict is None and (services or (paused and one.status == "paused")):
            said = "already paused" if paused and one.status == "paused" else f"{one.status}, not {before}"
            conflict = Conflict(
                f"container {one.name} is {said}", resource=one.name, operation="pause" if paused else "unpause"
            )
    if conflict is not None:
        raise conflict


def wait_for_exit(
    engine: Engine,
    project: Project,
    services: Sequence[str],
    on_exit: Callable[[Container], None],
    *,
    first: bool = False,
) -> int:
    """Wait until all containers of the services have ended; return the last exit code that is told to `on_exit`.

    With `first` the first end is enough.
    """
    changed = threading.Event()
    stop_watching = engine.watch(project.name, lambda _change: changed.set())
    try:
        waiting = {one.id for one in _chosen(engine, project, services)}
        if not waiting:
            raise NotFound("no container to wait for", operation="wait")
        code = 0
        while True:
            for one in engine.observe(project.name).containers:
                if one.id in waiting and one.status in ("exited", "dead"):
                    waiting.discard(one.id)
                    code = one.exit_code or 0
                    on_exit(one)
                    if first:
                        return code
            if not waiting:
                return code
            # The time-out is not a poll: a removed container sends no change, and Ctrl-C wants the main thread awake.
            changed.wait(timeout=5.0)
            changed.clear()
            waiting &= {one.id for one in engine.observe(project.name).containers}
    finally:
        stop_watching()


def remove_stopped(engine: Engine, containers: Sequence[Container], tell: Tell, *, volumes: bool) -> None:
    """Remove containers; all are tried, the first failure is raised at the end."""
    failure: EngineError | None = None
    for one in containers:
        tell(one, "Removing")
        try:
            engine.remove_container(one.id, volumes=volumes)
        except EngineError as error:
            failure = failure or error
        else:
            tell(one, "Removed")
    if failure:
        raise failure


def parse_signal(text: str) -> str:
    """Return a signal's full name (``SIGHUP``) for ``HUP``, ``SIGHUP``, ``hup`` or ``1``. Raises UsageError."""
    import signal

    try:
        if text.isdecimal():
            return signal.Signals(int(text)).name
        name = text.upper()
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"].name
    except (KeyError, ValueError):
        from orchestrator.actions.names import suggest_names

        known = [one.name for one in signal.Signals]
        hint = suggest_names(text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}", known)
        raise UsageError(f"there is no signal {text}", hint=hint) from None


def _chosen(engine: Engine, project: Project, services: Sequence[str]) -> tuple[Container, ...]:
    return choose_containers(project, engine.observe(project.name), services)
