"""Users and groups as the image knows them: names resolved in its own passwd and group files, never the host's."""

from __future__ import annotations

import os
from collections.abc import Sequence

from orchestrator.engines.native import host
from orchestrator.errors import NotFound
from orchestrator.record import Record

_HIGHEST_ID = 0x7FFFFFFF


class Identity(Record):
    """Who the container's process is. `home` is the passwd entry's directory, ``/`` for a user without an entry."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve_identity(rootfs: str, user: str, group_add: Sequence[str] = (), *, path: str = "user") -> Identity:
    """Resolve ``user``, ``uid``, ``user:group`` or ``uid:gid`` (empty is root) against the files below `rootfs`.

    A numeric id needs no entry; a name does, else NotFound, with the attribute's `path` in the message.
    """
    name, _, group = user.partition(":")
    if not name or name in ("0", "root"):
        # Every image's root is 0; its entry is still read for the home directory.
        name = name or "0"
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        users = _read_table(root, "etc/passwd", 6)
        teams: list[list[str]] | None = None
        entry = _find(users, name)
        if entry is None and not name.isdigit():
            raise NotFound(
                f"{_place(path)}the image has no user {name!r}",
                resource=name,
                operation="resolve user",
                hint=f"{path} must name an entry of the image's /etc/passwd, or be a number",
            )
        uid = int(entry[2]) if entry else _check_id(name, path)
        gid = int(entry[3]) if entry and entry[3].isdigit() else 0
        groups: list[int] = []
        if group or group_add or entry:
            teams = _read_table(root, "etc/group", 3)
        if group:
            gid = _resolve_group(teams or [], group, path)
        elif entry:
            groups = [int(team[2]) for team in teams or [] if entry[0] in _members(team) and team[2].isdigit()]
        added = f"{path.removesuffix('user')}group_add"
        groups += [_resolve_group(teams or [], one, added) for one in group_add]
        home = entry[5] if entry and entry[5] else "/"
        # Docker's order: the main group first in the list, then the others, each once.
        unique = tuple(dict.fromkeys([gid, *groups]))
        return Identity(uid=uid, gid=gid, groups=unique, home=home)
    finally:
        os.close(root)


def _place(path: str) -> str:
    # Of a service it is an attribute with a line, elsewhere an option.
    return f"{path}: " if path.startswith("services.") else ""


def _members(team: list[str]) -> list[str]:
    return team[3].split(",") if len(team) > 3 else []


def _find(rows: list[list[str]], name: str) -> list[str] | None:
    for row in rows:
        if row[0] == name and row[2].isdigit():
            return row
    if name.isdigit():
        for row in rows:
            if row[2].isdigit() and int(row[2]) == int(name):
                return row
    return None


def _resolve_group(teams: list[list[str]], name: str, path: str) -> int:
    entry = _find(teams, name)
    if entry is not None:
        return int(entry[2])
    if name.isdigit():
        return _check_id(name, path)
    raise NotFound(
        f"{_place(path)}the image has no group {name!r}",
        resource=name,
        operation="resolve group",
        hint=f"{path} must name an entry of the image's /etc/group, or be a number",
    )


def _check_id(text: str, path: str) -> int:
    value = int(text)
    if value > _HIGHEST_ID:
        raise NotFound(f"{text} is not a user or group id", resource=text, hint=f"{path}: ids go up to {_HIGHEST_ID}")
    return value


def _read_table(root: int, path: str, fields: int) -> list[list[str]]:
    try:
        # O_NONBLOCK: an image could have put a pipe there, and nobody would ever write to it.
        fd = host.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        with os.fdopen(fd, "rb") as file:
            text = file.read(16 << 20).decode("utf-8", "surrogateescape")
    except OSError:
        return []
    rows = (line.strip().split(":") for line in text.splitlines() if line and line[0] not in "#+-")
    return [row for row in rows if len(row) >= fields]
