"""The lines around the panels: how the project is, which panel is shown, what has happened, which keys there are."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from rich.text import Text
from textual.content import Content
from textual.widgets import Static

from orchestrator.actions.console.news import News
from orchestrator.actions.console.rows import Totals
from orchestrator.cli.quantities import render_binary_size
from orchestrator.cli.ui.ansi import clean
from orchestrator.cli.ui.keys import KEYS

KEPT_NEWS: Final = 200

_TONES: Final = {"": "", "good": "green", "bad": "bold red", "warn": "yellow"}


class Summary(Static):
    """The project in one line."""

    def show(
        self, project: str, totals: Totals, use: tuple[float, int] | None, supervised: bool, busy: Sequence[str]
    ) -> None:
        """Show these."""
        parts = [Content.styled(project, "bold"), Content(f"{totals.running}/{totals.containers} running")]
        for count, word, style in (
            (totals.unhealthy, "unhealthy", "$text-error"),
            (totals.failed, "failed", "$text-error"),
            (totals.orphans, "orphans" if totals.orphans > 1 else "orphan", "$text-warning"),
        ):
            if count:
                parts.append(Content.styled(f"{count} {word}", style))
        if use is not None and totals.running:
            parts.append(Content(f"cpu {use[0]:.1f}%  mem {render_binary_size(use[1])}"))
        if totals.running and not supervised:
            parts.append(Content.styled("no supervisor", "$text-warning"))
        left = Content(" · ").join(parts)
        if busy:
            left = Content.assemble(left, "  ", (f"◐ {', '.join(busy)}", "$text-warning"))
        self.update(left, layout=False)


class PanelBar(Static):
    """Which panel is shown, of what, and how its output goes."""

    def show(self, panels: Sequence[tuple[str, str]], shown: str, subject: str, status: str) -> None:
        """Show these; a click on a name shows its panel."""
        parts: list[Content] = []
        for number, (key, name) in enumerate(panels, 1):
            style = "bold reverse" if key == shown else ""
            label = Content.styled(f" {number} {name} ", style)
            parts.append(label.stylize(f"@click=app.panel('{key}')"))
        left = Content(" ").join(parts)
        room = self.size.width - left.cell_length - 2
        about = f"{subject}  {status}".strip()
        if len(about) > room:
            about = f"{about[: max(room - 1, 0)]}…" if room > 3 else ""
        self.update(
            Content.assemble(left, " " * max(2, room - len(about) + 2), (about, "$foreground-muted")), layout=False
        )


class NewsList(Static):
    """What has happened last, the newest at the bottom."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.news: deque[News] = deque(maxlen=KEPT_NEWS)

    def add(self, found: Iterable[News]) -> None:
        """Add what has happened."""
        self.news.extend(found)
        self.redraw()

    def redraw(self) -> None:
        """Show as many as there is room for."""
        newest = sorted(self.news, key=lambda one: one.time)[-max(1, self.size.height) :]
        width = max((len(one.subject) for one in newest), default=0)
        text = Text(no_wrap=True, overflow="ellipsis")
        for place, one in enumerate(newest):
            text.append("\n" if place else "")
            text.append(time.strftime("%H:%M:%S ", time.localtime(one.time)), style="dim")
            text.append(f"{clean(one.subject).ljust(min(width, 24))} ")
            text.append(clean(one.text), style=_TONES[one.tone])
        self.update(text, layout=False)

    def on_resize(self) -> None:
        """Another number of lines."""
        self.redraw()


class KeyBar(Static):
    """The keys with one word each; those that would do nothing to the chosen row are faint."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._off: frozenset[str] = frozenset()

    def show(self, off: Collection[str]) -> None:
        """Show which actions (by the first word of their names) would do nothing."""
        if frozenset(off) != self._off:
            self._off = frozenset(off)
            self.redraw()

    def on_mount(self) -> None:
        """Show them for the first time."""
        self.redraw()

    def on_resize(self) -> None:
        """Fill the lines anew."""
        self.redraw()

    def redraw(self) -> None:
        """Put the keys into lines; those that lead on are there even if others have no room."""
        shown = [one for one in KEYS if one.label]
        width = max(10, self.size.width)
        rows = 2 if self.size.height != 1 or width >= 100 else 1
        limit = self.styles.max_height.value if self.styles.max_height is not None else rows
        rows = min(rows, int(limit))
        while True:
            lines: list[list[Content]] = [[]]
            used = 0
            for one in shown:
                piece = self._render_key(one.shown, one.label, one.action)
                if used and used + piece.cell_length + 2 > width:
                    lines.append([])
                    used = 0
                used += piece.cell_length + (2 if used else 0)
                lines[-1].append(piece)
            if len(lines) <= rows or len(shown) <= 2:
                break
            # Help and quit stand last and are never left out.
            shown = [*shown[:-3], *shown[-2:]]
        self.update(Content("\n").join(Content("  ").join(line) for line in lines))

    def _render_key(self, shown: str, label: str, action: str) -> Content:
        word = action.partition("(")[0]
        off = action in self._off or word in self._off
        piece = Content.assemble((shown, "bold $accent" if not off else "$foreground-muted"), " ")
        piece = Content.assemble(piece, (label, "$foreground-muted" if off else "$foreground"))
        return piece.stylize(f"@click=app.{action}")
