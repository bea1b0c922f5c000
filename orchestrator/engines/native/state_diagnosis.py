"""``stack doctor`` for what is the engine's own: folders, store, processes, and what nobody owns any more."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from orchestrator.engines.base import Finding
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.engines.native.layout import Layout
    from orchestrator.engines.native.store import Store

_FIX: Final = "`stack doctor --fix`"
_PATIENCE: Final = 1.0
"""Seconds that a writer of the store may take before it counts as stuck: transactions take milliseconds."""

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_SHOWN: Final = 5


def diagnose_state(layout: Layout, store: Store, *, fix: bool) -> Iterator[Finding]:
    """Look at folders, store, processes and strays; with `fix` put right what can be. Needs root."""
    yield from _diagnose_rights(layout, fix=fix)
    yield from _diagnose_writing(layout)
    broken = next(_diagnose_store(layout, store), None)
    yield from _diagnose_stopped(layout)
    if broken is not None:
        yield broken
        return
    yield from _diagnose_neighbours(layout, store)
    yield from _diagnose_strays(layout, store, fix=fix)


def _diagnose_rights(layout: Layout, *, fix: bool) -> Iterator[Finding]:
    """The store remembers secrets, and who can write there can have anything run as root."""
    for path, allowed in (
        (layout.state, 0o755),
        (layout.run, 0o755),
        (layout.database, 0o600),
        (layout.images, 0o755),
        (layout.volumes, 0o755),
        (layout.state / "containers", 0o755),
    ):
        try:
            found = path.lstat()
        except OSError:
            continue
        mode = stat.S_IMODE(found.st_mode)
        wrong = []
        if found.st_uid != os.geteuid():
            wrong.append(f"it belongs to uid {found.st_uid}")
        if mode & ~allowed & (_OTHERS_WRITE if allowed != 0o600 else 0o077):
            wrong.append(f"its mode is {mode:04o}")
        if not wrong:
            continue
        if fix:
            os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)
            path.chmod(mode & allowed)
            yield Finding(name="rights", state="ok", detail=f"{path}: put right ({', '.join(wrong)})")
            continue
        detail = f"{path}: {', '.join(wrong)}: others than root can change what runs as root"
        if allowed == 0o600:
            detail = f"{path}: {', '.join(wrong)}: others than root can read the secrets in it"
        yield Finding(name="rights", state="warning", detail=detail, hint=f"{_FIX} takes that away from them")


def _diagnose_writing(layout: Layout) -> Iterator[Finding]:
    import tempfile

    for place in (layout.state, layout.run):
        if not place.exists():
            continue
        try:
            with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=place) as file:
                file.write(bytes(4096))
                file.flush()
        except OSError as error:
            yield Finding(
                name="disk",
                state="missing",
                detail=f"nothing can be written to {place}: {error.strerror}",
                hint=_advise_writing(error, place),
            )


def _advise_writing(error: OSError, place: Path) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "`stack image prune` and `stack down -v` free some; STACK_STATE_DIR moves everything to another disk"
    if error.errno == errno.EROFS:
        return f"it is mounted read-only: `mount -o remount,rw` what holds {place}, or look at `dmesg` for the reason"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"`lsattr -d {place}`: `chattr -i` lets it be changed again"
    return "look at `dmesg`, or move it with STACK_STATE_DIR and STACK_RUN_DIR"


def _diagnose_store(layout: Layout, store: Store) -> Iterator[Finding]:
    """Whether it is of this version, whole, and nobody sits on it."""
    if not store.exists():
        return
    try:
        problem = store.check(_PATIENCE)
    except StackError as error:
        yield Finding(name="store", state="missing", detail=error.message, hint=error.hint)
        return
    if problem == "locked":
        holders = _find_holders(layout)
        who = ", ".join(f"{name} (pid {pid})" for pid, name in holders)
        detail = f"{layout.database} is locked for writing" + (f" by {who}" if who else "")
        pids = " ".join(str(pid) for pid, _name in holders)
        hint = f"`kill -CONT {pids}` if it is stopped; `kill {pids}` if it hangs" if pids else "look for who hangs"
        yield Finding(name="store", state="missing", detail=f"{detail}: nothing can be started or stopped", hint=hint)
    elif problem:
        yield Finding(
            name="store",
            state="missing",
            detail=f"{layout.database} is damaged: {problem}",
            hint=f"`sqlite3 {layout.database} .recover` saves what is left; without the file, up makes everything anew",
        )


def _find_holders(layout: Layout) -> list[tuple[int, str]]:
    """Who holds write locks on the store's files, from proc(5) ``locks``; a lock's pid is that of this namespace."""
    files = set()
    for suffix in ("", "-shm", "-wal"):
        with suppress(FileNotFoundError):
            files.add(os.stat(f"{layout.database}{suffix}").st_ino)
    found = set()
    with open("/proc/locks", encoding="ascii") as file:
        for line in file:
            words = line.replace("->", "").split()
            if words[3] == "WRITE" and int(words[5].rpartition(":")[2]) in files and int(words[4]) > 0:
                found.add(int(words[4]))
    return [(pid, _read_name(pid)) for pid in sorted(found - {os.getpid()})]


def _read_name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process that is gone"


def _diagnose_stopped(layout: Layout) -> Iterator[Finding]:
    """Supervisors, keepers and monitors that somebody has stopped: they hold their locks and do nothing."""
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                name, _, rest = file.read().partition("(")[2].rpartition(")")
            if rest.split()[0] != "T" or name not in ("stack-supervise", "stack-keeper", "conmon"):
                continue
            if not _is_ours(layout, entry):
                continue
        except OSError:
            continue
        yield Finding(
            name="process",
            state="warning",
            detail=f"{name} (pid {entry}) is stopped: it holds what is its own, and does nothing",
            hint=f"`kill -CONT {entry}` lets it go on",
        )


def _is_ours(layout: Layout, pid: str) -> bool:
    """A monitor names our run folder; a supervisor has its lock there open, and a keeper writes into its log."""
    mark = f"{layout.run}/"
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
        if mark in file.read():
            return True
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{number}").startswith(mark):
                return True
    return False


def _diagnose_neighbours(layout: Layout, store: Store) -> Iterator[Finding]:
    """Links of others in the place of ours: of the same name, or with addresses out of a network of ours."""
    import ipaddress
    import json

    from orchestrator.engines.native.network.links import name_prefix
    from orchestrator.engines.native.network.netlink import Conversation

    rows = store.rows("SELECT name, driver, bridge, pools FROM networks WHERE driver NOT IN ('macvlan', 'ipvlan')")
    if not rows:
        return
    with Conversation() as host:
        links = {link.number: link for link in host.list_links()}
        addresses = host.list_addresses()
    kinds = {link.name: link.kind for link in links.values()}
    ours = {row["bridge"] for row in rows}
    for row in rows:
        if kinds.get(row["bridge"], "bridge") != "bridge":
            yield Finding(
                name="network",
                state="missing",
                detail=f"{row['name']}: a link named {row['bridge']} is in the way, which is no bridge",
                hint=f"`ip link delete {row['bridge']}`",
            )
        subnets = [ipaddress.ip_network(pool["subnet"]) for pool in json.loads(row["pools"])]
        for number, address in addresses:
            link, place = links.get(number), ipaddress.ip_interface(address)
            if link is None or link.name in ours or link.name.startswith(name_prefix(layout.tag)):
                continue
            if any(place.version == one.version and place.network.overlaps(one) for one in subnets):
                yield Finding(
                    name="network",
                    state="warning",
                    detail=f"{row['name']}: its subnet overlaps with {address} of the link {link.name}: "
                    "what is meant for one may go to the other",
                    hint="take the other link away, or `down` and `up`, which chooses a free subnet",
                )


def _diagnose_strays(layout: Layout, store: Store, *, fix: bool) -> Iterator[Finding]:
    from orchestrator.engines.native.strays import find_strays, remove_strays

    found = find_strays(layout, store)
    volumes = [one.name for one in found if one.kind == "volume"]
    if volumes:
        yield Finding(
            name="volume",
            state="warning",
            detail=f"in {layout.volumes}, of no volume that is known, maybe with data: {_join(volumes)}",
            hint="look into them; `rm -r` removes them, and nothing else does",
        )
    strays = [one for one in found if one.kind != "volume"]
    if not strays:
        return
    what = _join([one.describe() for one in strays])
    if fix:
        remove_strays(layout, strays)
        left = [one for one in find_strays(layout, store) if one.kind != "volume"]
        if not left:
            yield Finding(name="leftovers", state="ok", detail=f"removed: {what}")
            return
        what = f"{_join([one.describe() for one in left])}: could not be removed"
    yield Finding(
        name="leftovers",
        state="warning",
        detail=f"belongs to no container that is known: {what}",
        hint=f"{_FIX} removes it",
    )


def _join(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return "; ".join([*names[:_SHOWN], *([f"and {more} more"] if more > 0 else [])])
