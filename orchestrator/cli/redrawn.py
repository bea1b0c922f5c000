"""What displays that are redrawn in place have in common: they take the terminal when there is something to show."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live

if TYPE_CHECKING:
    from typing import Self

    from rich.console import RenderableType


class RedrawnScreen(ABC):
    """A display on stderr; a subclass says in ``__rich__`` what it shows. Redrawn by a thread of rich's."""

    def __init__(self, *, colour: bool, shared: bool) -> None:
        """`shared`: others write to the same terminal, and what they write goes above the display."""
        self._console = Console(stderr=True, highlight=False, no_color=not colour, force_terminal=True)
        self._live = Live(self, console=self._console, refresh_per_second=10, redirect_stdout=shared)
        self._open = False

    def _take_terminal(self) -> None:
        if not self._open:
            self._open = True
            self._live.start()

    def close(self) -> None:
        """Draw once more and give the terminal back."""
        if self._open:
            self._open = False
            self._live.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def __rich__(self) -> RenderableType:
        """What is shown now."""
