"""Shell patterns of ``${v#p}``, ``${v%p}`` and ``${v/p/r}``: ``*`` and ``?``, without brackets. Pure.

No regular expressions with wildcards: a pattern like ``*a*a*a*b`` would make them take exponential time.
"""

from __future__ import annotations

from orchestrator.engines.native.dockerfile.front.problems import Problem

ANY = ""
"""Stands for ``?`` in a piece."""

Piece = tuple[str, ...]
"""What stands between two ``*``: characters, and ANY."""


def parse_pattern(text: str) -> tuple[Piece, ...]:
    r"""Split at the ``*``; ``\*``, ``\?`` and ``\\`` are literal, as are ``\}`` and ``\/``. Raises Problem."""
    pieces: list[list[str]] = [[]]
    characters = iter(text)
    for char in characters:
        if char == "*":
            pieces.append([])
        elif char == "?":
            pieces[-1].append(ANY)
        elif char == "\\":
            escaped = next(characters, "")
            if escaped not in ("*", "?", "\\", "}", "/") or not escaped:
                raise Problem(f"invalid escape \\{escaped} in the pattern {text!r}", hint=r"known are \* \? and \\")
            pieces[-1].append(escaped)
        else:
            pieces[-1].append(char)
    return tuple(tuple(piece) for piece in pieces)


def trim_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """`value` without the shortest or longest beginning that matches."""
    end = _match_start(value, parse_pattern(pattern), longest)
    return value if end is None else value[end:]


def trim_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """`value` without the shortest or longest end that matches."""
    mirrored = tuple(piece[::-1] for piece in reversed(parse_pattern(pattern)))
    end = _match_start(value[::-1], mirrored, longest)
    return value if end is None else value[: len(value) - end]


def replace_pattern(value: str, pattern: str, replacement: str, *, every: bool) -> str:
    """`value` with the first, or every, match replaced; a match is as long as it can be."""
    pieces = parse_pattern(pattern)
    result, position = "", 0
    last_end = -1
    while position <= len(value):
        found = _find(value, pieces, position)
        if found is None:
            break
        start, end = found
        if start == end == last_end:
            # An empty match right behind a match does not count, as in Go and Perl.
            result += value[position : position + 1]
            position += 1
            last_end = -1
            continue
        result += value[position:start] + replacement
        position = last_end = end
        if not every:
            break
        if start == end:
            result += value[position : position + 1]
            position += 1
    return result + value[position:]


def _match_start(value: str, pieces: tuple[Piece, ...], longest: bool) -> int | None:
    """Where a match that begins at 0 ends."""
    if not _fits(value, pieces[0], 0):
        return None
    return _match_rest(value, pieces, len(pieces[0]), longest)


def _match_rest(value: str, pieces: tuple[Piece, ...], position: int, longest: bool) -> int | None:
    """Where the match ends whose first piece ends at `position`.

    Taking each piece at its first place leaves the most room for the others; the longest match only differs in the
    last one.
    """
    for piece in pieces[1:-1]:
        start = _seek(value, piece, position)
        if start is None:
            return None
        position = start + len(piece)
    if len(pieces) == 1:
        return position
    last = pieces[-1]
    start = _seek_back(value, last, position) if longest else _seek(value, last, position)
    return None if start is None else start + len(last)


def _find(value: str, pieces: tuple[Piece, ...], position: int) -> tuple[int, int] | None:
    """The first match from `position` on, as long as possible."""
    start = _seek(value, pieces[0], position)
    if start is None:
        return None
    end = _match_rest(value, pieces, start + len(pieces[0]), True)
    return None if end is None else (start, end)


def _fits(value: str, piece: Piece, at: int) -> bool:
    if at + len(piece) > len(value):
        return False
    return all(char is ANY or char == value[at + index] for index, char in enumerate(piece))


def _seek(value: str, piece: Piece, position: int) -> int | None:
    if ANY not in piece:
        found = value.find("".join(piece), position)
        return None if found < 0 else found
    return next((at for at in range(position, len(value) - len(piece) + 1) if _fits(value, piece, at)), None)


def _seek_back(value: str, piece: Piece, position: int) -> int | None:
    if ANY not in piece:
        found = value.rfind("".join(piece), position)
        return None if found < 0 else found
    return next((at for at in range(len(value) - len(piece), position - 1, -1) if _fits(value, piece, at)), None)
