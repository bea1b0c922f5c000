"""What a build tells while it goes on: vertices that open and close, numbered in the order in which they begin."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.engines.native.dockerfile.request import BuildEvent
from orchestrator.engines.native.images.failures import TransferCancelled
from orchestrator.errors import StackError

if TYPE_CHECKING:
    from orchestrator.engines.native.dockerfile.front.steps import Step
    from orchestrator.engines.native.dockerfile.request import BuildProgress

_STATUS_STEP = 0.1  # seconds between two figures of the same vertex


class Vertex:
    """One line of the display, open until its block ends."""

    def __init__(self, narrator: Narrator, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.closed_as: Literal["done", "cached"] = "done"
        self._narrator = narrator
        self._told = 0.0

    def log(self, text: str, stream: str = "stdout") -> None:
        """Output of what the step does."""
        self._narrator.send("log", self.number, text=text, stream=stream)

    def status(self, text: str, current: int, total: int) -> None:
        """A measured part; most figures that come thick and fast are left out."""
        now = time.monotonic()
        if current < total and now - self._told < _STATUS_STEP:
            return
        self._told = now
        self._narrator.send("status", self.number, text=text, current=current, total=total)

    def mark_cached(self) -> None:
        """It turned out that nothing had to be done."""
        self.closed_as = "cached"


class Narrator:
    """Turns what happens into events. Thread-safe.

    `titles` gives the shown name of each step that makes a layer, by stage index and position.
    """

    def __init__(self, progress: BuildProgress) -> None:
        self.titles: Mapping[tuple[int, int], str] = {}
        self._progress = progress
        self._next = 0
        self._lock = Lock()

    def send(self, kind: Any, vertex: int, **fields: Any) -> None:
        """Send one event."""
        self._progress(BuildEvent(kind=kind, vertex=vertex, time=time.time(), **fields))

    def warn(self, text: str) -> None:
        """Tell of something that belongs to no vertex."""
        self.send("warning", 0, text=text)

    @contextmanager
    def open(self, name: str) -> Iterator[Vertex]:
        """A vertex for as long as the block lasts."""
        with self._lock:
            self._next += 1
            number = self._next
        vertex = Vertex(self, number, name)
        self.send("started", number, name=name)
        try:
            yield vertex
        except TransferCancelled:
            self.send("cancelled", number)
            raise
        except StackError as error:
            self.send("failed", number, text=error.message)
            raise
        except BaseException as error:
            self.send("failed", number, text=str(error) or type(error).__name__)
            raise
        self.send(vertex.closed_as, number)

    def tell_step(self, stage: int, position: int, step: Step) -> Any:
        """`open` for a step of a stage."""
        return self.open(self._title(stage, position, step))

    def tell_cached(self, stage: int, position: int, step: Step) -> None:
        """A step whose layer is there."""
        with self.tell_step(stage, position, step) as vertex:
            vertex.mark_cached()

    def _title(self, stage: int, position: int, step: Step) -> str:
        return self.titles.get((stage, position), step.text)
