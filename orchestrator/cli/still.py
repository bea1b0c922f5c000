"""The last picture of the live display where nothing ever moved: drawn at once, without importing what redraws."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_TIME = "0.0s"

_NARROW = 50
"""``live.NARROW``: below, the live display looks different."""


def draw_still(title: str, rows: Mapping[str, str]) -> bool:
    """Write the picture of things (what each is, the word for how it is) to the terminal; False where that is not sure.

    It is left to the live display where colours are not wished, where there is too little room, and where no terminal
    with a known size stands.
    """
    from orchestrator.cli.diagnostics import uses_colour

    size = _find_size()
    encoding = (getattr(sys.stderr, "encoding", None) or "").lower().replace("-", "")
    if size is None or encoding != "utf8" or not uses_colour(sys.stderr):
        return False
    picture = render_still(title, rows, *size)
    if not picture:
        return False
    try:
        sys.stderr.write(picture)
        sys.stderr.flush()
    except (BrokenPipeError, ValueError):
        # As with any display: nobody reads the progress, and that is no failure.
        return True
    return True


def render_still(title: str, rows: Mapping[str, str], width: int, height: int) -> str:
    """What :class:`orchestrator.cli.live.LiveScreen` shows in the end; empty where it would leave something out."""
    longest = max(map(len, rows), default=0)
    room = width - longest - len(_TIME) - 5
    if not rows or width < _NARROW or len(rows) > max(1, height - 3) or room <= max(map(len, rows.values())):
        return ""
    lines = [f"\x1b[1m[+] {title} {len(rows)}/{len(rows)}\x1b[0m"]
    lines += [
        f"\x1b[32m ✔\x1b[0m {name.ljust(longest)} \x1b[32m{f' {word}'.ljust(room)}\x1b[0m \x1b[2;34m{_TIME}\x1b[0m"
        for name, word in rows.items()
    ]
    return "".join(f"{line}\n" for line in lines)


def _find_size() -> tuple[int, int] | None:
    """The terminal's columns and lines; None where the environment says otherwise."""
    if os.environ.get("COLUMNS") or os.environ.get("LINES"):
        return None
    try:
        size = os.get_terminal_size(2)
    except OSError:
        return None
    return (size.columns, size.lines) if size.columns and size.lines else None
