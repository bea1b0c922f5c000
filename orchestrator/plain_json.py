"""Reading JSON with the interpreter's own scanner: importing ``json`` takes longer than reading what ``ps`` needs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def load_json(text: str) -> Any:
    """The value that `text` holds, as ``json.loads`` gives it. ValueError where it is not JSON."""
    scan = _find_scanner()
    if scan is not None:
        try:
            value, end = scan(text, 0)
        except StopIteration:
            end = -1
        if end == len(text):
            return value
    # Space around the value, no such scanner, or something to complain about.
    import json

    return json.loads(text)


class _Plain:
    """The way that ``json.loads`` reads."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> float:
        """``NaN`` and the infinities."""
        return float(name.replace("Infinity", "inf"))


_scanner: list[Callable[[str, int], tuple[Any, int]] | None] = []


def _find_scanner() -> Callable[[str, int], tuple[Any, int]] | None:
    if not _scanner:
        try:
            from _json import make_scanner

            options: Any = _Plain
            _scanner.append(make_scanner(options))
        except (ImportError, AttributeError, TypeError):
            _scanner.append(None)
    return _scanner[0]
