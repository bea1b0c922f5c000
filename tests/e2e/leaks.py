"""What an engine can leave behind on a machine, found by the names and paths that it uses."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from zlib import crc32


def find_leaks(state: Path, run: Path) -> list[str]:
    """Describe every process, mount, namespace, link, nftables table, cgroup and directory that is left."""
    tag = f"{crc32(str(state).encode()) & 0xFFFF:04x}"
    return [
        *(f"process {pid}: {_command(pid)}" for pid in list_processes(state, run)),
        *(f"mount {line}" for line in _mounts(state, run)),
        *(f"namespace {path}" for path in _entries(run / "netns")),
        *(f"link {name}" for name in _links(tag)),
        *(f"nftables table {name}" for name in _tables(tag)),
        *(f"cgroup {path}" for path in _cgroups(tag)),
        *(f"directory {path}" for path in _entries(state / "containers")),
        *(f"directory {path}" for path in _entries(run / "containers")),
        *(f"exit file {path}" for path in _entries(run / "exits")),
        *(f"runtime state {path}" for name in ("crun", "runc") for path in _entries(run / name)),
        *(f"directory {path}" for path in _entries(run / "projects")),
        *(f"directory {path}" for path in _entries(state / "projects")),
        *(f"volume {path}" for path in _entries(state / "volumes")),
    ]


def await_no_leaks(state: Path, run: Path, seconds: float = 3.0) -> list[str]:
    """What is left once a moment has passed: a process that was just ended, and its namespace, need one."""
    end = time.monotonic() + seconds
    while (found := find_leaks(state, run)) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def scrub(state: Path, run: Path) -> None:
    """Remove by force what an engine left behind; images stay."""
    tag = f"{crc32(str(state).encode()) & 0xFFFF:04x}"
    for pid in list_processes(state, run):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for place in sorted(_mounts(state, run), reverse=True):
        subprocess.run(["umount", "-l", place], capture_output=True)
    for table in _tables(tag):
        subprocess.run(["nft", "delete", *table.split()], capture_output=True)
    for name in _links(tag):
        subprocess.run(["ip", "link", "delete", name], capture_output=True)
    for top in _cgroups(tag):
        for folder, _names, _files in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue
    for path in (*_entries(state), *_entries(run)):
        if path.name in ("images", "cache"):
            continue
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def list_processes(state: Path, run: Path) -> list[int]:
    """Processes that carry the engine's directories in their environment or command line, or live in its mounts."""
    marks = (str(state).encode() + b"/", str(run).encode() + b"/", f"STACK_STATE_DIR={state}\0".encode())
    tag = f"{crc32(str(state).encode()) & 0xFFFF:04x}"
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            seen = _read(f"/proc/{entry}/environ") + _read(f"/proc/{entry}/cmdline") + _read(f"/proc/{entry}/cgroup")
        except OSError:
            continue
        if any(mark in seen for mark in marks) or re.search(f"/stack-{tag}[/-]".encode(), seen):
            found.append(int(entry))
    return found


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _command(pid: int) -> str:
    try:
        return _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "(gone)"


def _mounts(state: Path, run: Path) -> list[str]:
    text = Path("/proc/self/mountinfo").read_text()
    places = [line.split()[4] for line in text.splitlines()]
    return [place for place in places if place.startswith((f"{state}/", f"{run}/"))]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _links(tag: str) -> list[str]:
    return [name for name in os.listdir("/sys/class/net") if name.startswith(f"st{tag}-")]


def _tables(tag: str) -> list[str]:
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if f" stack_{tag}_" in line]


def _cgroups(tag: str) -> list[str]:
    found = []
    for folder, names, _files in os.walk("/sys/fs/cgroup"):
        found += [f"{folder}/{name}" for name in names if name.startswith(f"stack-{tag}")]
        if folder.count("/") > 6:
            names.clear()
    return found
