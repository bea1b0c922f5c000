"""The native engine's store: containers, networks, volumes and leases in one SQLite file in WAL mode.

Every method is one transaction. Leases (container names, addresses, host ports) are rows with unique keys, so that two
projects, or two processes, can never hold the same one.
"""

from __future__ import annotations

# Not the package around it, which imports datetime for column types that no table here has.
import _sqlite3 as sqlite3
import _weakref
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.engines.native.places import SCHEMA_VERSION
from orchestrator.errors import Conflict, NotFound, Unavailable

_BUSY_TIMEOUT = 20.0

_UNUSABLE = (sqlite3.OperationalError, sqlite3.DatabaseError)
"""What says that the file is at fault; their subclasses, such as a constraint that does not hold, say otherwise."""

_SCHEMA = """
CREATE TABLE containers (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, project TEXT NOT NULL, service TEXT NOT NULL, number INTEGER NOT NULL,
  oneoff INTEGER NOT NULL, image TEXT NOT NULL, image_id TEXT NOT NULL, config_hash TEXT NOT NULL, spec TEXT NOT NULL,
  created_at REAL NOT NULL, state TEXT NOT NULL DEFAULT 'created', pid INTEGER NOT NULL DEFAULT 0,
  pid_start INTEGER NOT NULL DEFAULT 0, monitor_pid INTEGER NOT NULL DEFAULT 0, boot_id TEXT NOT NULL DEFAULT '',
  started_at REAL NOT NULL DEFAULT 0, finished_at REAL NOT NULL DEFAULT 0, exit_code INTEGER,
  oom INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', hold INTEGER NOT NULL DEFAULT 0,
  paused INTEGER NOT NULL DEFAULT 0, restart_count INTEGER NOT NULL DEFAULT 0, health TEXT,
  restart_at REAL NOT NULL DEFAULT 0, hooks_due INTEGER NOT NULL DEFAULT 0);
CREATE INDEX containers_project ON containers (project);
CREATE TABLE endpoints (
  container_id TEXT NOT NULL REFERENCES containers ON DELETE CASCADE, network TEXT NOT NULL, position INTEGER NOT NULL,
  ipv4 TEXT, ipv6 TEXT, mac TEXT NOT NULL, interface TEXT NOT NULL, aliases TEXT NOT NULL,
  PRIMARY KEY (container_id, network), UNIQUE (network, ipv4), UNIQUE (network, ipv6));
CREATE TABLE ports (
  host_ip TEXT NOT NULL, host_port INTEGER NOT NULL, protocol TEXT NOT NULL, container_port INTEGER NOT NULL,
  container_id TEXT NOT NULL REFERENCES containers ON DELETE CASCADE, PRIMARY KEY (host_ip, host_port, protocol));
CREATE INDEX ports_container ON ports (container_id);
CREATE TABLE networks (
  name TEXT PRIMARY KEY, key TEXT NOT NULL, project TEXT NOT NULL, driver TEXT NOT NULL, bridge TEXT NOT NULL UNIQUE,
  pools TEXT NOT NULL, internal INTEGER NOT NULL, config TEXT NOT NULL, created_at REAL NOT NULL);
CREATE TABLE volumes (
  name TEXT PRIMARY KEY, key TEXT NOT NULL, project TEXT NOT NULL, driver TEXT NOT NULL, config TEXT NOT NULL,
  created_at REAL NOT NULL);
CREATE TABLE mounts (
  container_id TEXT NOT NULL REFERENCES containers ON DELETE CASCADE, target TEXT NOT NULL, volume TEXT NOT NULL,
  anonymous INTEGER NOT NULL, PRIMARY KEY (container_id, target));
CREATE INDEX mounts_volume ON mounts (volume);
"""

_RESTART_AT = "ALTER TABLE containers ADD COLUMN restart_at REAL NOT NULL DEFAULT 0"
_HOOKS_DUE = "ALTER TABLE containers ADD COLUMN hooks_due INTEGER NOT NULL DEFAULT 0"

_UPGRADES = {1: (_RESTART_AT, _HOOKS_DUE), 2: (_HOOKS_DUE,)}
"""What brings a store of an earlier version to this one."""


_opened: dict[int, _weakref.ref[Store]] = {}
"""The stores that have a connection, by id: one that is gone, or closed, leaves no trace here."""


_LOCK = threading.RLock()
"""Of all stores of this process, so that none of its threads opens one while another thread forks."""


@contextmanager
def closed_stores() -> Iterator[None]:
    """For who is about to fork: nothing of any store is open in this process until the end of the block.

    SQLite keeps books, per process, on the locks that it holds. A child that opens the file while a connection of its
    parent is in the books takes no lock, and whoever leaves last takes the journal away under it. The next call after
    the block opens the store again.
    """
    with _LOCK:
        while _opened:
            _key, reference = _opened.popitem()
            store = reference()
            if store is not None:
                store.close()
        yield


def _forget(key: int) -> None:
    _opened.pop(key, None)


class Store:
    """One connection, shared by the process's threads behind a lock; opened on first use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = _LOCK
        self._connection: sqlite3.Connection | None = None
        self._owner = 0

    def exists(self) -> bool:
        """True when an engine has ever written here; readers need not make an empty store."""
        return self._path.exists()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: committed at the end, rolled back on any exception."""
        with self._lock:
            connection = self._open()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                # A full disk ends some transactions by itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.DatabaseError) and type(error) in _UNUSABLE:
                    raise self._explain(error, "write") from error
                raise

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a SELECT; none when there is no store yet."""
        with self._lock:
            if self._connection is None and not self.exists():
                return []
            connection = self._open()
            try:
                return connection.execute(query, values).fetchall()
            except _UNUSABLE as error:
                if type(error) not in _UNUSABLE:
                    raise
                raise self._explain(error, "read") from error

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a SELECT, or None."""
        found = self.rows(query, *values)
        return found[0] if found else None

    def check(self, patience: float) -> str:
        """What is wrong with the store: ``locked`` if nobody could write for `patience` seconds, or how it is damaged.

        Empty when it is well. Raises Unavailable where it cannot be opened at all.
        """
        with self._lock:
            connection = self._open()
            try:
                connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            except sqlite3.OperationalError as error:
                said = str(error)
                if "locked" in said:
                    return "locked"
                # Where nothing can be written now, nothing is wrong with what is there.
                return "" if "full" in said or "readonly" in said else said
            except sqlite3.DatabaseError as error:
                return str(error)
            finally:
                connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_TIMEOUT * 1000)}")
        return "" if found == "ok" else str(found)

    def _open(self) -> sqlite3.Connection:
        # SQLite forbids carrying a connection across fork(2); the supervisor is forked from the command.
        if self._connection is not None and self._owner == os.getpid():
            return self._connection
        try:
            if not self._path.parent.exists():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.parent.chmod(0o711)
            # It remembers secrets. SQLite gives the files beside it the mode that it has when they are made. Never open
            # one that is there: closing it would drop the locks of every other connection of this process, and the
            # next process to leave would take the journal away under them.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=256
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = NORMAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                self._create(connection, version)
        except (OSError, sqlite3.Error) as error:
            raise self._explain(error, "open") from error
        self._connection, self._owner = connection, os.getpid()
        key = id(self)
        _opened[key] = _weakref.ref(self, lambda _gone: _forget(key))
        return connection

    def _explain(self, error: Exception, operation: str) -> Unavailable:
        if any(word in str(error) for word in ("malformed", "not a database")):
            return Unavailable(
                f"the store {self._path} is damaged: {error}",
                resource=str(self._path),
                operation=operation,
                hint=f"`sqlite3 {self._path} .recover` saves what is left; moved away, `up` makes everything anew",
            )
        return Unavailable(
            f"cannot {operation} the store {self._path}: {error}",
            resource=str(self._path),
            operation=operation,
            hint="check that the disk is not full and that you may write there, or set STACK_STATE_DIR",
        )

    def _create(self, connection: sqlite3.Connection, version: int) -> None:
        if version > SCHEMA_VERSION:
            raise Unavailable(
                f"the store {self._path} was written by a newer version of stack",
                resource=str(self._path),
                operation="open",
                hint="upgrade stack, or point STACK_STATE_DIR somewhere else",
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        # Another process may have created it while this one waited for the lock.
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found < SCHEMA_VERSION:
            for statement in _SCHEMA.split(";\n") if found == 0 else _UPGRADES[found]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        with self._lock:
            if self._connection is not None and self._owner == os.getpid():
                self._connection.close()
            self._connection = None
            _forget(id(self))

    # Containers

    def insert_container(
        self,
        values: Mapping[str, Any],
        *,
        endpoints: Iterable[Mapping[str, Any]] = (),
        mounts: Iterable[Mapping[str, Any]] = (),
        connection: sqlite3.Connection,
    ) -> None:
        """Add a container with its endpoints and volumes in the caller's transaction. Conflict on a taken lease."""
        try:
            _insert(connection, "containers", values)
        except sqlite3.IntegrityError as error:
            holder = connection.execute("SELECT project FROM containers WHERE name = ?", (values["name"],)).fetchone()
            owner = f" of project {holder['project']}" if holder else ""
            raise Conflict(
                f"the container name {values['name']} is taken by a container{owner}",
                resource=values["name"],
                operation="create container",
                hint="choose another container_name, or bring the other project down",
            ) from error
        for endpoint in endpoints:
            self.insert_endpoint({**endpoint, "container_id": values["id"]}, connection=connection)
        for mount in mounts:
            _insert(connection, "mounts", {**mount, "container_id": values["id"]})

    def insert_endpoint(self, values: Mapping[str, Any], *, connection: sqlite3.Connection) -> None:
        """Add a container's place on a network in the caller's transaction. Conflict on a taken address."""
        try:
            _insert(connection, "endpoints", values)
        except sqlite3.IntegrityError as error:
            address = values.get("ipv4") or values.get("ipv6")
            raise Conflict(
                f"address {address} is already in use on network {values['network']}",
                resource=str(address),
                operation="assign an address",
                hint="another container holds it; choose another ipv4_address/ipv6_address",
            ) from error

    def update_container(self, container_id: str, **values: Any) -> bool:
        """Set columns of one container; False when there is none."""
        assignments = ", ".join(f"{name} = ?" for name in values)
        with self.writing() as connection:
            changed = connection.execute(
                f"UPDATE containers SET {assignments} WHERE id = ?",
                (*values.values(), container_id),
            )
            return changed.rowcount > 0

    def container(self, reference: str) -> sqlite3.Row | None:
        """One container by id or by name."""
        return self.row("SELECT * FROM containers WHERE id = ? OR name = ?", reference, reference)

    def containers(self, project: str | None = None) -> list[sqlite3.Row]:
        """The containers of a project, or all of them, in order of creation."""
        if project is None:
            return self.rows("SELECT * FROM containers ORDER BY created_at, id")
        return self.rows("SELECT * FROM containers WHERE project = ? ORDER BY created_at, id", project)

    # Ports

    def lease_ports(self, container_id: str, bindings: Iterable[Mapping[str, Any]]) -> None:
        """Take host ports for a container, all or none. Conflict names the container that holds one.

        NotFound when the container has been removed meanwhile.
        """
        with self.writing() as connection:
            here = connection.execute("SELECT project FROM containers WHERE id = ?", (container_id,)).fetchone()
            if here is None:
                raise NotFound(
                    f"no container {container_id[:12]}: it has been removed", resource=container_id, operation="start"
                )
            for binding in bindings:
                held = connection.execute(
                    "SELECT c.name, c.project, p.host_ip FROM ports p JOIN containers c ON c.id = p.container_id "
                    "WHERE p.host_port = ? AND p.protocol = ? AND p.container_id != ?",
                    (binding["host_port"], binding["protocol"], container_id),
                )
                clash = next((row for row in held if _overlap(row["host_ip"], binding["host_ip"])), None)
                if clash is not None:
                    port = f"{binding['host_port']}/{binding['protocol']}"
                    raise Conflict(
                        f"host port {port} is taken by container {clash['name']} of project {clash['project']}",
                        resource=port,
                        operation="publish port",
                        hint=_advise_port(clash, here["project"]),
                    )
                connection.execute(
                    "INSERT OR REPLACE INTO ports (host_ip, host_port, protocol, container_port, container_id) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (
                        binding["host_ip"],
                        binding["host_port"],
                        binding["protocol"],
                        binding["container_port"],
                        container_id,
                    ),
                )

    def release_ports(self, container_id: str) -> bool:
        """Give back a container's host ports; True if it had any."""
        if self.row("SELECT 1 FROM ports WHERE container_id = ? LIMIT 1", container_id) is None:
            return False
        with self.writing() as connection:
            return connection.execute("DELETE FROM ports WHERE container_id = ?", (container_id,)).rowcount > 0


def _advise_port(holder: sqlite3.Row, project: str) -> str:
    if holder["project"] == project:
        return f"two containers of this project want it, this one and {holder['name']}; let one publish another port"
    return f"publish another port, or run: stack -p {holder['project']} down"


def _overlap(one: str, other: str) -> bool:
    """True when two host addresses share any address; "" is every address of both families."""
    if one == other or "" in (one, other):
        return True
    same_family = (":" in one) == (":" in other)
    return same_family and bool({one, other} & {"0.0.0.0", "::"})


def _insert(connection: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> None:
    columns = ", ".join(values)
    marks = ", ".join("?" for _ in values)
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(values.values()))


def dump_json(value: Any) -> str:
    """Compact JSON with sorted keys."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def now() -> float:
    """The wall clock; containers are stamped with it."""
    return time.time()
