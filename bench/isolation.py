"""A network and a mount namespace for the whole run: no tool touches the machine's bridges, firewall or mounts.

All tools run in the same two namespaces, so that none of them pays for the isolation more than another. Everything that
they leave there goes away with the last process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MARK = "STACK_BENCH_ISOLATED"


def enter_isolation() -> None:
    """Runs this program again inside new namespaces, unless it is there already. Needs root."""
    if os.environ.get(MARK):
        prepare_namespaces()
        return
    if os.geteuid() != 0:
        raise SystemExit("error: the benchmark starts containers and needs root\n  hint: sudo bench/compare.py")
    unshare = shutil.which("unshare") or "/usr/bin/unshare"
    os.environ[MARK] = "1"
    os.execv(unshare, [unshare, "--net", "--mount", "--propagation", "private", sys.executable, *sys.orig_argv[1:]])


def prepare_namespaces() -> None:
    """Loopback up, and a /sys that shows this network namespace (Docker looks for its bridges there)."""
    steps = (
        ["ip", "link", "set", "lo", "up"],
        ["mount", "--rbind", "/sys/fs/cgroup", "/mnt"],
        ["mount", "-t", "sysfs", "sysfs", "/sys"],
        ["mount", "--rbind", "/mnt", "/sys/fs/cgroup"],
        ["umount", "-l", "/mnt"],
    )
    for step in steps:
        subprocess.run(step, check=True)


def list_cgroups() -> set[Path]:
    """The top-level groups of Docker and Podman, everywhere: no namespace holds cgroups."""
    names = ("docker", "libpod_parent")
    return {path for name in names for path in [*CGROUPS.glob(name), *CGROUPS.glob(f"*/{name}")]}


def remove_cgroups(before: set[Path]) -> None:
    """Removes the empty groups that this run's tools left behind."""
    for top in list_cgroups() - before:
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
