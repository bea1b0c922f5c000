"""What containers write, made harmless for a screen: colours stay, everything else that moves a terminal goes."""

from __future__ import annotations

from typing import Final

from rich.ansi import AnsiDecoder
from rich.text import Text

LONGEST: Final = 8192
"""Characters of a line that are shown."""

_CONTROLS: Final = {code: "·" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\t\r\x1b"}
_REST: Final = {0x1B: "·", 0x0D: "·"}


class LineDecoder:
    """Turns lines into styled text; a colour that a line leaves on goes on in the next."""

    def __init__(self) -> None:
        self._decoder = AnsiDecoder()

    def decode(self, line: str) -> Text:
        """Return one line as text of the same look; without line breaks and control characters."""
        if len(line) > LONGEST:
            line = line[:LONGEST] + "…"
        if line.isprintable() and not self._decoder.style:
            return Text(line, no_wrap=True, end="")
        line = line.translate(_CONTROLS)
        # A progress bar writes over its line: what is seen in the end is what counts.
        text = self._decoder.decode_line(line.rstrip("\r"))
        text.plain = text.plain.translate(_REST)
        if "\t" in text.plain:
            text.expand_tabs(8)
        text.no_wrap = True
        text.end = ""
        return text


def clean(text: str) -> str:
    """Return foreign text without escape sequences and control characters, on one line."""
    return LineDecoder().decode(text.replace("\n", " ")).plain
