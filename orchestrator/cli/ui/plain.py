"""Terminals that know only ASCII: every other character is replaced by one of the same width."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_LIKE: Final = {
    **dict.fromkeys("│┃║▏▕▌▐", "|"),
    **dict.fromkeys("─━═▔▁▂▃▄", "-"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝", "+"),
    **dict.fromkeys("█▅▆▇▀▉▊▋", "#"),
    "●": "*",
    "○": "o",
    "◐": "~",
    "▲": "!",
    "✓": "+",
    "✗": "x",
    "‖": "=",
    "→": ">",
    "↑": "^",
    "↓": "v",
    "…": ".",
    "·": ".",
    "•": "*",
    "↻": "@",
    "└": "`",
    "›": ">",
}


@lru_cache(4096)
def replace_characters(text: str, encoding: str) -> str:
    """Return `text` with what `encoding` lacks replaced; as wide as before."""
    if text.isascii():
        return text
    return "".join(one if _fits(one, encoding) else _LIKE.get(one) or "?" * cell_len(one) for one in text)


def _fits(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class CharacterFilter(LineFilter):
    """Leaves only characters that the terminal's encoding has."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Replace characters in a line."""
        return [Segment(replace_characters(text, self._encoding), style, control) for text, style, control in segments]
