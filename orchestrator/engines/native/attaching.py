"""Attaching to a container that runs, or to one that somebody is about to start for us."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from orchestrator.engines.native.container import is_alive, load_spec, read_boot_id
from orchestrator.engines.native.observing import resolve_status
from orchestrator.engines.native.runtime.attach import Line
from orchestrator.engines.native.runtime.calling import Caller, forget_caller
from orchestrator.errors import Conflict, NotFound

if TYPE_CHECKING:
    from orchestrator.engines.base import AttachRequest
    from orchestrator.engines.native.container import ContainerSpec
    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.runtime.attach import Ending
    from orchestrator.engines.native.store import Store
    from orchestrator.state import Container

_LOOK_AGAIN: Final = 0.005
_SETTLING: Final = 10.0
"""Seconds that the supervisor gets to write down the end of a container whose monitor has ended."""

LOST_CODE: Final = 255


def attach_container(
    layout: Layout, store: Store, container: Container, request: AttachRequest, begin: Callable[[], None] | None
) -> int | None:
    """Relay until the container has ended, and return its exit code; None when it was left with the detach keys.

    NotFound, Conflict: there is nothing to attach to. What `begin` raises is raised here.
    """
    row = store.container(container.id)
    if row is None:
        raise NotFound(f"no container {container.name}", resource=container.name, operation="attach")
    spec = load_spec(row)
    if begin is None:
        if not is_alive(row, read_boot_id()):
            raise Conflict(
                f"{container.name} is not running",
                resource=container.name,
                operation="attach",
                hint=f"start it with: stack start {container.service}",
            )
        line = _open_line(layout, container, spec)
        ending = _converse(line, request, lambda: line.copy_size(redraw=True))
    else:
        ending = _begin_attached(layout, container, spec, request, begin)
    return None if ending == "detached" else await_exit(layout, store, container.id)


def _begin_attached(
    layout: Layout, container: Container, spec: ContainerSpec, request: AttachRequest, begin: Callable[[], None]
) -> Ending:
    with Caller(layout, container.id) as caller:
        beginning = _Beginning(begin)
        waiter = select.poll()
        for one in (caller, beginning):
            waiter.register(one, select.POLLIN)
        if caller.fileno() not in dict(waiter.poll()):
            beginning.finish()
            raise Conflict(f"{container.name} was not started", resource=container.name, operation="start container")
        caller.accept()
        line = _open_line(layout, container, spec)
        line.copy_size()
        ending = _converse(line, request, caller.go)
    # Nobody is listening any more: a start that was begun anew meanwhile, by another supervisor, fails at once.
    beginning.finish()
    return ending


def _open_line(layout: Layout, container: Container, spec: ContainerSpec) -> Line:
    return Line(layout, container.id, container.name, tty=spec.service.tty, stdin=spec.service.stdin_open)


def _converse(line: Line, request: AttachRequest, begin: Callable[[], None]) -> Ending:
    try:
        ending = line.converse(request, begin)
        if ending == "ended":
            line.await_end()
        return ending
    finally:
        line.close()


class _Beginning:
    """A call in a thread of its own; its descriptor is readable when it has returned."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._error: BaseException | None = None
        self._done = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="begin", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._done

    def finish(self) -> None:
        """Wait until it has returned; raise what it raised."""
        self._thread.join()
        os.close(self._done)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:  # raised again by whoever waits
            self._error = error
        os.eventfd_write(self._done, 1)


def await_caller(layout: Layout, store: Store, container_id: str) -> None:
    """Wait until the process that a container was made for has ended; what it wanted of the container it has then."""
    from orchestrator.engines.native.runtime.process import wait_process

    row = store.container(container_id)
    spec = load_spec(row) if row is not None and row["boot_id"] in ("", read_boot_id()) else None
    if spec is not None and spec.called and spec.caller:
        wait_process(*spec.caller)
        forget_caller(layout, container_id)


def await_exit(layout: Layout, store: Store, container_id: str) -> int:
    """The exit code of a container whose processes have ended, once that is written down; 255 if nobody knows it.

    Whoever removes it afterwards finds it settled.
    """
    end = time.monotonic() + _SETTLING
    while (row := store.container(container_id)) is not None:
        if row["state"] != "running" and row["exit_code"] is not None:
            return int(row["exit_code"])
        if time.monotonic() > end:
            # No supervisor is there to do it.
            _status, ending = resolve_status(layout, row, read_boot_id())
            return ending[0] if ending is not None else LOST_CODE
        time.sleep(_LOOK_AGAIN)
    return LOST_CODE
