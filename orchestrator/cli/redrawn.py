"""What displays that are redrawn in place have in common: they take the terminal when there is something to show."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.control import Control
from rich.live import Live
from rich.live_render import LiveRender
from rich.segment import ControlType
from rich.text import Text

from orchestrator.cli.terminal import HeldTerminal, hold_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from rich.console import ConsoleOptions, OverflowMethod, RenderableType, RenderResult


class _Picture(LiveRender):
    """What was drawn last, and how to get back to where it begins."""

    widths: tuple[int, ...] = ()
    """Columns of each of its lines."""

    measure: Callable[[], int] = staticmethod(lambda: 1)
    """Tells how many columns the terminal has now."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths, width = [], 0
        for segment in super().__rich_console__(console, options):
            if segment.text == "\n":  # type: ignore[union-attr]
                widths.append(width)
                width = 0
            else:
                width += segment.cell_length  # type: ignore[union-attr]
            yield segment
        self.widths = (*widths, width)

    def position_cursor(self) -> Control:
        """Go up and erase: a terminal that has become narrower has broken the lines that found no room any more."""
        columns = max(1, self.measure())
        height = sum(max(1, -(-one // columns)) for one in self.widths)
        erase = (ControlType.ERASE_IN_LINE, 2)
        up = ((ControlType.CURSOR_UP, 1), erase)
        return Control(ControlType.CARRIAGE_RETURN, erase, *(up * (height - 1))) if height else Control()


class _Display(Live):
    """Rich's display, which waits while the terminal is somebody else's and begins anew where somebody has written."""

    def __init__(self, *args: Any, terminal: HeldTerminal, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._terminal = terminal
        self._live_render = self._picture = _Picture(self.get_renderable(), vertical_overflow=self.vertical_overflow)
        self._picture.measure = lambda: self.console.size.width

    def refresh(self) -> None:
        """Draw, but not between what a shell writes: while we are in the background only the last picture."""
        if self.is_started and not self._terminal.is_ours():
            return
        self._terminal.hold()
        if self._terminal.moved:
            self._terminal.moved = False
            self._picture.widths = ()
            self.console.show_cursor(False)
        super().refresh()


class RedrawnScreen(ABC):
    """A display on stderr; a subclass says in :meth:`draw` what it shows. Redrawn by a thread of rich's."""

    def __init__(self, *, colour: bool, shared: bool, terminal: HeldTerminal | None = None) -> None:
        """`shared`: others write to the same terminal, and what they write goes above the display.

        `terminal` is given where this is no work of the main thread.
        """
        self._console = Console(stderr=True, highlight=False, no_color=not colour, force_terminal=True)
        self._terminal = terminal or hold_terminal()
        self._live = _Display(
            self, console=self._console, refresh_per_second=10, redirect_stdout=shared, terminal=self._terminal
        )
        self._open = False
        self._lock = threading.Lock()

    def _take_terminal(self) -> None:
        with self._lock:
            if not self._open:
                self._open = True
                self._terminal.hold()
                self._live.start()
                if not self._terminal.is_ours():
                    self._console.show_cursor(True)

    def close(self) -> None:
        """Draw once more and give the terminal back."""
        with self._lock:
            if self._open:
                self._open = False
                self._live.stop()
        self._terminal.release()
        self._terminal.unguard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _room(self) -> int:
        """Lines below the heading."""
        return max(1, self._console.size.height - 3)

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
