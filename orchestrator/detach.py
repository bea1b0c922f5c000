"""Leaving the control group that a command was started in, so that its end is not ours.

A login session, a service or a build job is a control group to systemd, and when it ends, what is left in it is killed.
Our long-lived processes belong to none of them: they go to the root group, where nobody owns them and nothing is left
to be removed after them. Only imported by processes that stay.
"""

from __future__ import annotations

import os

_ROOT = "/sys/fs/cgroup"


def leave_control_group(pid: int) -> bool:
    """Move process `pid` (ours or a child) out of the groups that systemd tracks; True when it is in none of them.

    False where this is not allowed (no root, a control group namespace that has its own idea of the root); the
    process then stays where it is, and goes on.
    """
    clean = True
    for number, controllers, path in _list_groups(pid):
        # systemd tracks by the unified hierarchy, by its named one where that is all there is, or by both.
        if path == "/" or not (number == "0" or controllers == "name=systemd"):
            continue
        clean &= _join(f"{_find_root(number)}/cgroup.procs", pid)
    return clean


def is_machine_ending() -> bool:
    """Whether systemd has ended all services and is now ending every process that is left."""
    try:
        with open("/proc/1/comm") as file:
            return file.read().startswith("systemd-shutdow")
    except OSError:
        return False


def _list_groups(pid: int) -> list[tuple[str, str, str]]:
    found = []
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            for line in file:
                number, controllers, path = line.rstrip("\n").split(":", 2)
                found.append((number, controllers, path))
    except OSError:
        return []
    return found


def _find_root(number: str) -> str:
    if number != "0":
        return f"{_ROOT}/systemd"
    return _ROOT if os.path.exists(f"{_ROOT}/cgroup.controllers") else f"{_ROOT}/unified"


def _join(procs: str, pid: int) -> bool:
    try:
        fd = os.open(procs, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, str(pid).encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
