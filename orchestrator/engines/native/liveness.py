"""Whether a container's main process is still the one that was started: same boot, same pid, same start time."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3


def read_boot_id() -> str:
    """The kernel's boot id; a pid of another boot is never ours."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read(36)


def read_process_start(pid: int) -> int:
    """Start time of a process in clock ticks since boot (``proc(5)``, stat field 22); 0 when it is gone or a zombie."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fields = os.read(fd, 4096).rpartition(b")")[2].split()
    except OSError:
        return 0
    finally:
        os.close(fd)
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def is_alive(row: sqlite3.Row, boot_id: str) -> bool:
    """True while the container's main process runs: same boot, same pid, same start time."""
    pid = int(row["pid"])
    return pid > 0 and row["boot_id"] == boot_id and read_process_start(pid) == row["pid_start"] != 0
