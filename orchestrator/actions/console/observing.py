"""Observing a project again whenever it may have changed: once for many changes, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchestrator.actions.containers import mark_restarting
from orchestrator.actions.project import Project
from orchestrator.errors import StackError
from orchestrator.state import ObservedState

if TYPE_CHECKING:
    from orchestrator.engines.base import Engine

CALM = 0.04
"""Seconds in which further changes are waited for before looking."""


class Observer:
    """Calls `take` with the project and what is observed of it, `fail` with an error that is not the one before.

    `load` gives the project as its files have it now; while they cannot be read the last one counts.
    """

    def __init__(
        self,
        engine: Engine,
        project: Project,
        load: Callable[[], Project],
        take: Callable[[Project, ObservedState], None],
        fail: Callable[[StackError], None],
    ) -> None:
        self._engine, self._project, self._load = engine, project, load
        self._take, self._fail = take, fail
        self._wanted = threading.Event()
        self._closed = False
        self._told = ""

    def begin(self) -> None:
        """Look for the first time, and from then on when :meth:`look` asks for it."""
        self._wanted.set()
        threading.Thread(target=self._run, name="observer", daemon=True).start()

    def look(self) -> None:
        """Something may have changed. Never blocks."""
        self._wanted.set()

    def close(self) -> None:
        """End it; idempotent."""
        self._closed = True
        self._wanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._closed:
                return
            self._wanted.clear()
            try:
                self._project = self._load()
                self._told = ""
            except StackError as error:
                self._tell(error)
            try:
                observed = mark_restarting(self._engine.observe(self._project.name), time.time())
            except StackError as error:
                self._tell(error)
            else:
                self._take(self._project, observed)
            time.sleep(CALM)

    def _tell(self, error: StackError) -> None:
        text = error.render()
        if text != self._told:
            self._told = text
            self._fail(error)
