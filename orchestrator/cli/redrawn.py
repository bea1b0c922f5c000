"""What displays that are redrawn in place have in common: they take the terminal when there is something to show."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from typing import Self

    from rich.console import OverflowMethod, RenderableType


class RedrawnScreen(ABC):
    """A display on stderr; a subclass says in :meth:`draw` what it shows. Redrawn by a thread of rich's."""

    def __init__(self, *, colour: bool, shared: bool) -> None:
        """`shared`: others write to the same terminal, and what they write goes above the display."""
        self._console = Console(stderr=True, highlight=False, no_color=not colour, force_terminal=True)
        self._live = Live(self, console=self._console, refresh_per_second=10, redirect_stdout=shared)
        self._open = False
        self._lock = threading.Lock()

    def _take_terminal(self) -> None:
        with self._lock:
            if not self._open:
                self._open = True
                self._live.start()

    def close(self) -> None:
        """Draw once more and give the terminal back."""
        with self._lock:
            if self._open:
                self._open = False
                self._live.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _room(self) -> int:
        """Lines below the heading."""
        return max(3, self._console.size.height - 3)

    def __rich__(self) -> RenderableType:
        """What rich draws: while others may write, the cursor is on a line of its own.

        The ``^C`` that the terminal echoes would otherwise break the last line, and one line would be redrawn too few.
        """
        return Group(self.draw(), Text("")) if self._open else self.draw()

    @abstractmethod
    def draw(self) -> RenderableType:
        """What is shown now."""


def knows_signs(console: Console) -> bool:
    """Whether the terminal shows more than ASCII; what it does not know would come as a long escape sequence."""
    return console.encoding.lower().startswith("utf")


def choose_overflow(console: Console) -> OverflowMethod:
    """How a line that is too long ends on this terminal."""
    return "ellipsis" if knows_signs(console) else "crop"
