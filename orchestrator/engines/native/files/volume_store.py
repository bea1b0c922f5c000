"""Named and anonymous volumes: a row of the store and a folder with a ``_data`` inside."""

from __future__ import annotations

import _sqlite3 as sqlite3
import json
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator.engines.native.files.volume_data import check_volume_name
from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.network.networks import dump_config
from orchestrator.engines.native.recovery import REMOVED
from orchestrator.engines.native.store import Store, now
from orchestrator.errors import Conflict, EngineError
from orchestrator.model import Volume

_ANONYMOUS = 64
"""Digits of an anonymous volume's name."""


class VolumeStore:
    """Creates, finds and removes volumes."""

    def __init__(self, layout: Layout, store: Store) -> None:
        self._layout = layout
        self._store = store

    def path(self, name: str) -> Path:
        """Where the volume's files are."""
        return self._layout.volumes / check_volume_name(name) / "_data"

    def create(self, project: str, volume: Volume) -> None:
        """Create a named volume; one that exists is success, whoever made it."""
        with self._store.writing() as connection:
            if not os.path.isdir(self.path(volume.name)):
                # One that somebody has deleted begins anew, and is newer than what still has the old one mounted.
                connection.execute("UPDATE volumes SET created_at = ? WHERE name = ?", (now(), volume.name))
            connection.execute(
                "INSERT OR IGNORE INTO volumes (name, key, project, driver, config, created_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (volume.name, volume.key, project, volume.driver or "local", dump_config(volume.config), now()),
            )
        self.ensure(volume.name)

    def ensure(self, name: str) -> Path:
        """Make the volume's folder unless it is there, and return it."""
        path = self.path(name)
        try:
            os.makedirs(path, mode=0o755, exist_ok=True)
        except OSError as error:
            raise EngineError(
                f"cannot create volume {name}: {error.strerror}", resource=name, operation="create volume"
            ) from error
        return path

    def find(self, name: str) -> sqlite3.Row | None:
        """The row of one volume."""
        return self._store.row("SELECT * FROM volumes WHERE name = ?", name)

    def remove(self, name: str) -> None:
        """Remove a volume with what is in it. Conflict while a container holds it; one that is gone is success."""
        with self._store.writing() as connection:
            users = connection.execute(
                "SELECT c.name FROM mounts m JOIN containers c ON c.id = m.container_id WHERE m.volume = ?", (name,)
            ).fetchall()
            if users:
                shown = ", ".join(sorted(one["name"] for one in users)[:5])
                raise Conflict(
                    f"the volume {name} is used by {shown}",
                    resource=name,
                    operation="remove volume",
                    hint="remove those containers first",
                )
            doomed = self._put_aside(name)
            connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
        self.delete([doomed])

    def forget_anonymous(self, connection: sqlite3.Connection, container_id: str) -> list[Path]:
        """Take the anonymous volumes that only this container holds out of the store, in the caller's transaction.

        Returns folders for :meth:`delete`.
        """
        found = connection.execute(
            "SELECT volume FROM mounts WHERE container_id = ? AND anonymous = 1 AND volume NOT IN "
            "(SELECT volume FROM mounts WHERE container_id != ?)",
            (container_id, container_id),
        ).fetchall()
        for one in found:
            connection.execute("DELETE FROM volumes WHERE name = ? AND key = ''", (one["volume"],))
        return [self._put_aside(one["volume"]) for one in found]

    def drop_unknown(self) -> None:
        """Delete anonymous volumes that the store does not know: a start makes them, and its container was removed."""
        with suppress(FileNotFoundError):
            # Their names are listed first: a row is there before its folder.
            names = [name for name in os.listdir(self._layout.volumes) if len(name) == _ANONYMOUS and name.isalnum()]
            known = {row["name"] for row in self._store.rows("SELECT name FROM volumes")}
            self.delete([self._put_aside(name) for name in names if name not in known])

    def _put_aside(self, name: str) -> Path:
        # Before the row is gone: a crash in between leaves an empty volume, never old data under a new one's name.
        doomed = self._layout.volumes / f"{REMOVED}{os.urandom(8).hex()}"
        with suppress(FileNotFoundError):
            (self._layout.volumes / check_volume_name(name)).rename(doomed)
        return doomed

    def delete(self, folders: Iterable[Path]) -> None:
        """Delete what was put aside."""
        for folder in folders:
            if folder.exists():
                from shutil import rmtree

                rmtree(folder, ignore_errors=True)


def read_volume_options(store: Store, names: Collection[str]) -> Mapping[str, Mapping[str, str]]:
    """The ``driver_opts`` of those volumes that have any, by name."""
    marks = ",".join("?" * len(names))
    rows = store.rows(f"SELECT name, config FROM volumes WHERE name IN ({marks})", *sorted(names)) if names else []
    options = {row["name"]: json.loads(row["config"]).get("driver_opts") for row in rows}
    return {name: found for name, found in options.items() if found}
