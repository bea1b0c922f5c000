"""What an engine can leave behind on a machine, found by the names and paths that it uses."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from zlib import crc32


def find_leaks(state: Path, run: Path) -> list[str]:
    """Describe every process, mount, namespace, link, nftables table, cgroup and directory that is left."""
    tag = name_engine(state)
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


def await_no_leaks(state: Path, run: Path, seconds: float = 15) -> list[str]:
    """What is left once a moment has passed: a process that was just ended, and its namespace, need one."""
    end = time.monotonic() + seconds
    while (found := find_leaks(state, run)) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def scrub(state: Path, run: Path) -> None:
    """Remove by force what an engine left behind; images stay."""
    tag = name_engine(state)
    _kill(list_processes(state, run))
    _unmount(_mounts(state, run))
    for table in _tables(tag):
        subprocess.run(["nft", "delete", *table.split()], capture_output=True)
    for name in _links(tag):
        subprocess.run(["ip", "link", "delete", name], capture_output=True)
    for top in _cgroups(tag):
        for folder, _names, _files in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
    for path in (*_entries(state), *_entries(run)):
        if path.name in ("images", "cache"):
            continue
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def scrub_below(*tops: Path, mark: str) -> list[str]:
    """Remove by force what engines with directories below some folders left on the machine, and every process that
    carries `mark` in its environment; say what that was. Links and tables go with the network that they are in."""
    marks = [f"{mark}\0".encode(), *(f"{top}/".encode() for top in tops)]
    states, containers = _find_engines(tops)
    found: dict[int, str] = {}
    end = time.monotonic() + 10
    while (pids := _find_processes(marks, containers)) and time.monotonic() < end:
        found |= {pid: _command(pid) for pid in pids if pid not in found}
        _kill(pids)
        time.sleep(0.05)
    mounts = _mounts(*tops)
    _unmount(mounts)
    cgroups = [path for path in _cgroups(*map(name_engine, states)) if _remove_cgroup(path, containers)]
    left = [f"process {pid}: {command}" for pid, command in found.items() if not _serves_multiprocessing(command)]
    return [*left, *(f"mount {one}" for one in mounts), *(f"cgroup {one}" for one in cgroups)]


def _serves_multiprocessing(command: str) -> bool:
    return any(word in command for word in ("resource_tracker", "forkserver"))


def _find_engines(tops: Iterable[Path]) -> tuple[set[Path], set[str]]:
    """Directories that by their names are state directories of engines, and the names of containers.

    A tag is short, and may be that of an engine elsewhere as well: only a container's name says whose a process is.
    """
    states: set[Path] = set()
    containers: set[str] = set()
    for top in tops:
        for place, names, _files in os.walk(top):
            folder = Path(place)
            states.update(folder / name for name in names if name.startswith("state"))
            if folder.name in ("containers", "crun", "runc"):
                containers.update(name for name in names if len(name) >= 12)
                names.clear()
            if folder.name in ("images", "volumes") or len(folder.relative_to(top).parts) > 4:
                names.clear()
    return states, containers


def _remove_cgroup(top: str, containers: set[str]) -> bool:
    """Remove an engine's group with those of its containers; one that holds more belongs to another engine."""
    for place, _names, _files in os.walk(top, topdown=False):
        if containers & set(Path(place).parts):
            with contextlib.suppress(OSError):
                os.rmdir(place)
    with contextlib.suppress(OSError):
        os.rmdir(top)
    return not os.path.exists(top)


def _kill(pids: list[int]) -> None:
    for number in (signal.SIGSTOP, signal.SIGKILL):  # none may start another one again meanwhile
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _unmount(places: list[str]) -> None:
    for place in sorted(places, reverse=True):
        subprocess.run(["umount", "-l", place], capture_output=True)


def list_processes(state: Path, run: Path) -> list[int]:
    """Processes that carry the engine's directories in their environment or command line, or live in its mounts."""
    marks = (str(state).encode() + b"/", str(run).encode() + b"/", f"STACK_STATE_DIR={state}\0".encode())
    return _find_processes(marks, [f"stack-{name_engine(state)}"])


def _find_processes(marks: Collection[bytes], groups: Collection[str]) -> list[int]:
    """Processes with one of `marks` in their environment or command line, or in a control group of one of the names."""
    named = re.compile(f"/(?:{'|'.join(map(re.escape, groups))})[/\\n-]".encode()) if groups else None
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            seen = _read(f"/proc/{entry}/environ") + _read(f"/proc/{entry}/cmdline") + _read(f"/proc/{entry}/cgroup")
        except OSError:
            continue
        if any(mark in seen for mark in marks) or (named is not None and named.search(seen)):
            found.append(int(entry))
    return found


def name_engine(state: Path) -> str:
    """What the names of an engine's links, tables and control groups begin with."""
    sum_ = crc32(str(state).encode())
    return "".join("0123456789abcdefghjkmnpqrstvwxyz"[sum_ >> shift & 31] for shift in (15, 10, 5, 0))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _command(pid: int) -> str:
    try:
        return _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "(gone)"


def _mounts(*folders: Path) -> list[str]:
    text = Path("/proc/self/mountinfo").read_text()
    places = [line.split()[4] for line in text.splitlines()]
    return [place for place in places if place.startswith(tuple(f"{folder}/" for folder in folders))]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _links(tag: str) -> list[str]:
    return [name for _index, name in socket.if_nameindex() if name.startswith(f"st{tag}-")]


def _tables(tag: str) -> list[str]:
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if f" stack_{tag}_" in line]


def _cgroups(*tags: str) -> list[str]:
    starts = tuple(f"stack-{tag}" for tag in tags)
    found = []
    for folder, names, _files in os.walk("/sys/fs/cgroup"):
        found += [f"{folder}/{name}" for name in names if name.startswith(starts)]
        if folder.count("/") > 6:
            names.clear()
    return found
