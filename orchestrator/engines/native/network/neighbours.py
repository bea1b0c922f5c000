"""Projects that share a network tell each other when a container on it comes or goes.

Each supervisor answers its own containers' queries; a name of another project on an external network must reach it
without polling. One file is touched for every change on a shared network, and every supervisor watches it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from orchestrator.engines.native.layout import Layout
from orchestrator.engines.native.store import Store

if TYPE_CHECKING:
    import asyncio

    from orchestrator.engines.native.host import Inotify

_SHARED = """
SELECT 1 FROM networks n WHERE n.name IN ({marks}) AND (n.project != ? OR EXISTS (
  SELECT 1 FROM endpoints e JOIN containers c ON c.id = e.container_id
  WHERE e.network = n.name AND c.project != ?)) LIMIT 1
"""


class Neighbours:
    """Announces changes on shared networks and hears those of others."""

    def __init__(self, layout: Layout, store: Store) -> None:
        self._file = layout.run / "shared-networks"
        self._store = store
        self._inotify: Inotify | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def announce(self, project: str, networks: Collection[str]) -> None:
        """Tell the other projects, if any of `networks` is shared with one."""
        names = sorted(networks)
        if not names:
            return
        query = _SHARED.format(marks=",".join("?" * len(names)))
        if self._store.row(query, *names, project, project) is not None:
            self._touch()
            os.utime(self._file)

    def listen(self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
        """Call `changed` on `loop` whenever a project announces. Idempotent; may be called from any thread."""
        if self._inotify is not None:
            return
        from orchestrator.engines.native.host import IN_ATTRIB, Inotify

        self._touch()
        inotify = self._inotify = Inotify()
        inotify.add(str(self._file), IN_ATTRIB)

        def heard() -> None:
            if any(True for _event in inotify.read()):
                changed()

        self._loop = loop
        loop.call_soon_threadsafe(loop.add_reader, inotify.fileno(), heard)

    def stop(self) -> None:
        """End listening; called from the loop's thread."""
        if self._inotify is not None and self._loop is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = self._loop = None

    def _touch(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
