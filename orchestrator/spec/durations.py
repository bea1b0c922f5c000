"""Durations and sizes: parsing what people write, rendering what the canonical model shows."""

from __future__ import annotations

import re

_UNITS = {
    "w": 604_800_000_000_000, "d": 86_400_000_000_000, "h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000,
    "ms": 1_000_000, "us": 1_000, "µs": 1_000, "μs": 1_000, "ns": 1,
}  # fmt: skip
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|us|µs|μs|ns|w|d|h|m|s)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKmMgGtTpP])?[iI]?[bB]?")
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_LONGEST = 64
_GREATEST = 2**63 - 1


def parse_duration(text: str) -> int | None:
    """Parse ``1m30s``, ``1.5h``, ``100ms`` into nanoseconds; None if `text` is no duration. A bare ``0`` is one."""
    if len(text) > _LONGEST:
        return None
    body = text.lstrip("+-") if text[:1] in ("+", "-") else text
    if body == "0":
        return 0
    total = 0
    position = 0
    while position < len(body):
        found = _PART.match(body, position)
        if found is None:
            return None
        number, unit = found[1], _UNITS[found[2]]
        whole, _, fraction = number.partition(".")
        total += int(whole or "0") * unit
        if fraction:
            total += int(fraction) * unit // 10 ** len(fraction)
        position = found.end()
    if not body or total > _GREATEST:
        return None
    return -total if text[0] == "-" else total


def render_duration(nanoseconds: int) -> str:
    """Render nanoseconds as ``1m30s``, ``2m0s``, ``1.5s``, ``100ms``, ``0s``."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    for unit in ("ns", "µs", "ms"):
        size = _UNITS[unit]
        if rest < size * 1000:
            return f"{sign}{_decimal(rest, size)}{unit}"
    hours, rest = divmod(rest, _UNITS["h"])
    minutes, rest = divmod(rest, _UNITS["m"])
    seconds = f"{_decimal(rest, _UNITS['s'])}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


def _decimal(amount: int, unit: int) -> str:
    whole, rest = divmod(amount, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).rjust(len(str(unit)) - 1, '0').rstrip('0')}"


def parse_seconds(text: str | None) -> float | None:
    """Parse a canonical duration into seconds; None stays None."""
    if text is None:
        return None
    nanoseconds = parse_duration(text)
    return None if nanoseconds is None else nanoseconds / 1e9


def parse_size(text: str) -> int | None:
    """Parse ``64m``, ``1.5GiB``, ``1024`` or ``-1`` into bytes (multiples of 1024); None if `text` is no size.

    What was written as a number below zero is printed as text, and has to be read again.
    """
    if text[:1] == "-" and text[1:].isascii() and text[1:].isdigit() and len(text) <= _LONGEST:
        return max(int(text), -_GREATEST - 1)
    if len(text) > _LONGEST:
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    power = _POWERS[found[2].lower()] if found[2] else 0
    whole, _, fraction = found[1].partition(".")
    total = int(whole) * 1024**power
    if fraction:
        total += int(fraction) * 1024**power // 10 ** len(fraction)
    return total if total <= _GREATEST else None
