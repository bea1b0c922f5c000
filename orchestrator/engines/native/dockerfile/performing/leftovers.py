"""What a build that was killed has left behind, and the guard that sees to it at once.

Commands of RUN steps are children of the build, and outlive it when it is killed. Each is noted in a folder below
``builds`` of the run directory that belongs to the build as long as that holds its lock. The guard is a shell that
waits for the build's end at a pipe; without a goodbye it starts this module, which ends what the dead have left. A
guard that was killed too leaves that to the next build, or to the collector.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.engines.native.images.content import hold_lock, remove_tree, try_lock
from orchestrator.engines.native.images.workspace import list_stale
from orchestrator.engines.native.network.namespaces import delete_namespace
from orchestrator.engines.native.recovery import end_by_command
from orchestrator.engines.native.runtime.cgroups import remove_cgroup
from orchestrator.engines.native.runtime.oci_runtime import forget_container
from orchestrator.engines.native.runtime.process import end_processes

if TYPE_CHECKING:
    from orchestrator.engines.native.layout import Layout

_GUARD: Final = 'read -r goodbye || exec "$@"'


def runs_folder(layout: Layout) -> Path:
    """Where builds note the commands that they run."""
    return layout.run / "builds"


def runs_lock(layout: Layout) -> Path:
    """Held while a folder appears in, or is taken from, `runs_folder`."""
    return layout.run / "builds.lock"


def render_build_group(layout: Layout, build_id: str) -> str:
    """The control group that the groups of a build's commands are in: its own, so that it can go with the build."""
    return f"/stack-{layout.tag}-build-{build_id}" if layout.tag else f"/stack-build-{build_id}"


class Guard:
    """Ends a build's commands should the build be killed. Made once the first command is about to run."""

    def __init__(self, layout: Layout) -> None:
        from orchestrator.engines.native.spawn import spawn

        read, self._write = os.pipe2(os.O_CLOEXEC)
        root = str(Path(__file__).resolve().parents[5])
        program = f"import sys; sys.path.insert(0, {root!r}); from {__name__} import main; main(sys.argv[1:])"
        command = ["/bin/sh", "-c", _GUARD, "sh", sys.executable, "-c", program, str(layout.state), str(layout.run)]
        try:
            # A session of its own: a Ctrl-C, or a kill of the build's process group, does not reach it.
            self._pid = spawn(command, {0: read}, new_session=True)
        finally:
            os.close(read)

    def dismiss(self) -> None:
        """The build has ended by itself."""
        with suppress(BrokenPipeError):
            os.write(self._write, b"goodbye\n")
        os.close(self._write)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def end_run(container_id: str, cgroups_path: str, pid: int) -> None:
    """Kill a command and the runtime `pid` (our child) that started it."""
    with suppress(ProcessLookupError):
        os.kill(pid, 9)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
    # The runtime's own child may be about to enter the group.
    end_by_command(container_id)
    end_processes(cgroups_path)


def forget_run(layout: Layout, container_id: str, cgroups_path: str) -> None:
    """Remove the runtime's state and the control group of a command that has ended."""
    forget_container(layout, container_id, cgroups_path)


def sweep_builds(layout: Layout) -> None:
    """End and remove what builds have left that were killed. Safe while others build."""
    folder = runs_folder(layout)
    if folder.is_dir():
        with hold_lock(runs_lock(layout)):
            for stale in list_stale(folder):
                _sweep_build(layout, stale)
    _sweep_networks(layout)


def _sweep_build(layout: Layout, folder: Path) -> None:
    group = render_build_group(layout, folder.name)
    entries: list[Path] = []
    with suppress(FileNotFoundError):  # its owner was faster
        entries = sorted(folder.iterdir())
    for entry in entries:
        if entry.is_dir():
            # From the name alone: what a killed build has written may be cut short, and half a path is a larger group.
            cgroups_path = f"{group}/{entry.name}"
            end_by_command(entry.name)
            end_processes(cgroups_path)
            forget_container(layout, entry.name, cgroups_path)
    remove_cgroup(group)
    if layout.netns.is_dir():
        for netns in layout.netns.glob(f"build-{folder.name}-*"):
            delete_namespace(netns)
    remove_tree(folder)


def _sweep_networks(layout: Layout) -> None:
    from orchestrator.engines.native.dockerfile.performing.build_network import numbers_folder, remove_network

    folder = numbers_folder(layout)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            # A number that was given back holds nothing any longer, and its file is empty.
            if try_lock(descriptor) and os.fstat(descriptor).st_size:
                remove_network(layout, int(path.name))
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)


def main(arguments: list[str]) -> None:
    """The guard's work: ``STATE_DIR RUN_DIR``."""
    from orchestrator.engines.native.layout import Layout

    sweep_builds(Layout(Path(arguments[0]), Path(arguments[1])))
