"""Named and anonymous volumes: a row of the store and a folder with a ``_data`` inside."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.networks import dump_config
from orchestrator.engines.native.store import Store, now
from orchestrator.errors import Conflict, EngineError
from orchestrator.model import Volume


class VolumeStore:
    """Creates, finds and removes volumes."""

    def __init__(self, layout: Layout, store: Store) -> None:
        self._layout = layout
        self._store = store

    def path(self, name: str) -> Path:
        """Where the volume's files are."""
        return self._layout.volumes / name / "_data"

    def create(self, project: str, volume: Volume) -> None:
        """Create a named volume; one that exists is success, whoever made it."""
        with self._store.writing() as connection:
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
            connection.execute("DELETE FROM volumes WHERE name = ?", (name,))
        self._delete(name)

    def remove_anonymous(self, names: list[str]) -> None:
        """Remove those of the anonymous volumes `names` that no container holds any longer."""
        for name in names:
            with self._store.writing() as connection:
                held = connection.execute("SELECT 1 FROM mounts WHERE volume = ?", (name,)).fetchone()
                if held is not None:
                    continue
                connection.execute("DELETE FROM volumes WHERE name = ? AND key = ''", (name,))
            self._delete(name)

    def _delete(self, name: str) -> None:
        folder = self._layout.volumes / name
        if not folder.exists():
            return
        import shutil

        # Renamed first: a crash in the middle leaves no half-empty volume under its own name.
        doomed = self._layout.volumes / f".removing-{os.urandom(8).hex()}"
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
