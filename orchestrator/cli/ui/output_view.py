"""The output of containers on the screen: bounded, wrapped, followed or held, searched."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, Final

from rich.style import Style
from rich.text import Text
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from orchestrator.cli.ui.ansi import LineDecoder, clean

SCROLLBACK: Final = 5000
"""Lines that are kept."""

_SHADES: Final = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")


class _Line:
    """One line: who wrote it, when (RFC 3339), what."""

    __slots__ = ("moment", "name", "text")

    def __init__(self, name: str, moment: str, text: Text) -> None:
        self.name, self.moment, self.text = name, moment, text


class OutputView(ScrollView, can_focus=False):
    """Lines of output. Posts :class:`Moved` when what is to be said about it has changed."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"output--match", "output--current"}

    class Moved(Message):
        """Follows or not, other matches, other lines."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.following = True
        self.wraps = True
        self.timed = False
        self.missed = 0
        """Lines that have come since it was held."""
        self._lines: list[_Line] = []
        self._rows: list[tuple[int, int, int]] = []
        """What is on each row: a line's number since the beginning, and from which to which character."""
        self._first = 0
        """The number of the oldest line that is kept."""
        self._decoders: dict[tuple[str, str], LineDecoder] = {}
        self._names: dict[str, int] = {}
        self._name_width = 0
        self._prefixed = False
        self._pattern: re.Pattern[str] | None = None
        self._found: list[int] = []
        self._current = -1
        self._width = 0

    @property
    def count(self) -> int:
        """How many lines are kept."""
        return len(self._lines)

    @property
    def matches(self) -> tuple[int, int]:
        """Which match is the current one (from 1, 0: none), and how many there are."""
        return (self._found.index(self._current) + 1 if self._current in self._found else 0, len(self._found))

    def clear(self, *, prefixed: bool) -> None:
        """Begin anew; `prefixed` puts the container's name before each line."""
        self._lines, self._rows, self._first = [], [], 0
        self._decoders, self._names, self._name_width, self._prefixed = {}, {}, 0, prefixed
        self._found, self._current, self.missed, self.following = [], -1, 0, True
        self._measure()
        self.scroll_to(y=0, animate=False, force=True)
        self.refresh()

    def append(self, lines: Iterable[tuple[str, str, str, str]]) -> None:
        """Add lines: (container, stream, time, text)."""
        added = 0
        for name, stream, moment, raw in lines:
            decoder = self._decoders.setdefault((name, stream), LineDecoder())
            if name not in self._names:
                self._names[name] = len(self._names)
                self._name_width = max(self._name_width, len(name))
            self._lines.append(_Line(name, moment, decoder.decode(raw)))
            self._lay_out(len(self._lines) - 1)
            if self._pattern is not None and self._pattern.search(self._lines[-1].text.plain):
                self._found.append(self._first + len(self._lines) - 1)
            added += 1
        gone = self._trim()
        self._measure()
        if self.following:
            self._scroll_to_end()
        else:
            self.missed += added
            if gone:
                self.scroll_to(y=max(0, self.scroll_offset.y - gone), animate=False, force=True)
        self.refresh()
        self.post_message(self.Moved())

    def add_remark(self, text: str) -> None:
        """Add a line of our own."""
        self._lines.append(_Line("", "", Text(clean(text), style="italic dim")))
        self._lay_out(len(self._lines) - 1)
        self._measure()
        self.refresh()

    def _trim(self) -> int:
        """Forget the oldest lines beyond the limit, many at a time; return how many rows that were."""
        over = len(self._lines) - SCROLLBACK
        if over <= 0:
            return 0
        over = min(over + SCROLLBACK // 20, len(self._lines))
        self._first += over
        del self._lines[:over]
        gone = next((at for at, row in enumerate(self._rows) if row[0] >= self._first), len(self._rows))
        del self._rows[:gone]
        self._found = [number for number in self._found if number >= self._first]
        return gone

    # Laying out

    def _show_line(self, line: _Line) -> Text:
        """A line with what stands before it."""
        moment, name = self._find_prefix(line)
        if not moment and not name:
            return line.text
        shade = _SHADES[self._names.get(line.name, 0) % len(_SHADES)]
        return Text(no_wrap=True, end="").append(moment, style="dim").append(name, style=shade).append_text(line.text)

    def _find_prefix(self, line: _Line) -> tuple[str, str]:
        moment = f"{line.moment[11:23]} " if self.timed and line.moment else ""
        return moment, f"{line.name.ljust(self._name_width)} │ " if self._prefixed and line.name else ""

    def _lay_out(self, at: int) -> None:
        line = self._lines[at]
        number, text = self._first + at, line.text.plain
        if self.timed or self._prefixed:
            text = "".join((*self._find_prefix(line), text))
        if not self.wraps or self._width <= 0:
            self._rows.append((number, 0, len(text)))
            return
        for begin, end in break_line(text, self._width):
            self._rows.append((number, begin, end))

    def _lay_out_all(self) -> None:
        """After a change of width or of what stands before the lines; what was on top stays there."""
        top = self._rows[self.scroll_offset.y][0] if self.scroll_offset.y < len(self._rows) else self._first
        self._rows = []
        for at in range(len(self._lines)):
            self._lay_out(at)
        self._measure()
        if self.following:
            self._scroll_to_end()
        else:
            self._scroll_to_line(top)
        self.refresh()

    def _measure(self) -> None:
        width = self._width if self.wraps else max((end - begin for _, begin, end in self._rows), default=0)
        self.virtual_size = Size(max(width, 1), len(self._rows))

    def on_resize(self, _event: events.Resize) -> None:
        """Break the lines anew when the width has changed."""
        self._fit()
        # The scroll bar may come only now, and tells nobody of the room that it takes.
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        width = max(1, self.scrollable_content_region.width)
        if width != self._width:
            self._width = width
            self._lay_out_all()
        elif self.following:
            self._scroll_to_end()

    def set_wraps(self, wraps: bool) -> None:
        """Break long lines, or cut them."""
        self.wraps = wraps
        self._lay_out_all()

    def set_timed(self, timed: bool) -> None:
        """Show times, or not."""
        self.timed = timed
        self._lay_out_all()

    # Moving

    def follow(self, following: bool) -> None:
        """Stay at the end, or where it is."""
        self.following = following
        self.missed = 0
        if following:
            self._scroll_to_end()
        self.post_message(self.Moved())

    def move(self, rows: int) -> None:
        """Scroll by so many rows; at the end it follows again."""
        last = max(0, len(self._rows) - self.size.height)
        to = min(max(0, self.scroll_offset.y + rows), last)
        self.scroll_to(y=to, animate=False, force=True)
        if self.following != (to >= last):
            self.follow(to >= last)

    def _scroll_to_end(self) -> None:
        self.scroll_to(y=max(0, len(self._rows) - self.size.height), animate=False, force=True)

    def _scroll_to_line(self, number: int) -> None:
        at = next((at for at, row in enumerate(self._rows) if row[0] >= number), 0)
        self.scroll_to(y=at, animate=False, force=True)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        self._turn(event, -3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        self._turn(event, 3)

    def _turn(self, event: events.MouseEvent, rows: int) -> None:
        event.stop()
        event.prevent_default()
        self.move(rows)

    # Searching

    def search(self, word: str) -> None:
        """Mark what has `word` in it (capitals count if it has any), and go to the newest; empty: forget it."""
        self._pattern = re.compile(re.escape(word), 0 if word != word.lower() else re.IGNORECASE) if word else None
        self._found, self._current = [], -1
        if self._pattern is not None:
            search = self._pattern.search
            self._found = [self._first + at for at, one in enumerate(self._lines) if search(one.text.plain)]
        if self._found:
            self._go_to(self._found[-1])
        self.refresh()
        self.post_message(self.Moved())

    def step(self, by: int) -> bool:
        """Go to the next match (or the one before), around the end; False without any."""
        if not self._found:
            return False
        at = self._found.index(self._current) if self._current in self._found else -1
        self._go_to(self._found[(at + by) % len(self._found)])
        return True

    def _go_to(self, number: int) -> None:
        self._current = number
        at = next((at for at, row in enumerate(self._rows) if row[0] >= number), 0)
        self.follow(False)
        top, height = self.scroll_offset.y, self.size.height
        if not top <= at < top + height:
            self.scroll_to(y=max(0, at - height // 2), animate=False, force=True)
        self.refresh()

    # Drawing

    def render_line(self, y: int) -> Strip:
        """One row."""
        scroll_x, scroll_y = self.scroll_offset
        at, width = scroll_y + y, self.scrollable_content_region.width
        if at >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        number, begin, end = self._rows[at]
        line = self._lines[number - self._first]
        text = self._show_line(line)
        if self._pattern is not None:
            text = text.copy()
            current = number == self._current
            style: Style = self.get_component_rich_style("output--current" if current else "output--match")
            for found in self._pattern.finditer(text.plain):
                text.stylize(style, *found.span())
        strip = Strip(list(text[begin:end].render(self.app.console)))
        return strip.crop_extend(scroll_x, scroll_x + width, Style()).apply_style(self.rich_style)


def break_line(text: str, width: int) -> list[tuple[int, int]]:
    """Where a line is broken: from which to which character each row goes; wide characters count twice. Pure."""
    if text.isascii():
        return [(at, min(at + width, len(text))) for at in range(0, len(text), width)] or [(0, 0)]
    from rich.cells import get_character_cell_size

    rows, begin, used = [], 0, 0
    for at, one in enumerate(text):
        cells = get_character_cell_size(one)
        if used + cells > width and at > begin:
            rows.append((begin, at))
            begin, used = at, 0
        used += cells
    return [*rows, (begin, len(text))]
