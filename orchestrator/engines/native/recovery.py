"""What a process that was killed half-way has left behind, and how it is found again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestrator.engines.native import host
from orchestrator.engines.native.runtime.monitor import observe_process
from orchestrator.engines.native.runtime.process import end_processes, send_signal, wait_process

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout

_ROUNDS = 20
_ENDING = 20.0
"""Seconds that a monitor gets to write its exit file once its container is gone."""


def end_launch(layout: Layout, container_id: str, cgroups_path: str) -> None:
    """End everything that runs of a container: its processes, its monitor, a runtime that is only about to start it.

    A launch writes its notes last. Where they are missing, monitor and runtime are known by their command lines alone,
    which carry the container's id.
    """
    folder = layout.container_run(container_id)
    if os.path.exists(folder / "config.json") and not os.path.exists(folder / "process"):
        end_by_command(container_id)
    end_processes(cgroups_path)
    state = observe_process(layout, container_id)
    if state is not None and state.monitored:
        wait_process(state.monitor_pid, state.monitor_start_time, _ENDING)


def await_exit_file(layout: Layout, container_id: str) -> None:
    """conmon writes the exit code some milliseconds after the process is gone; when it ends itself, it has."""
    state = observe_process(layout, container_id)
    if state is not None and state.monitored:
        wait_process(state.monitor_pid, state.monitor_start_time, _ENDING)


def delete_state(layout: Layout, container_id: str) -> None:
    """Delete the persistent folder of a container that is removed."""
    folder = str(layout.container_state(container_id))
    try:
        # A container that wrote nothing has these, and no more.
        with suppress(FileNotFoundError):
            os.unlink(f"{folder}/container.log")
        for name in ("/upper", "/work/work", "/work", ""):
            with suppress(FileNotFoundError):
                os.rmdir(folder + name)
    except OSError:
        from shutil import rmtree

        rmtree(folder, ignore_errors=True)


def end_by_command(container_id: str) -> None:
    """End every runtime and monitor whose command line carries the container's id."""
    for _round in range(_ROUNDS):  # one that forks while we look shows in the next round
        found = _find_by_command(container_id)
        if not found:
            return
        for pid, start in found:
            send_signal(pid, start, 9)
        for pid, start in found:
            wait_process(pid, start, _ENDING)


def _find_by_command(container_id: str) -> list[tuple[int, int]]:
    wanted = container_id.encode()
    found = []
    for pid, words in _list_commands():
        # As an argument of its own, and not of a shell or an editor that happens to name it.
        if wanted in words and _is_launching(words[0]):
            start = host.read_start_time(pid)
            if start:
                found.append((pid, start))
    return found


def list_command_lines() -> list[list[bytes]]:
    """The command line of every process but this one, as words; never empty."""
    return [words for _pid, words in _list_commands()]


def _list_commands() -> Iterator[tuple[int, list[bytes]]]:
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                yield int(entry), file.read().split(b"\0")
        except OSError:
            continue


def _is_launching(program: bytes) -> bool:
    # A runtime that was started from a sealed copy is named by its descriptor.
    sealed = program.startswith(b"/proc/") and b"/fd/" in program
    return sealed or os.path.basename(program) in (b"conmon", b"crun", b"runc", b"nsenter")


def sweep_volumes(layout: Layout) -> None:
    """Delete what is left of volumes whose removal was cut short."""
    try:
        names = os.listdir(layout.volumes)
    except FileNotFoundError:
        return
    for name in names:
        if name.startswith(REMOVED):
            from shutil import rmtree

            rmtree(layout.volumes / name, ignore_errors=True)


REMOVED = ".removing-"
"""What the folders of removed volumes are renamed to first: half a volume never stands under its own name."""
