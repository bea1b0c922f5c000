"""Ending a container's main process: the stop signal, the grace period, SIGKILL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orchestrator.engines.native.runtime.process import parse_signal, send_signal, wait_process
from orchestrator.errors import EngineError

if TYPE_CHECKING:
    import _sqlite3 as sqlite3

    from orchestrator.engines.native.container import ContainerSpec
    from orchestrator.engines.native.images.store import ImageStore
    from orchestrator.engines.native.journal import Journal

_KILL_PATIENCE: Final = 20.0


def ask_to_stop(images: ImageStore, journal: Journal, row: sqlite3.Row, spec: ContainerSpec) -> None:
    """Send the service's stop signal, or the image's, or SIGTERM."""
    name = spec.service.stop_signal
    if not name:
        image = images.resolve_image(row["image_id"])
        name = (image.config.stop_signal if image is not None else None) or "SIGTERM"
    number = parse_signal(name)
    journal.note(row, "kill", spec.labels, signal=str(number))
    send_signal(row["pid"], row["pid_start"], number)


def await_stop(journal: Journal, row: sqlite3.Row, spec: ContainerSpec, timeout: float | None) -> None:
    """Wait until the process has ended, and kill it after `timeout` seconds: None is the service's grace period, a
    negative number has no end. EngineError when not even that ends it."""
    pid, start = row["pid"], row["pid_start"]
    grace = spec.service.stop_grace_period if timeout is None else timeout
    if wait_process(pid, start, grace if grace >= 0 else None):
        return
    journal.note(row, "kill", spec.labels, signal="9")
    send_signal(pid, start, parse_signal("SIGKILL"))
    if not wait_process(pid, start, _KILL_PATIENCE):
        raise EngineError(
            f"{row['name']} does not die: the kernel holds its process {pid}",
            resource=row["name"],
            operation="stop container",
            hint="its storage may hang; look at `dmesg`",
        )
