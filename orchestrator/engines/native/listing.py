"""What a table of a project's containers shows: the store's rows and a look at their processes, and no engine.

Importing the engine takes longer than everything that ``ps`` does. What is not certain from here (a container that has
just ended, a store of another version, one that this user may not read) is left to the engine, whose word counts.
"""

from __future__ import annotations

from orchestrator.engines.native.liveness import is_alive, read_boot_id
from orchestrator.engines.native.places import SCHEMA_VERSION, find_database
from orchestrator.plain_json import load_json
from orchestrator.state import Binding, Container, ObservedState

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from orchestrator.state import ContainerStatus

_BUSY_TIMEOUT = 5.0

_CONTAINERS = """
SELECT id, name, project, service, number, image, image_id, config_hash, spec, oneoff, hold, oom, error, state, pid,
  pid_start, boot_id, paused, health, exit_code, created_at, started_at, finished_at, restart_count, restart_at
FROM containers WHERE project = ? ORDER BY created_at, id
"""

_PORTS = """
SELECT container_id, host_ip, host_port, container_port, protocol FROM ports
WHERE container_id IN (SELECT id FROM containers WHERE project = ?) ORDER BY container_port, host_port
"""


def list_briefly(project: str) -> ObservedState | None:
    """The project's containers without endpoints, labels, volumes and most of their configuration; None if in doubt."""
    read = _read_rows(project)
    if read is None:
        return None
    rows, ports = read
    boot_id = read_boot_id() if rows else ""
    bindings: dict[str, list[Binding]] = {}
    for one in ports:
        bindings.setdefault(one["container_id"], []).extend(make_bindings(one))
    found = []
    for row in rows:
        if row["state"] == "running" and not is_alive(row, boot_id):
            # How it ended is not in the store yet.
            return None
        found.append(_read_container(row, tuple(bindings.get(row["id"], ()))))
    return ObservedState(project=project, containers=tuple(found))


def make_bindings(row: sqlite3.Row) -> tuple[Binding, ...]:
    """The published ports that one row of the ``ports`` table stands for: no address is every address."""
    return tuple(
        Binding(
            host_ip=host_ip,
            host_port=row["host_port"],
            container_port=row["container_port"],
            protocol=row["protocol"],
        )
        for host_ip in ((row["host_ip"],) if row["host_ip"] else ("0.0.0.0", "::"))
    )


def _read_rows(project: str) -> tuple[list[Any], list[Any]] | None:
    # The package around it imports datetime, for column types that no table here has.
    import _sqlite3
    import os

    path = find_database()
    if not os.access(path, os.R_OK | os.W_OK):
        return None
    try:
        connection = _sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None)
        try:
            connection.row_factory = _sqlite3.Row
            if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
                return None
            # One transaction, one state of things.
            connection.execute("BEGIN")
            rows = connection.execute(_CONTAINERS, (project,)).fetchall()
            ports = connection.execute(_PORTS, (project,)).fetchall() if rows else []
        finally:
            connection.close()
    except _sqlite3.Error:
        return None
    return rows, ports


def _read_container(row: sqlite3.Row, bindings: tuple[Binding, ...]) -> Container:
    spec = load_json(row["spec"])
    running = row["state"] == "running"
    exposed = (spec["service"].get("config") or {}).get("expose")
    return make_container(
        row,
        status=("paused" if row["paused"] else "running") if running else row["state"],
        ending=(row["exit_code"], row["finished_at"], bool(row["oom"]), row["error"]),
        config={"expose": exposed} if exposed else {},
        auto_remove=bool(spec.get("auto_remove")),
        command=tuple(spec.get("command") or ()),
        bindings=bindings if running else (),
    )


def make_container(
    row: sqlite3.Row, *, status: ContainerStatus, ending: tuple[int | None, float, bool, str], **known: Any
) -> Container:
    """The container that a row of the store stands for, with what else is known of it.

    `ending` is exit code, time, whether memory ran out, and an error's words; what runs has not ended.
    """
    running = status in ("running", "paused")
    code, finished, oom, error = ending
    return Container(
        id=row["id"],
        name=row["name"],
        project=row["project"],
        service=row["service"],
        number=row["number"],
        image=row["image"],
        image_id=row["image_id"],
        status=status,
        config_hash=row["config_hash"],
        oneoff=bool(row["oneoff"]),
        hold=bool(row["hold"]),
        pid=row["pid"] if running else 0,
        exit_code=None if running else code,
        oom_killed=bool(oom),
        error=error,
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=0.0 if running else finished,
        restart_count=row["restart_count"],
        restart_at=0.0 if running else row["restart_at"],
        health=row["health"] if running else None,
        **known,
    )
